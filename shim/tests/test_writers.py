# SPDX-License-Identifier: Apache-2.0
"""Calls while the control page is being written, and when its writer has died over it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import GPUS, PROGRAMS, TREE, Lab, Session

WRITER = """
import signal, sys, time
from dataclasses import replace
from pathlib import Path
from faultline_service.page import Page
page = Page(Path(sys.argv[1]))
(first,) = page.entries()
other = replace(first, fault_id="other", gpu_uuid=sys.argv[2], serial=0)
stop, longest = [], 0.0
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
print("writing", flush=True)
while not stop:
    begun = time.monotonic()
    page.edit(lambda there: [*(e for e in there if e.fault_id != "other"), other])
    longest = max(longest, time.monotonic() - begun)
print(longest)
"""
# Seconds after which a reader takes a writer for dead, see page.c.
PATIENCE = 0.1


def while_written(one: Session, lab: Lab) -> tuple[set[int], float]:
    """Codes of calls while another fault is written, and the seconds of the longest writing."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(lab.page_path), GPUS[1][0]],
        env=os.environ | {"PYTHONPATH": str(TREE / "service")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout
        assert writer.stdout.readline() == "writing\n"
        before = lab.page.generation
        codes = {code for _ in range(20) for code in one("allocs 5000")}
        while lab.page.generation == before:
            codes |= set(one("allocs 5000"))
        writer.terminate()
        return codes, float(writer.communicate(timeout=60)[0])
    finally:
        writer.kill()
        writer.communicate()


def test_no_call_passes_because_another_fault_is_being_written(
    lab: Lab, session: Callable[..., Session]
) -> None:
    one = session()
    for _ in range(20):
        lab.arm(mode="transient")
        codes, longest = while_written(one, lab)
        # A writer that the machine has kept from its work for so long is taken for dead.
        if codes == {719} or longest < PATIENCE:
            break
    assert codes == {719}


def test_a_writer_that_died_delays_one_call_and_not_the_next_ones(
    lab: Lab, session: Callable[..., Session]
) -> None:
    one = session()
    lab.arm(mode="transient")
    lab.page._put("sequence", 7)
    first, *others = (one("timed") for _ in range(20))
    assert {code for code, _ in (first, *others)} == {0}
    assert first[1] > 10 * min(took for _, took in others)
    lab.page.write(lab.page.entries())
    assert one("timed")[0] == 719, "the next writer puts it right"


def test_a_pipe_in_the_place_of_the_page_stops_nobody(lab: Lab, compiled: Callable) -> None:
    lab.page_path.unlink()
    os.mkfifo(lab.page_path)
    program = compiled("session", PROGRAMS / "session.c", "-pthread", "-ldl")
    process = lab.start(program)
    try:
        assert process.communicate("sync\n", timeout=60)[0] == "[0,0,0,0]\n0\n"
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("changes", "orders"),
    [({"mode": "once"}, ["sync"]), ({"mode": "transient", "after_calls": 1}, ["sync", "sync"])],
    ids=["once", "after some calls"],
)
def test_the_child_of_a_fork_counts_for_itself(
    every_lab: Lab, every_session: Callable[..., Session], changes: dict, orders: list[str]
) -> None:
    one, alone = every_session(), every_session()
    every_lab.arm(**changes)
    in_a_child_that_is_the_first = alone("fork")
    assert [one(order) for order in orders].count(719) == 1
    assert one("fork") == in_a_child_that_is_the_first
