# SPDX-License-Identifier: Apache-2.0
"""Runs a worker that may crash or hang at any item, and goes on behind the item it died at."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

START_S = 40.0
ITEM_S = 6.0


def lines(
    process: subprocess.Popen[bytes], wait_s: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """JSON lines of a process as they come; ends at its end, raises TimeoutError when none came
    within `wait_s()` seconds."""
    assert process.stdout
    buffer, handle = b"", process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, wait_s())):
                raise TimeoutError
            data = os.read(handle, 65536)
            if not data:
                return
            *whole, buffer = (buffer + data).split(b"\n")
            for line in whole:
                if line.startswith(b"{"):  # else the driver or a library has written something
                    yield json.loads(line)


def end(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and its children if it still runs; returns its status, −n for a signal."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
    status = process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    return status


class Series:
    """Results of a list of items, gathered by as many workers as it takes."""

    def __init__(self, start: Callable[[Sequence[str]], subprocess.Popen[bytes]]) -> None:
        """`start` begins a worker (leader of a process group) for the items it is given."""
        self.start = start
        self.results: dict[str, dict[str, Any]] = {}
        self.ready: Any = None
        self.starts = 0
        self.error: str | None = None
        self.current: str | None = None
        self.deadline = 0.0

    def run(
        self, items: Sequence[str], until: float, item_s: float = ITEM_S, start_s: float = START_S
    ) -> dict[str, dict[str, Any]]:
        """Run until every item has a result or `until` (time.monotonic) has come.

        An item at which a worker died has the outcome `crash` (with `signal`) or `hang`; one that
        was not reached has none. A worker that dies twice before its first item ends the series.
        """
        left, dead_starts = list(items), 0
        while left and time.monotonic() < until and dead_starts < 2:
            before = len(self.results)
            self._once(left, until, item_s, start_s)
            dead_starts = dead_starts + 1 if len(self.results) == before else 0
            left = [item for item in left if item not in self.results]
        return self.results

    def _once(self, items: list[str], until: float, item_s: float, start_s: float) -> None:
        """One worker, until it has ended or must be ended; results are added."""
        process, before = self.start(items), len(self.results)
        self.starts += 1
        self.current, self.deadline = None, time.monotonic() + start_s
        outcome = "crash"
        try:
            for line in lines(process, lambda: min(self.deadline, until) - time.monotonic()):
                self.deadline = time.monotonic() + item_s
                self._take(line)
                if "end" in line:
                    outcome = ""
                    break
        except TimeoutError:
            outcome = "hang"
        status = end(process)
        if self.current is not None and (outcome == "crash" or time.monotonic() < until):
            self.results[self.current] = {"outcome": outcome, "signal": max(0, -status)}
        elif len(self.results) == before:
            self.error = f"the worker ended with {status} before its first item"

    def _take(self, line: dict[str, Any]) -> None:
        if "ready" in line:
            self.ready = self.ready or line["ready"]
        elif "begin" in line:
            self.current = line["begin"]
        elif "result" in line:
            self.results[line.pop("result")], self.current = line, None
