# SPDX-License-Identifier: Apache-2.0
"""The golden table: what every driver function does after a genuine fault, and after ours.

Usage: golden FILE [SECONDS]. Writes FILE after each of its phases.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import arming, diff, results
from .arguments import batches, not_called
from .faults import FAULTS
from .signatures import classes, digest
from .watch import Series, end

TOGETHER = 6  # processes at a time on one GPU
HEALTHY_SHARDS = 4


class Golden:
    """Runs the phases and keeps the table."""

    def __init__(self, folder: Path, until: float, worker: Sequence[str] | None = None) -> None:
        """`until` is on time.monotonic; `worker` another command to start, in tests."""
        self.folder, self.until = folder, until
        self.worker = worker or [sys.executable, "-m", "faultline_gpu.golden_worker"]
        self.number, self.complaints = itertools.count(), folder / "stderr"
        names = list(classes())
        self.table: dict[str, Any] = {
            "symbols": digest(),
            "classes": classes(),
            "not_called": {name: why for name in names if (why := not_called(name))},
            "healthy": {"results": {}},
            "faults": {
                kind: {"code": fault.code, "xid": fault.xid}
                | {how: {"results": {}} for how in ("genuine", "injected")}
                for kind, fault in FAULTS.items()
            },
        }

    def _start(
        self, how: str, fault: str | None
    ) -> Callable[[Sequence[str]], subprocess.Popen[bytes]]:
        def start(names: Sequence[str]) -> subprocess.Popen[bytes]:
            page = self.folder / f"page-{next(self.number)}"
            environment = arming.preloaded(page) if how == "injected" else arming.plain()
            environment["TMPDIR"] = str(self.folder)
            with self.complaints.open("ab") as complaints:
                process = subprocess.Popen(
                    self.worker,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=environment,
                    start_new_session=True,
                )
            order = {"names": list(names), "how": how, "fault": fault, "page": str(page)}
            assert process.stdin
            try:
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                end(process)
            return process

        return start

    def _series(
        self, how: str, fault: str | None, lists: list[list[str]], until: float
    ) -> list[Callable[[], None]]:
        """One task for each list of names; each adds to the table."""
        side = self.table["faults"][fault][how] if fault else self.table["healthy"]
        side |= {"first": None, "starts": 0, "errors": []}

        def task(names: list[str]) -> None:
            series = Series(self._start(how, fault))
            side["results"] |= series.run(names, until)
            side["starts"] += series.starts
            side["first"] = side["first"] or series.ready
            if series.error:
                side["errors"].append(series.error)

        return [lambda names=names: task(names) for names in lists]  # type: ignore[misc]

    def healthy(self, share: float) -> None:
        """Call everything in healthy processes."""
        big, *alone = batches(list(self.table["classes"]))
        shards = [big[i::HEALTHY_SHARDS] for i in range(HEALTHY_SHARDS)]
        self._run(self._series("healthy", None, [*shards, *alone], self._until(share)))

    def faulty(self, how: str, share: float) -> None:
        """Call everything after each fault; what crashes even a healthy process after one only."""
        until, tasks = self._until(share), []
        healthy = self.table["healthy"]["results"]
        fragile = [n for n, r in healthy.items() if r["outcome"] in ("crash", "hang")]
        lists = batches([name for name in self.table["classes"] if name not in fragile])
        for number, fault in enumerate(FAULTS):
            more = [[name] for name in fragile] if not number else []
            tasks += self._series(how, fault, [*lists, *more], until)
        self._run(tasks)

    def _until(self, share: float) -> float:
        now = time.monotonic()
        return now + (self.until - now) * share

    @staticmethod
    def _run(tasks: Sequence[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(lambda task: task(), tasks))

    def runtime(self) -> None:
        """What the runtime library makes of the same faults."""
        table = self.table["runtime"] = {}
        for how, (kind, fault) in itertools.product(("genuine", "injected"), FAULTS.items()):
            page = self.folder / f"page-runtime-{how}-{kind}"
            environment = arming.preloaded(page) if how == "injected" else arming.plain()
            command = [sys.executable, "-m", "faultline_gpu.runtime_worker", how, kind, str(page)]
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=20,
                )
                said = json.loads(done.stdout or "null") or {"error": done.stderr[-500:]}
            except (subprocess.TimeoutExpired, ValueError) as error:
                said = {"error": str(error)[:500]}
            table.setdefault(kind, {"code": fault.code})[how] = said


def main() -> None:
    """Run all phases."""
    path, seconds = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 170.0
    with tempfile.TemporaryDirectory(prefix="faultline-golden-") as folder:
        golden = Golden(Path(folder), time.monotonic() + seconds)
        phases: list[Callable[[], None]] = [
            golden.runtime,
            lambda: golden.healthy(0.3),
            lambda: golden.faulty("genuine", 0.5),
            lambda: golden.faulty("injected", 1.0),
        ]
        for phase in phases:
            phase()
            if golden.complaints.exists():
                golden.table["stderr"] = golden.complaints.read_text(errors="replace")[-4000:]
            results.write(path, golden.table)
    found = diff.differences(golden.table, [])
    print(f"{len(diff.rows(golden.table))} rows, {len(found)} differ before they are explained")


if __name__ == "__main__":
    main()
