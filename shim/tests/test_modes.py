# SPDX-License-Identifier: Apache-2.0
"""How a fault hits: its mode, and what restricts it to certain calls and times."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GPUS, MIG, Lab, Session

MILLISECOND = 1_000_000
FUTEX = {"x86_64": "202 ", "aarch64": "98 "}[platform.machine()]


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def sleeping(pid: int) -> set[int]:
    """Threads of a process that sleep on a futex."""
    waits = Path(f"/proc/{pid}/task").glob("*/syscall")
    return {int(w.parent.name) for w in waits if w.read_text().startswith(FUTEX)}


def shortest(one: Session, times: int) -> int:
    """Nanoseconds of the shortest of some calls: the machine may keep a process from its work."""
    return min(one("timed")[1] for _ in range(times))


def test_a_fault_that_happens_once_fails_one_call_of_each_process(
    every_lab: Lab, every_session: Callable
) -> None:
    one, other = every_session(), every_session()
    every_lab.arm(mode="once")
    assert [one("sync") for _ in range(3)] == [719, 0, 0]
    assert [other("sync") for _ in range(3)] == [719, 0, 0]
    assert one.state()["latched_code"] == 0
    every_lab.arm(mode="once")
    assert [one("sync") for _ in range(2)] == [719, 0], "armed anew it happens anew"


def test_a_transient_fault_heals_when_it_is_disarmed(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    every_lab.arm(mode="transient")
    assert [one("sync") for _ in range(3)] == [719, 719, 719]
    every_lab.page.write([])
    assert one("sync") == 0
    assert one.state()["hits"] == 3


def test_a_slow_gpu_delays_every_call_and_fails_none(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    assert shortest(one, 10) < 20 * MILLISECOND
    every_lab.arm(mode="slow", delay_us=50_000)
    for _ in range(3):
        code, took = one("timed")
        assert (code, took >= 50 * MILLISECOND) == (0, True)
    seen = one.state()
    assert (seen["delayed"], seen["hits"], seen["latched_code"]) == (3, 0, 0)


def test_a_short_delay_is_kept_to_the_microsecond(lab: Lab, session: Callable) -> None:
    one = session()
    lab.arm(mode="slow", delay_us=200)
    assert 200_000 <= shortest(one, 50) < 400_000


def test_a_hanging_call_blocks_until_the_fault_is_disarmed_then_fails(
    every_lab: Lab, every_session: Callable
) -> None:
    def once() -> float:
        """Seconds from the end of the fault to that of the call."""
        one = every_session()
        every_lab.arm(mode="hang", code=999)
        one.send("timed")
        until(lambda: one.process.pid in sleeping(one.process.pid))
        time.sleep(0.3)
        begun = time.monotonic()
        every_lab.page.write([])
        code, took = one.read()
        ended = time.monotonic()
        assert (code, took > 250 * MILLISECOND) == (999, True)
        assert one("sync") == 999, "its context is lost"
        return ended - begun

    # It sleeps for a second at a time, and three tenths of the first are over. A machine may be
    # slow once; a call that is not woken is late each time.
    assert any(once() < 0.5 for _ in range(5)), "it was woken and did not time out"


def test_a_hundred_threads_hang_together_and_are_let_go_together(
    lab: Lab, session: Callable
) -> None:
    one = session()
    lab.arm(mode="hang", code=0)
    one.send("threads 100")
    pid = one.process.pid
    # The first thread only waits for the others.
    until(lambda: len(sleeping(pid) - {pid}) == 100)
    lab.page.write([])
    assert one.read() == [0] * 100, "a hang without a code lets the call pass in the end"
    seen = one.state()
    assert (seen["hung"], seen["blocked"], seen["hits"]) == (100, 0, 100)


def test_a_hang_ends_at_its_deadline_with_nobody_to_end_it(lab: Lab, session: Callable) -> None:
    one = session()
    lab.arm(mode="hang", code=999, not_after=boottime() + 1_500 * MILLISECOND)
    code, took = one("timed")
    assert (code, took < 5_000 * MILLISECOND) == (999, True)


def test_a_hang_with_a_length_blocks_no_longer_than_that(lab: Lab, session: Callable) -> None:
    one = session()
    lab.arm(mode="hang", code=999, delay_us=100_000)
    code, took = one("timed")
    assert (code, took >= 100 * MILLISECOND) == (999, True)
    assert shortest(one, 10) < 50 * MILLISECOND, "after that the driver has given the GPU up"


def test_teardown_passes_while_calls_hang_so_that_a_process_can_end(
    lab: Lab, session: Callable
) -> None:
    one = session()
    assert one("alloc")[0] == 0
    lab.arm(mode="hang")
    assert one("free") == 0
    assert one.end() == 0


def test_new_processes_hang_in_cuInit_when_the_fault_shows_so_early(
    lab: Lab, session: Callable
) -> None:
    lab.arm(mode="hang", code_new=999, delay_us=200_000, at_init=True)
    begun = time.monotonic()
    one = session(1)
    assert time.monotonic() - begun > 0.2
    assert one.codes[0] == 0, "another GPU of the process is well, so cuInit succeeds"


@pytest.mark.parametrize(("at_init", "codes"), [(True, 999), (False, 0)])
def test_cuInit_fails_when_every_gpu_has_a_fault_that_shows_so_early(
    lab: Lab, session: Callable, at_init: bool, codes: int
) -> None:
    lab.arm(at_init=at_init)
    assert session(CUDA_VISIBLE_DEVICES=GPUS[0][0]).codes[0] == codes
    assert session(CUDA_VISIBLE_DEVICES=",".join(u for u, _ in GPUS)).codes[0] == 0


def test_cuInit_counts_as_hit_once_and_only_when_it_fails(lab: Lab, session: Callable) -> None:
    lab.arm(at_init=True)
    assert session(1).state()["hits"] == 0, "a GPU of this process is well"
    seen = session(0, CUDA_VISIBLE_DEVICES=f"{GPUS[0][0]},{MIG}").state()
    assert seen["hits_by_class"] == {"I": 2}, "cuInit, and the context that it asked for"
    assert (seen["first_function"], seen["fault_id"]) == ("cuInit", "test-fault")


def test_a_process_with_a_context_may_retain_it_again_one_without_may_not(
    lab: Lab, session: Callable
) -> None:
    one = session()
    lab.arm()
    assert one("retain") == 0
    assert session().codes[2] == 999


def test_the_first_calls_pass_when_the_fault_comes_after_some(
    every_lab: Lab, every_session: Callable
) -> None:
    one, other = every_session(), every_session()
    every_lab.arm(after_calls=5)
    assert one("allocs 8") == [0] * 5 + [719] * 3
    assert other("allocs 6") == [0] * 5 + [719], "each process counts for itself"


def test_counting_starts_anew_with_each_fault(lab: Lab, session: Callable) -> None:
    one = session()
    lab.arm(after_calls=2, mode="transient")
    assert one("allocs 3") == [0, 0, 719]
    lab.arm(after_calls=2, mode="transient")
    assert one("allocs 3") == [0, 0, 719]


def test_rewriting_the_page_for_another_fault_does_not_start_this_one_anew(
    lab: Lab, session: Callable
) -> None:
    one = session()
    lab.arm(after_calls=3, mode="transient")
    assert one("allocs 2") == [0, 0]
    lab.page.write([*lab.page.entries(), lab.entry(1, fault_id="other")])
    assert one("allocs 2") == [0, 719]


def test_a_seed_chooses_the_same_calls_in_every_run(
    every_lab: Lab, every_session: Callable
) -> None:
    one, other, third = every_session(), every_session(), every_session()
    every_lab.arm(probability=0.25, seed=7, mode="transient")
    chosen = one("allocs 200")
    assert other("allocs 200") == chosen
    assert 20 < chosen.count(719) < 80
    every_lab.arm(probability=0.25, seed=8, mode="transient")
    assert third("allocs 200") != chosen


def test_a_fault_begins_at_its_time_and_not_before(lab: Lab, session: Callable) -> None:
    one = session()
    begins = boottime() + 2_000 * MILLISECOND
    lab.arm(not_before=begins)
    assert one("sync") == 0
    until(lambda: boottime() > begins)
    assert one("sync") == 719


@pytest.mark.parametrize(
    ("classes", "codes"),
    [("S", (719, 0, 0, 0)), ("Q", (0, 719, 0, 0)), ("T", (0, 0, 719, 0)), ("N", (0, 0, 0, 15))],
)
def test_only_the_chosen_classes_of_calls_are_hit(
    lab: Lab, session: Callable, classes: str, codes: tuple[int, ...]
) -> None:
    one = session()
    one("alloc"), one("handle")
    lab.arm(classes=classes, mode="transient")
    assert (one("alloc")[0], one("sync"), one("free"), one("memory")) == codes
    assert one.state()["hits_by_class"] == {classes: 1}


def test_a_copy_that_waits_counts_as_a_wait(lab: Lab, session: Callable) -> None:
    one = session()
    one("alloc")
    lab.arm(classes="Q", mode="transient")
    assert (one("copy"), one("alloc")[0]) == (719, 0)
    lab.arm(classes="S", mode="transient")
    assert (one("copy"), one("alloc")[0]) == (0, 719)


def test_a_genuine_fault_that_the_driver_refuses_is_noted_once_and_fails_nothing(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    every_lab.arm(mode="genuine", xid=43)
    assert one("allocs 3") == [0, 0, 0]
    assert one.state()["genuine_refused"] == 0, "the page does not allow it"
    every_lab.page.allow_genuine(True)
    assert one("allocs 3") == [0, 0, 0]
    (entry,) = every_lab.page.entries()
    seen = one.state()
    assert (seen["genuine_refused"], seen["genuine_serial"]) == (801, entry.serial)
    assert (seen["genuine_launched"], seen["hits"], seen["latched_code"]) == (0, 0, 0)


def test_a_lost_gpu_has_no_nvml_handle_one_that_needs_a_reset_has(
    lab: Lab, session: Callable
) -> None:
    one = session()
    assert one("handle") == 0
    lab.arm(code_nvml=15)
    assert (one("handle"), one("memory")) == (15, 15)
    lab.arm(code_nvml=16)
    assert (one("handle"), one("memory")) == (0, 16)


def test_several_faults_of_one_gpu_act_together(lab: Lab, session: Callable) -> None:
    one = session()
    slow = lab.entry(fault_id="slow", mode="slow", delay_us=60_000)
    fails = lab.entry(fault_id="fails", mode="transient", after_calls=1)
    lab.page.write([slow, fails])
    (first, slept), (second, slept_too) = one("timed"), one("timed")
    assert (first, second) == (0, 719)
    assert min(slept, slept_too) >= 60 * MILLISECOND
    lab.page.write([e for e in lab.page.entries() if e.fault_id == "slow"])
    code, took = one("timed")
    assert (code, took >= 60 * MILLISECOND) == (0, True)


def test_the_page_holds_sixteen_faults_and_the_last_of_them_counts(
    lab: Lab, session: Callable
) -> None:
    one = session()
    others = [lab.entry(1, fault_id=f"f{i}") for i in range(15)]
    lab.page.write([*others, lab.entry(0, code=214, fault_id="last")])
    assert one("sync") == 214
    assert one.state()["fault_id"] == "last"


def test_a_call_that_hung_gets_the_code_with_which_its_context_was_lost_meanwhile(
    lab: Lab, session: Callable
) -> None:
    one = session()
    loses = lab.entry(fault_id="loses", code=214, after_calls=1)
    hangs = lab.entry(fault_id="hangs", mode="hang", code=999, delay_us=2_000_000)
    lab.page.write([loses, hangs])
    assert one("threads 2") == [214, 214]
    assert (one("sync"), one.state()["latched_code"]) == (214, 214)
