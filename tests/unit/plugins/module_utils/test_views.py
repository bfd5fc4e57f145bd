# SPDX-License-Identifier: Apache-2.0
"""What a timeline keeps of each object."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sentinel_recordings as recorded
from ansible_collections.faultline.gpu.plugins.module_utils import _node_predicates as predicates
from ansible_collections.faultline.gpu.plugins.module_utils import _views as views
from graph_recordings import Recording

Object = dict[str, Any]
STORIES = [recorded.S1, recorded.S3D_CORDON_BEFORE_CONDITION, recorded.S7_CORDONED_BY_A_HUMAN]


@pytest.mark.parametrize("story", STORIES)
def test_the_view_of_a_node_has_every_step_of_nvsentinel(story: recorded.Story) -> None:
    seen = [views.node(node) for _seconds, node, _pods in recorded.moments(story)]
    steps = zip(story[1:], seen, seen[1:], strict=False)
    same = [moment for moment, before, after in steps if before == after]
    assert [change for _seconds, change in same if change.keys() - {"pods"}] == []
    assert len(same) < len(story) - 1


@pytest.mark.parametrize("story", STORIES)
def test_the_view_and_the_predicate_agree_on_who_holds_the_node(story: recorded.Story) -> None:
    for seconds, node, _pods in recorded.moments(story):
        held = bool(predicates.quarantined_events(node))
        assert views.node(node)["quarantined"] is held, seconds


def test_a_nodes_view_names_condition_readiness_and_boot() -> None:
    node = recorded.node_of({"xid": recorded.message(79, "gold-1"), "cordon": True, "state": "x"})
    node["status"]["nodeInfo"] = {"bootID": "b1"}
    view = views.node(node)
    assert view["unschedulable"] is True
    assert view["sentinel_state"] == "x"
    assert view["xid_condition"] == "True"
    assert "run=gold-1" in view["xid_message"]
    assert (view["ready"], view["boot_id"]) == ("True", "b1")


def test_a_pods_view_tells_a_crash_and_its_end_as_recorded() -> None:
    # Only the killed worker is in the rows: the pod that begins with its name.
    killed = Recording("exp-05-kill137-migration0")
    found = []
    for _seconds, _graph, pods in killed.moments():
        found += [views.pod(p) for p in pods]
    told = [(v["ready"], v["restarts"], v["last_exit_codes"]) for v in found]
    assert told[-1] == (True, 1, [137])
    assert (False, 0, []) in told
    assert {v["worker_hash"] for v in found} == {"b5804dbe"}


def test_a_pods_view_tells_an_eviction() -> None:
    pod = {
        "metadata": {
            "name": "w1",
            "uid": "u1",
            "deletionTimestamp": "2026-11-24T08:03:12Z",
            "labels": {"nvidia.com/dynamo-component": "decode"},
        },
        "spec": {"nodeName": "gpu-node-1"},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"},
            ],
            "containerStatuses": [
                {"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
            ],
        },
    }
    view = views.pod(pod)
    assert view["disruption"] == "EvictionByEvictionAPI"
    assert (view["deleting"], view["ready"], view["node"]) == (True, True, "gpu-node-1")
    assert view["waiting"] == ["CrashLoopBackOff"]
    assert view["component"] == "decode"
    assert view["worker_hash"] is None


def test_a_graphs_view_has_both_generations() -> None:
    shim = Recording("exp-02-shim-add-remove-ssa-v1beta1")
    graphs = {seconds: graph for seconds, graph, _pods in shim.moments()}
    stale = views.dgd(graphs[0.093] or {})
    assert (stale["generation"], stale["observed_generation"], stale["ready"]) == (2, 1, True)
    rolling = views.dgd(graphs[11.565] or {})
    assert (rolling["ready"], rolling["reason"]) == (False, "rolling_update_in_progress")


FAULT: Object = {
    "metadata": {"name": "f"},
    "spec": {"node": "gpu-node-1", "xid": 79},
    "status": {
        "phase": "Active",
        "kernelLog": {"line": "NVRM: Xid", "writtenAt": "t", "journal": {"seen": True}},
        "cuda": {"armed": True},
    },
}


def test_a_faults_view_has_its_evidence_and_a_new_one_has_none() -> None:
    assert views.gpu_fault(FAULT) == {
        "node": "gpu-node-1",
        "xid": 79,
        "phase": "Active",
        "line": "NVRM: Xid",
        "written_at": "t",
        "journal_seen": True,
        "armed": True,
        "deleting": False,
    }
    new = views.gpu_fault({"metadata": {}, "spec": FAULT["spec"]})
    assert (new["phase"], new["line"], new["journal_seen"], new["armed"]) == (
        None,
        None,
        False,
        False,
    )


def test_a_maintenance_request_shows_its_conditions_in_one_order() -> None:
    rows = [{"type": "SignalSent", "status": "True"}, {"type": "NodeReady", "status": "Unknown"}]
    one, other = (
        views.maintenance({"metadata": {}, "spec": {"nodeName": "n"}, "status": {"conditions": c}})
        for c in (rows, rows[::-1])
    )
    assert json.dumps(one) == json.dumps(other)
    assert one == {"node": "n", "conditions": {"NodeReady": "Unknown", "SignalSent": "True"}}


@pytest.mark.parametrize(
    "source",
    [
        {"source": {"component": "nvsentinel-node-drainer"}},
        {"source": {}, "reportingComponent": "nvsentinel-node-drainer"},
        {"reportingComponent": "nvsentinel-node-drainer"},
    ],
)
def test_an_events_view_says_about_whom_and_from_whom_it_is(source: Object) -> None:
    event = {
        "metadata": {},
        "type": "NodeDraining",
        "reason": "AwaitingPodCompletion",
        "message": "Waiting for following pods to finish: [drill/w1]",
        "count": 2,
        "involvedObject": {"kind": "Node", "name": "gpu-node-2"},
    }
    view = views.event(event | source)
    assert view["about"] == "Node/gpu-node-2"
    assert view["source"] == "nvsentinel-node-drainer"
    assert (view["type"], view["count"]) == ("NodeDraining", 2)


@pytest.mark.parametrize("kind", sorted(views.VIEWS))
def test_every_view_bears_an_object_that_has_only_just_been_made_and_fits_a_line(
    kind: str,
) -> None:
    view = views.VIEWS[kind]({"metadata": {"name": "new"}})
    assert json.loads(json.dumps(view)) == view
