# SPDX-License-Identifier: Apache-2.0
"""Times operations of PyTorch on demand: reads `OPERATION SIZE CHUNKS`, prints microseconds."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from .results import median

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
        for _ in range(2):  # so few that the call takes longer than the GPU
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


def chunks(operation: Operation, wait: Operation, size: int, number: int) -> list[float]:
    """Microseconds of one operation in each of `number` chunks of `size`; a chunk ends when the GPU
    has done it. The first two of a turn are not counted: the GPU may have worked for another."""
    found = []
    for _ in range(number + 2):
        begun = time.perf_counter_ns()
        for _ in range(size):
            operation()
        wait()
        found.append((time.perf_counter_ns() - begun) / size / 1000)
    return found[2:]


def main() -> None:
    """Obey until stdin ends. The thread that times stays on one core, the driver's do not."""
    import torch

    table = operations(torch)
    os.sched_setaffinity(0, [int(os.environ["FAULTLINE_CORE"])])
    gc.disable()
    print("ready", flush=True)
    for line in sys.stdin:
        name, size, number = line.split()
        times = chunks(table[name], torch.cuda.synchronize, int(size), int(number))
        print(median(times), flush=True)


if __name__ == "__main__":
    main()
