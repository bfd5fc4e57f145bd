# SPDX-License-Identifier: Apache-2.0
"""The module dgd ends a wait that has no sense any more."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.modules import dgd
from fake_api import Api, Run
from graph_recordings import BROKEN, GRAPH_LABEL, HASH_LABEL
from graph_stage import DEFINITION, KIND, copied, operate, stored

Object = dict[str, Any]
LONG = {"timeout": 20}
SETTLED = {"namespace": "drill", "name": "mock", "state": "settled"}
NODE: Object = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "gpu-node-1"},
    "spec": {},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


def spoil(api: Api, **status: Any) -> None:
    """Let a worker be not Ready, for a reason."""
    pod = api.one("Pod", "w1", "drill")
    pod["status"] = {"phase": "Pending"} | status
    api.put(pod)


def cannot_pull() -> Object:
    waiting = {"reason": "ImagePullBackOff", "message": "localhost/no:1: not found"}
    return {"containerStatuses": [{"name": "main", "state": {"waiting": waiting}}]}


def no_place() -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"conditions": [condition | {"message": "0/3 nodes are available"}]}


def test_a_pod_that_cannot_become_ready_ends_the_wait_and_is_named(deployed: Api, run: Run) -> None:
    spoil(deployed, **cannot_pull())
    result = run(dgd, **SETTLED, **LONG)
    assert result["failed"] is True
    said = "container main of pod w1: ImagePullBackOff: localhost/no:1: not found"
    assert result["msg"] == f"Waiting cannot help: {said}."
    assert result["trouble"] == {
        "pod": "w1",
        "container": "main",
        "reason": "ImagePullBackOff",
        "message": "localhost/no:1: not found",
        "hopeless": True,
    }


def test_who_does_not_want_to_fail_fast_waits_to_the_end(deployed: Api, run: Run) -> None:
    spoil(deployed, **cannot_pull())
    result = run(dgd, **SETTLED, timeout=0.2, fail_fast=False)
    assert "Not seen within" in result["msg"]
    assert "w1: ImagePullBackOff" in result["msg"]


@pytest.mark.parametrize("spec", [{"unschedulable": True}, {}])
def test_a_pod_on_a_node_that_is_out_of_service_is_waited_for(
    deployed: Api, run: Run, spec: Object
) -> None:
    """As in a drill: the fault makes a worker crash until the drainer takes it away."""
    deployed.put(NODE | {"spec": spec})
    spoil(deployed, **cannot_pull())
    result = run(dgd, **SETTLED, timeout=0.2)
    assert ("Not seen within" in result["msg"]) is bool(spec)


def test_a_pod_that_is_being_evicted_is_waited_for(deployed: Api, run: Run) -> None:
    spoil(deployed, **cannot_pull())
    pod = deployed.one("Pod", "w1", "drill")
    pod["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    deployed.put(pod)
    assert "still ending: w1" in run(dgd, **SETTLED, timeout=0.2)["msg"]


@pytest.mark.parametrize("state", ["present", "restarted"])
def test_pods_of_before_a_change_are_not_held_against_it(api: Api, run: Run, state: str) -> None:
    """What is broken is what the change is to replace."""
    operate(api)
    run(dgd, namespace="drill", definition=DEFINITION)
    put = api.put

    def slow(obj: Object) -> Object:
        made = put(obj)
        if obj["kind"] == KIND:
            spoil(api, **cannot_pull())
        return made

    api.put = slow  # type: ignore[method-assign]
    definition = copied(DEFINITION)
    definition["spec"]["components"][0]["replicas"] = 1
    definition["spec"]["components"][1]["runtimeVersionOverride"] = "1.6.2"
    given: Object = {"definition": definition} if state == "present" else {"name": "mock"}
    given |= {"namespace": "drill", "state": state, "restart_id": "r1", "timeout": 0.2}
    assert "Not seen within" in run(dgd, **given)["msg"]
    # The second time nothing is changed: what is broken now stays broken.
    assert "Waiting cannot help" in run(dgd, **given)["msg"]


def test_a_pod_without_a_place_ends_the_wait_when_its_time_is_up_though_nothing_happens(
    deployed: Api, run: Run
) -> None:
    spoil(deployed, **no_place())
    assert "Not seen within" in run(dgd, **SETTLED, timeout=0.3)["msg"]
    begun = time.monotonic()
    result = run(dgd, **SETTLED, **LONG, trouble_grace=0.3)
    assert 0.3 <= time.monotonic() - begun < LONG["timeout"] / 2
    said = "pod w1 cannot be scheduled: 0/3 nodes are available"
    assert result["msg"] == f"Waiting cannot help: {said}."


def test_time_without_a_place_does_not_count_while_a_pod_is_ending(deployed: Api, run: Run) -> None:
    spoil(deployed, **no_place())
    pod = deployed.one("Pod", "w2", "drill")
    pod["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    deployed.put(pod)
    result = run(dgd, **SETTLED, timeout=0.4, trouble_grace=0.1)
    assert "Not seen within" in result["msg"]


def test_a_graph_that_has_failed_ends_the_wait(deployed: Api, run: Run) -> None:
    graph = stored(deployed)
    failed = {"type": "Ready", "status": "False", "reason": "bad", "message": "no such thing"}
    graph["status"] |= {"state": "failed", "conditions": [failed]}
    deployed.put(graph)
    assert "Not seen within" in run(dgd, **SETTLED, timeout=0.2)["msg"]
    found = run(dgd, **SETTLED, **LONG, trouble_grace=0.2)
    assert found["msg"] == "DGD mock has failed (bad): no such thing."


def test_the_recorded_rollout_with_a_broken_init_container_ends_the_wait(
    api: Api, run: Run
) -> None:
    _seconds, graph, pods = BROKEN.at(32.012)
    assert graph is not None
    graph["metadata"]["namespace"] = "drill"
    api.put({"apiVersion": "nvidia.com/v1beta1", "kind": KIND} | graph)
    for pod in pods:
        pod["metadata"] |= {"namespace": "drill", "uid": pod["metadata"]["name"]}
        assert {GRAPH_LABEL, HASH_LABEL} & pod["metadata"]["labels"].keys()
        api.put({"apiVersion": "v1", "kind": "Pod"} | pod)
    result = run(dgd, **SETTLED, **LONG)
    assert result["trouble"]["container"] == "shim-init"
    assert result["trouble"]["reason"] == "CrashLoopBackOff"
    assert "2 restarts, ended with Error 1" in result["msg"]
