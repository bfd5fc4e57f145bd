# SPDX-License-Identifier: Apache-2.0
"""Entry points of roles, run from Python: results, errors, and an end on demand."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._driver import marked

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


def test_a_caller_that_is_cancelled_leaves_no_play_and_no_module_behind(tmp_path: Path) -> None:
    # A module that hangs: the address is a listener that never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = tmp_path / "config"
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config.write_text(
            "{apiVersion: v1, kind: Config, current-context: c,"
            f" clusters: [{{name: c, cluster: {{server: '{server}'}}}}],"
            " contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}"
        )

        async def cancelled() -> None:
            play = Roles(str(config)).role("nvsentinel_wait", "released", nvsentinel_wait_node="n")
            task = asyncio.create_task(play)
            # Once the module has connected it is under way.
            await asyncio.to_thread(silent.accept)
            assert len(marked(f"KUBECONFIG={config}", ())) > 1
            task.cancel()
            await task

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())
    assert marked(f"KUBECONFIG={config}", ()) == []


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
