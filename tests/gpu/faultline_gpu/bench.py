# SPDX-License-Identifier: Apache-2.0
"""Times operations of PyTorch on demand: reads `OPERATION COUNT`, prints microseconds."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Operation = Callable[[], Any]


def operations(torch: Any) -> dict[str, Operation]:
    """What is timed, by name."""
    x, host = torch.zeros(16, device="cuda"), torch.zeros(16, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x.add_(1)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(20):
            x.add_(1)
    current = torch.cuda.current_stream()

    def launch_sync() -> None:
        x.add_(1)
        torch.cuda.synchronize()

    def allocate() -> None:
        block = torch.empty(1 << 20, device="cuda")
        del block
        torch.cuda.empty_cache()

    return {
        "launch": lambda: x.add_(1),
        "launch_sync": launch_sync,
        "copy_to_host": lambda: host.cpu(),
        "allocate_free": allocate,
        "graph_replay": graph.replay,
        "stream_query": current.query,
    }


def main() -> None:
    """Obey until stdin ends."""
    cores = [int(core) for core in os.environ["FAULTLINE_CORES"].split(",")]
    import torch

    table = operations(torch)
    os.sched_setaffinity(0, cores)
    gc.disable()
    print("ready", flush=True)
    for line in sys.stdin:
        name, count = line.split()
        run, repeats = table[name], range(int(count))
        for _ in range(len(repeats) // 5 + 1):
            run()
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in repeats:
            run()
        torch.cuda.synchronize()
        print((time.perf_counter() - begun) / len(repeats) * 1e6, flush=True)


if __name__ == "__main__":
    main()
