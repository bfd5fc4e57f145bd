# SPDX-License-Identifier: Apache-2.0
"""Cost of the idle shim: the same operations in processes with and without it, turn by turn.

Usage: times FILE [SECONDS]. A generation is four processes that work one after the other in short
turns: without a preload, without one again (how much two equal processes differ), with the idle
shim, and with a shim of the kind that came before. Two processes may differ for good, by where
their code and data came to lie; so there are many generations, several alive at a time.
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
# Operations in a chunk of one to three milliseconds, and chunks in a turn. What is kept of
# a turn is the median of its chunks: an interrupt spoils a chunk, not the turn.
CHUNKS = {
    "launch": 200,
    "launch_sync": 80,
    "copy_to_host": 120,
    "allocate_free": 15,
    "graph_replay": 100,
    "stream_query": 2000,
}
TURN = 7
WAVES, GENERATIONS = 3, 4
START_S = 20.0  # a wave needs about so long until all its processes are ready


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

    def time(self, operation: str) -> float:
        """Microseconds of one operation, in one turn."""
        assert self.process.stdin
        self.process.stdin.write(f"{operation} {CHUNKS[operation]} {TURN}\n")
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
    core = sorted(os.sched_getaffinity(0))[-1]
    plain = arming.plain() | {"FAULTLINE_CORE": str(core)}
    preload = {"LD_PRELOAD": str(old), "PREDECESSOR_TOGGLE": str(toggle)}
    return {
        "absent": plain,
        "absent_again": plain,
        "predecessor": plain | preload,
        "inert": plain | arming.preloaded(folder / "page"),
    }


def wave(
    environment: dict[str, dict[str, str]], until: float
) -> list[list[dict[str, dict[str, float]]]]:
    """Rounds of several generations until the time is over: each operation to variant to
    microseconds. The processes start together and take turns."""
    found: list[list[dict[str, dict[str, float]]]] = [[] for _ in range(GENERATIONS)]
    running = [{v: Bench(environment[v]) for v in VARIANTS} for _ in found]
    everyone = [bench for each in running for bench in each.values()]
    try:
        for bench in everyone:
            bench.read()
        for number in itertools.count():
            order = [*VARIANTS[number % 4 :], *VARIANTS[: number % 4]]
            for rounds, benches in zip(found, running, strict=True):
                if time.monotonic() > until:
                    return found
                rounds.append({op: {v: benches[v].time(op) for v in order} for op in CHUNKS})
    finally:
        for bench in everyone:
            bench.process.kill()
            bench.process.communicate()
    return found


def summary(generations: list[list[dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Per operation: median microseconds by variant, and by variant the ratio to `absent`: median
    of the rounds' ratios, with the limits between which nine of ten such medians lie when
    generations and rounds are drawn anew."""
    chance, found = random.Random(1), {}
    for operation in CHUNKS:
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
        for number in range(WAVES):
            left = until - time.monotonic()
            if left < START_S:
                break
            generations += wave(environment, time.monotonic() + left / (WAVES - number))
            found = summary(generations)
            table = {
                "summary": found,
                "chunks": CHUNKS,
                "turn": TURN,
                "core": environment["absent"]["FAULTLINE_CORE"],
                "generations": generations,
            }
            results.write(path, table)
            launch.show({op: row["ratio"] for op, row in found.items()})


if __name__ == "__main__":
    main()
