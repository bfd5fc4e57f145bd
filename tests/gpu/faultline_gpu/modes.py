# SPDX-License-Identifier: Apache-2.0
"""Modes, targets and deadlines of a fault, in processes that use the GPU's real driver.

Usage: modes FILE [SECONDS]. Each row says what was expected and what was seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from faultline_service import shimstate

from . import arming, launch, results, watch
from .driver import Driver

CODE, NEW, LOST = 719, 46, 15  # of live contexts, of new ones, of NVML
ANSWER_S = 20.0
SLOW_US, SPIN_MS, DEADLINE_S = 20_000, 1200, 0.5
Seen = dict[str, Any]


class Worker:
    """A process that does what it is told."""

    def __init__(self, page: Path, ordinal: int = 0, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faultline_gpu.modes_worker", str(ordinal)],
            env=arming.preloaded(page) | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.lines = watch.lines(self.process, lambda: ANSWER_S)
        self.started = self.read().get("start")

    def read(self) -> Seen:
        """Its next answer, `{}` when it has ended."""
        return next(self.lines, {})

    def tell(self, order: str) -> None:
        """Give an order and do not wait for the answer."""
        assert self.process.stdin
        self.process.stdin.write(order.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, order: str) -> Seen:
        """Give an order; the answer."""
        self.tell(order)
        return self.read()

    def code(self, order: str = "wait") -> Any:
        """Give an order; the code of the answer."""
        return self.do(order).get("code")

    def blocked(self) -> int:
        """Calls of it that a fault holds up now, by the shim's own account."""
        where = shimstate.address(Path(f"/proc/{self.process.pid}"))
        memory = os.open(f"/proc/{self.process.pid}/mem", os.O_RDONLY)
        try:
            raw = shimstate.read(memory, where or 0)
        finally:
            os.close(memory)
        return int(shimstate.facts(raw)["blocked"]) if raw else 0


class Bench:
    """One page, the GPU that is faulted, and processes that use it."""

    def __init__(self, page: Path, uuid: str, stack: ExitStack) -> None:
        self.path, self.page, self.uuid, self.stack = page, arming.Page(page), uuid, stack

    def worker(self, ordinal: int = 0, **environment: str) -> Worker:
        """Start a process; it ends with the scenario."""
        worker = Worker(self.path, ordinal, **environment)
        self.stack.callback(watch.end, worker.process)
        return worker

    def arm(self, **changes: Any) -> None:
        """Make one fault the only armed one."""
        self.page.write([arming.entry(self.uuid, CODE, **changes)])

    def disarm(self) -> None:
        """End it."""
        self.page.write([])


def transient(bench: Bench) -> tuple[Any, Any]:
    """Calls fail while a transient fault is armed, and work again after it."""
    one = bench.worker()
    bench.arm(mode="transient")
    seen = one.do("count 3")["code"]
    bench.disarm()
    return ([CODE] * 3, 0), (seen, one.code("work"))


def once(bench: Bench) -> tuple[Any, Any]:
    """One call of each process fails."""
    workers = [bench.worker(), bench.worker()]
    bench.arm(mode="once")
    return [[CODE, 0, 0]] * 2, [worker.do("count 3")["code"] for worker in workers]


def sticky(bench: Bench) -> tuple[Any, Any]:
    """A process that was hit stays failed after the fault, a new one works."""
    one = bench.worker()
    bench.arm()
    during = one.code("work")
    bench.disarm()
    return (CODE, CODE, 0), (during, one.code("work"), bench.worker().code("work"))


def slow(bench: Bench) -> tuple[Any, Any]:
    """Each call takes longer by the delay, and does what it always does."""
    one = bench.worker()
    before = one.do("wait")["us"]
    bench.arm(mode="slow", delay_us=SLOW_US)
    answers = [one.do("wait") for _ in range(3)]
    late = [answer["us"] >= SLOW_US > before for answer in answers]
    return ([0] * 3, [True] * 3, 0), ([a["code"] for a in answers], late, one.code("work"))


def hang(bench: Bench) -> tuple[Any, Any]:
    """A call blocks until the fault is ended, then fails."""
    one = bench.worker()
    bench.arm(mode="hang")
    one.tell("wait")
    until = time.monotonic() + ANSWER_S
    while not (blocked := one.blocked()) and time.monotonic() < until:
        time.sleep(0.002)
    bench.disarm()
    return (1, CODE, CODE), (blocked, one.read().get("code"), one.code())


def deadline(bench: Bench) -> tuple[Any, Any]:
    """A call that hangs is let go at the fault's deadline, with nobody there to end it."""
    one = bench.worker()
    end = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + round(DEADLINE_S * 1e9)
    bench.arm(mode="hang", not_after=end)
    code = one.code()
    late_s = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - end) / 1e9
    return (CODE, True, 0), (code, 0 <= late_s < DEADLINE_S, bench.worker().code("work"))


