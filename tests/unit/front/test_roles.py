# SPDX-License-Identifier: Apache-2.0
"""Entry points of roles, run from Python: results, errors, and an end on demand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.utils.roles import FaultlineError, Listener, Roles

XID = {"xid_inject_run_id": "run-1", "xid_inject_xid": 79}


def event(kind: str, result: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"task": "Do it", "res": result or {}} | data}


def test_an_entry_point_gives_back_the_facts_that_it_sets() -> None:
    found = asyncio.run(Roles().role("xid_inject", "preflight", **XID))
    assert found["xid_inject_profile"]["nvsentinel"]["fatal"] is True


def test_a_role_that_refuses_raises_its_own_sentence() -> None:
    with pytest.raises(FaultlineError, match=r"^XID 94 .* is not fatal for NVSentinel"):
        asyncio.run(Roles().role("xid_inject", "preflight", **XID | {"xid_inject_xid": 94}))


def children() -> list[str]:
    """Command lines of this process's descendants."""
    found, waiting = [], [os.getpid()]
    while waiting:
        pid = waiting.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in task.read_text().split():
                waiting.append(int(child))
                found.append(Path(f"/proc/{child}/cmdline").read_text().replace("\0", " "))
    return found


def test_a_caller_that_is_cancelled_leaves_no_play_behind() -> None:
    async def cancelled() -> None:
        async with asyncio.timeout(1.5):
            await Roles("/nowhere/config").role(
                "nvsentinel_wait", "released", nvsentinel_wait_node="n"
            )

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    assert [c for c in children() if "ansible-playbook" in c] == []


def test_results_are_kept_by_the_modules_short_name_the_last_one_of_several() -> None:
    listener = Listener()
    for number in (1, 2):
        listener(event("runner_on_ok", {"n": number}, task_action="faultline.gpu.dgd"))
    listener(event("runner_on_ok", {"ansible_facts": {"fact": "f"}}, task_action="set_fact"))
    assert listener.results["dgd"] == {"n": 2}
    assert listener.results["fact"] == "f"
    assert listener.failures == []


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"msg": "There is no node n."}, "There is no node n."),
        ({"stderr": "no such file"}, "no such file"),
        ({"msg": "hf_abc", "_ansible_no_log": True}, "output is secret"),
        ({}, "failed without a word"),
    ],
)
def test_what_went_wrong_is_kept_in_words_without_secrets(
    result: dict[str, Any], said: str
) -> None:
    listener = Listener()
    listener(event("runner_on_failed", result))
    assert listener.failures == [said]


def test_a_failure_that_is_expected_is_none() -> None:
    listener = Listener()
    listener(event("runner_on_failed", {"msg": "no"}, ignore_errors=True))
    assert listener.failures == []
