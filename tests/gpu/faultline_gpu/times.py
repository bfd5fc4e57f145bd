# SPDX-License-Identifier: Apache-2.0
"""Cost of the idle shim: the same operations in processes with and without it, turn by turn.

Usage: times FILE [SECONDS]. Four processes live at the same time and work one after the other in
short blocks: without a preload, without one again (how much two equal processes differ), with the
idle shim, and with a shim of the kind that came before. Several generations of processes, because
two processes may differ for good.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import arming, launch, results
from .signatures import TREE

VARIANTS = ("absent", "absent_again", "inert", "predecessor")
BLOCKS = {
    "launch": 3000,
    "launch_sync": 1500,
    "copy_to_host": 1500,
    "allocate_free": 150,
    "graph_replay": 1000,
    "stream_query": 20000,
}
GENERATIONS, ROUNDS = 5, 16


class Bench:
    """One process that times on demand."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faultline_gpu.bench"],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def read(self) -> str:
        """Its next line. Raises RuntimeError when it has ended."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"bench ended with {self.process.wait()}")
        return line.strip()

    def time(self, operation: str, count: int) -> float:
        """Microseconds of one operation."""
        assert self.process.stdin
        self.process.stdin.write(f"{operation} {count}\n")
        self.process.stdin.flush()
        return round(float(self.read()), 4)


def environments(folder: Path) -> dict[str, dict[str, str]]:
    """Environment of each variant; builds the predecessor's likeness."""
    old = folder / "predecessor.so"
    source = TREE / "tests/gpu/src/predecessor.c"
    subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", "-o", str(old), str(source), "-ldl"], check=True
    )
    toggle = folder / "toggle"
    toggle.write_text("0\n")
    cores = sorted(os.sched_getaffinity(0))[-3:-1] or sorted(os.sched_getaffinity(0))
    plain = arming.plain() | {"FAULTLINE_CORES": ",".join(map(str, cores))}
    preload = {"LD_PRELOAD": str(old), "PREDECESSOR_TOGGLE": str(toggle)}
    return {
        "absent": plain,
        "absent_again": plain,
        "predecessor": plain | preload,
        "inert": plain | arming.preloaded(folder / "page"),
    }


def generation(
    environment: dict[str, dict[str, str]], rounds: int, until: float
) -> list[dict[str, dict[str, float]]]:
    """Rounds of one set of processes: operation to variant to microseconds."""
    found: list[dict[str, dict[str, float]]] = []
    running = {variant: Bench(environment[variant]) for variant in VARIANTS}
    try:
        for bench in running.values():
            bench.read()
        for number in range(rounds):
            order = [*VARIANTS[number % 4 :], *VARIANTS[: number % 4]]
            times = {
                op: {v: running[v].time(op, count) for v in order} for op, count in BLOCKS.items()
            }
            found.append(times)
            if time.monotonic() > until:
                break
    finally:
        for bench in running.values():
            bench.process.kill()
            bench.process.communicate()
    return found


def summary(generations: list[list[dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Per operation: median microseconds by variant, and by variant the ratio to `absent`: median
    of the rounds' ratios, with the limits between which nine of ten such medians lie when
    generations and rounds are drawn anew."""
    chance, found = random.Random(1), {}
    for operation in BLOCKS:
        rounds = [[one[operation] for one in each] for each in generations]
        flat = list(itertools.chain.from_iterable(rounds))
        if not flat:
            continue
        entry: dict[str, Any] = {
            "us": {v: round(results.median([one[v] for one in flat]), 3) for v in VARIANTS},
            "rounds": len(flat),
            "ratio": {},
        }
        for variant in VARIANTS[1:]:
            ratios = [[one[variant] / one["absent"] for one in each] for each in rounds if each]
            drawn = []
            for _ in range(1000):
                picked = [chance.choice(ratios) for _ in ratios]
                drawn.append(
                    results.median(
                        [r for each in picked for r in chance.choices(each, k=len(each))]
                    )
                )
            middle = results.median(list(itertools.chain.from_iterable(ratios)))
            limits = (results.quantile(drawn, 0.05), results.quantile(drawn, 0.95))
            entry["ratio"][variant] = [round(value, 4) for value in (middle, *limits)]
        found[operation] = entry
    return found


def main() -> None:
    """Measure as many generations as time allows, and write the file after each."""
    path, seconds = launch.arguments()
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="faultline-times-") as name:
        environment = environments(Path(name))
        generations: list[list[dict[str, dict[str, float]]]] = []
        while len(generations) < GENERATIONS and time.monotonic() < until - 15:
            generations.append(generation(environment, ROUNDS, until))
            found = summary(generations)
            table = {
                "summary": found,
                "blocks": BLOCKS,
                "cores": environment["absent"]["FAULTLINE_CORES"],
                "generations": generations,
            }
            results.write(path, table)
            launch.show({op: row["ratio"] for op, row in found.items()})


if __name__ == "__main__":
    main()
