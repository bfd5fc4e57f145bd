# SPDX-License-Identifier: Apache-2.0
"""Starts workloads as processes, several at a time, each in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import watch

# Processes at a time: a start is mostly one core reading libraries.
TOGETHER = max(2, min(8, (os.cpu_count() or 1) // 2))


class Process:
    """One workload in a process group of its own; its lines, its end, its complaints."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.complaints = folder / "stderr"
        caches = {
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            "TRITON_CACHE_DIR": str(folder / "triton"),
            "TMPDIR": str(folder),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "OMP_NUM_THREADS": "2",
        }
        with self.complaints.open("wb") as complaints:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "faultline_gpu.workloads", *arguments],
                env={**environment, **caches},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
            )
        self.deadline = 0.0
        self.lines = watch.lines(self.process, lambda: self.deadline - time.monotonic())

    def read(self, seconds: float) -> dict[str, Any]:
        """The next line; `{}` at its end, `{"timeout": seconds}` when none came in time."""
        self.deadline = time.monotonic() + seconds
        try:
            return next(self.lines, {})
        except TimeoutError:
            return {"timeout": seconds}

    def tell(self, order: str) -> None:
        """Write an order to its stdin; nothing happens when it has ended."""
        try:
            assert self.process.stdin
            self.process.stdin.write(order.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def end(self, seconds: float = 15) -> dict[str, Any]:
        """Wait for its end, then kill what is left; `status` and the end of its stderr."""
        ended = True
        try:
            if self.process.stdin:
                self.process.stdin.close()
                self.process.stdin = None
            self.process.wait(seconds)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            ended = False
        status = watch.end(self.process)
        with contextlib.suppress(ProcessLookupError):  # children, as the other ranks of a job
            os.killpg(self.process.pid, signal.SIGKILL)
        said = (
            self.complaints.read_text(errors="replace")[-2500:] if self.complaints.exists() else ""
        )
        return {"status": status, "ended_by_itself": ended, "stderr": said if status else ""}


def once(folder: Path, environment: Mapping[str, str], name: str, seconds: float) -> dict[str, Any]:
    """Run a workload's `once`: everything it said, its exit status, how long it took."""
    begun = time.monotonic()
    process = Process(folder, environment, name, "once")
    said: dict[str, Any] = {}
    while line := process.read(max(0.1, begun + seconds - time.monotonic())):
        said |= line
        if "timeout" in line:
            break
    return said | process.end() | {"seconds": round(time.monotonic() - begun, 1)}


def together(
    tasks: Mapping[Any, Callable[[], Any]],
    done: Callable[[Any, Any], None],
    at_a_time: int = TOGETHER,
) -> None:
    """Run tasks in threads; `done(key, result)` is called for one at a time as they end."""
    lock = threading.Lock()

    def run(key: Any) -> None:
        try:
            result = tasks[key]()
        except Exception as error:  # one lost measurement must not lose the rest
            result = {"error": f"{type(error).__name__}: {error}"}
        with lock:
            done(key, result)

    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(run, tasks))


def arguments() -> tuple[Path, float]:
    """FILE and SECONDS of the command line."""
    seconds: Sequence[str] = sys.argv[2:3]
    return Path(sys.argv[1]), float(seconds[0]) if seconds else 100.0


def show(value: Any) -> None:
    """One line for whoever looks on."""
    print(json.dumps(value)[:400], flush=True)