def waiting(bench: Bench) -> tuple[Any, Any]:
    """A wait that had begun before the fault ends when the GPU is done, with the fault's code."""
    one = bench.worker()
    one.tell(f"spin {SPIN_MS}")
    first = one.read()
    if "waiting" not in first:
        return "a kernel that runs", first
    bench.arm()
    answer = one.read()
    return (CODE, True), (answer.get("code"), answer.get("us", 0) >= SPIN_MS * 900)


def process(bench: Bench) -> tuple[Any, Any]:
    """Of two processes the one that is named fails."""
    one, other = bench.worker(), bench.worker()
    bench.arm(pid=one.process.pid, pid_namespace=os.stat("/proc/self/ns/pid").st_ino)
    return (CODE, 0), (one.code("work"), other.code("work"))


def rank(bench: Bench) -> tuple[Any, Any]:
    """Of two ranks the one that is named fails."""
    ranks = [bench.worker(RANK=str(number)) for number in range(2)]
    bench.arm(rank=1)
    return [0, CODE], [worker.code("work") for worker in ranks]


def pod(bench: Bench) -> tuple[Any, Any]:
    """Of two pods on the same GPU the one that is named fails."""
    uids = [f"{number}" * 8 + "-0000-4000-8000-000000000000" for number in (1, 2)]
    pods = [bench.worker(POD_UID=uid) for uid in uids]
    bench.arm(pod_uid=uids[0])
    return [CODE, 0], [worker.code("work") for worker in pods]


def other_gpu(bench: Bench) -> tuple[Any, Any]:
    """A process on another GPU of the same node works."""
    one, other = bench.worker(), bench.worker(1)
    bench.arm()
    return (CODE, 0), (one.code("work"), other.code("work"))


def new_contexts(bench: Bench) -> tuple[Any, Any]:
    """Processes without a context get none, one that has one works on."""
    old = bench.worker()
    bench.arm(code_live=0, code_new=NEW, classes="I")
    return (NEW, 0), (bench.worker().started, old.code("work"))


def nvml(bench: Bench) -> tuple[Any, Any]:
    """NVML says its own code while the fault is armed, and nothing else fails."""
    one = bench.worker()
    before = one.code("nvml")
    bench.arm(code_live=0, code_nvml=LOST, classes="N")
    during = one.code("nvml")
    work = one.code("work")
    bench.disarm()
    return (0, LOST, 0, 0), (before, during, work, one.code("nvml"))


def chance(bench: Bench) -> tuple[Any, Any]:
    """A probability hits the same calls in every process, about as many as it says."""
    workers = [bench.worker(), bench.worker()]
    bench.arm(mode="transient", probability=0.25, seed=7)
    codes = [worker.do("count 400")["code"] for worker in workers]
    return (True, True), (codes[0] == codes[1], 60 <= codes[0].count(CODE) <= 140)


def after(bench: Bench) -> tuple[Any, Any]:
    """The first calls pass."""
    one = bench.worker()
    bench.arm(after_calls=3)
    return [0, 0, 0, CODE, CODE], one.do("count 5")["code"]


SCENARIOS: tuple[Callable[[Bench], tuple[Any, Any]], ...] = (
    sticky,
    once,
    transient,
    slow,
    hang,
    deadline,
    waiting,
    after,
    chance,
    process,
    rank,
    pod,
    other_gpu,
    new_contexts,
    nvml,
)


def row(scenario: Callable[[Bench], tuple[Any, Any]], page: Path, uuid: str) -> dict[str, Any]:
    """Run one scenario: what it is about, what was expected, what was seen."""
    found: dict[str, Any] = {"what": (scenario.__doc__ or "").strip()}
    try:
        with ExitStack() as stack:
            expected, seen = scenario(Bench(page, uuid, stack))
    except (OSError, KeyError, TimeoutError) as error:
        return found | {"error": f"{type(error).__name__}: {error}", "held": False}
    return found | {"expected": expected, "seen": seen, "held": expected == seen}


def main() -> None:
    """Run all of them; write the file after each."""
    path, seconds = launch.arguments()
    until = time.monotonic() + seconds
    driver = Driver.ready()
    uuid, table = driver.uuid(), dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="faultline-modes-") as name:
        for scenario in SCENARIOS:
            if scenario is other_gpu and driver.count() < 2:
                continue
            if time.monotonic() > until:
                break
            title = scenario.__name__
            table[title] = row(scenario, Path(name) / title, uuid)
            results.write(path, {"gpu": uuid, "rows": table})
            launch.show([title, table[title]["held"], table[title].get("error")])


if __name__ == "__main__":
    main()
