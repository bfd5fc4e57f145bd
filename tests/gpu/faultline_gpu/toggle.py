# SPDX-License-Identifier: Apache-2.0
"""Toggle latency: from the writer's stores into the page to the first call that fails.

Usage: toggle FILE [SECONDS]. A reader polls a cheap driver call without a pause. `upper` counts
from before the writer began to write, `lower` from after it had returned; its last store, which
arms the page, lies between the two. One process gives the samples of a fault that heals. A sticky
one is for good, so each of its samples needs a process of its own; those start many at a time, and
are then faulted one by one, while none starts and no other polls.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from . import arming, launch, results
from .counts import SOURCES
from .driver import Driver
from .faults import FAULTS

SAMPLES = 1000
TOGETHER = 24  # readers of a sticky fault that live at a time
CODE = FAULTS["trap"].code


class Reader:
    """A process that polls."""

    def __init__(self, program: Path, page: Path) -> None:
        self.page = arming.Page(page)
        self.process = subprocess.Popen(
            [str(program)],
            env=arming.preloaded(page),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def expect(self, word: str) -> list[str]:
        """Its next line. Raises RuntimeError when that does not begin with `word`."""
        assert self.process.stdout
        line = self.process.stdout.readline().split()
        if not line or line[0] != word:
            raise RuntimeError(f"the reader said {line}, expected {word}")
        return line

    def tell(self) -> None:
        """Make it go on."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def sample(self, entry: arming.Entry) -> tuple[float, float]:
        """Arm while it polls, and wait for the failure: microseconds, upper and lower."""
        self.tell()
        self.expect("polling")
        before = time.monotonic_ns()
        self.page.write([entry])
        after = time.monotonic_ns()
        at = int(self.expect(str(CODE))[1])
        return (at - before) / 1000, (at - after) / 1000

    def heal(self) -> None:
        """Disarm, and wait until its calls work again."""
        self.page.write([])
        self.tell()
        self.expect("ready")

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def healing(program: Path, page: Path, uuid: str, until: float) -> list[tuple[float, float]]:
    """Samples of a transient fault, all in one process."""
    reader, samples = Reader(program, page), list[tuple[float, float]]()
    try:
        reader.expect("ready")
        while len(samples) < SAMPLES and time.monotonic() < until:
            samples.append(reader.sample(arming.entry(uuid, CODE, mode="transient")))
            reader.heal()
    finally:
        reader.end()
    return samples


def sticky(program: Path, folder: Path, uuid: str, number: int) -> list[tuple[float, float]]:
    """Samples of a sticky fault, each in a new process with a page of its own."""
    folder.mkdir(exist_ok=True)
    readers = [Reader(program, folder / f"page-{n}") for n in range(number)]
    try:
        for reader in readers:
            reader.expect("ready")
        return [reader.sample(arming.entry(uuid, CODE)) for reader in readers]
    finally:
        for reader in readers:
            reader.end()


def summary(samples: list[tuple[float, float]]) -> dict[str, Any]:
    """Number of samples, and quantiles in microseconds."""
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    found: dict[str, Any] = {"samples": len(samples)}
    for index, side in enumerate(("upper_us", "lower_us")):
        values = [sample[index] for sample in samples]
        found[side] = (
            {name: round(results.quantile(values, share), 2) for name, share in shares.items()}
            if values
            else {}
        )
    return found


def main() -> None:
    """Take the samples; write the file after each kind."""
    path, seconds = launch.arguments()
    until = time.monotonic() + seconds
    driver = Driver.ready()
    uuid, table = driver.uuid(), dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="faultline-toggle-") as name:
        program = Path(name) / "toggle"
        source = SOURCES / "toggle.c"
        subprocess.run(["gcc", "-O2", "-o", str(program), str(source), "-ldl"], check=True)
        healed = healing(program, Path(name) / "page", uuid, until)
        table["transient"] = summary(healed) | {"raw": [round(u, 1) for u, _ in healed]}
        results.write(path, table)
        samples: list[tuple[float, float]] = []
        longest = 0.0
        while len(samples) < SAMPLES and (begun := time.monotonic()) + 1.5 * longest < until:
            samples += sticky(program, Path(name) / str(len(samples)), uuid, TOGETHER)
            table["sticky"] = summary(samples) | {"raw": [round(u, 1) for u, _ in samples]}
            results.write(path, table)
            longest = max(longest, time.monotonic() - begun)
    launch.show({kind: {k: v for k, v in row.items() if k != "raw"} for kind, row in table.items()})


if __name__ == "__main__":
    main()
