# SPDX-License-Identifier: Apache-2.0
"""Gates of single phases: NVSentinel is on guard, nobody touched the pods, healthy nodes alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _node_predicates as predicates
from ansible_collections.faultline.gpu.plugins.modules.gpu_fault import disturbed

Obj = dict[str, Any]
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
NODE = {
    "metadata": {"name": "n1"},
    "spec": {},
    "status": READY | {"nodeInfo": {"bootID": "boot-1"}},
}
HOST = {"status": {"detector": {"armed": True, "bootID": "boot-1"}}}


def pod(name: str, **more: Any) -> Obj:
    labels = {"app.kubernetes.io/name": more.pop("label", "other")}
    meta = {"name": name, "uid": name, "labels": labels}
    return {"metadata": meta, "spec": {"nodeName": "n1"}, "status": READY | more}


GUARDS = [pod("m", label="syslog-health-monitor"), pod("c", label="nvsentinel")]
NOT_READY = {"conditions": [{"type": "Ready", "status": "False"}]}


def test_a_node_is_watched_when_monitor_and_connector_run_and_the_place_is_taken() -> None:
    assert predicates.node_watched(NODE, HOST, GUARDS, None)[0]
    closed = {"data": {"status": "CLOSED"}}
    assert predicates.node_watched(NODE, HOST, GUARDS, closed)[0]


@pytest.mark.parametrize(
    ("host", "pods", "breaker", "words"),
    [
        (HOST, GUARDS[1:], None, "monitor does not run there"),
        (HOST, GUARDS[:1], None, "connector does not run there"),
        (HOST, [pod("m", label="syslog-health-monitor", **NOT_READY), GUARDS[1]], None, "monitor"),
        (None, GUARDS, None, "not taken its place"),
        ({"status": {"detector": {"armed": False, "bootID": "boot-1"}}}, GUARDS, None, "place"),
        ({"status": {"detector": {"armed": True, "bootID": "boot-0"}}}, GUARDS, None, "place"),
        (HOST, GUARDS, {"data": {"status": "TRIPPED"}}, "circuit breaker is TRIPPED"),
    ],
)
def test_a_node_that_nobody_guards_is_named_with_what_is_missing(
    host: Obj | None, pods: list[Obj], breaker: Obj | None, words: str
) -> None:
    good, seen = predicates.node_watched(NODE, host, pods, breaker)
    assert not good
    assert words in seen


def test_a_node_in_the_hands_of_an_earlier_fault_is_not_watched() -> None:
    cordoned = copy.deepcopy(NODE) | {"spec": {"unschedulable": True}}
    assert predicates.node_watched(cordoned, HOST, GUARDS, None) == (False, "n1: cordoned")


def test_pods_count_as_on_healthy_nodes_only_while_every_node_is_in_service() -> None:
    assert predicates.on_healthy_nodes([pod("a")], [NODE])[0]
    cordoned = copy.deepcopy(NODE) | {"spec": {"unschedulable": True}}
    assert predicates.on_healthy_nodes([pod("a")], [cordoned]) == (False, "n1: cordoned")
    assert not predicates.on_healthy_nodes([pod("a")], [])[0]
    assert not predicates.on_healthy_nodes([], [NODE])[0]


def leaving(why: str | None) -> Obj:
    gone = pod("a")
    gone["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    if why:
        gone["status"] = {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return gone


@pytest.mark.parametrize(
    ("now", "hurt"),
    [
        ([pod("a")], []),
        ([pod("a"), pod("new")], []),
        ([pod("a", containerStatuses=[{"restartCount": 1}])], ["a"]),
        ([], ["a"]),
        ([leaving(None)], ["a"]),
        ([leaving("evicted")], []),
    ],
)
def test_a_pod_that_was_restarted_or_replaced_is_noticed_an_evicted_one_is_not(
    now: list[Obj], hurt: list[str]
) -> None:
    assert disturbed([pod("a")], now) == hurt


@pytest.mark.parametrize(
    ("labels", "scheduled", "empty"),
    [
        # Released again, and the pod came afterwards: it was not there to be drained.
        ({predicates.UNCORDONED: "2026-11-24T08-02-12Z"}, "2026-11-24T08:02:12Z", True),
        ({predicates.UNCORDONED: "2026-11-24T08-02-12Z"}, "2026-11-24T08:02:11Z", False),
        # Of an earlier release nothing follows while the node is held.
        (
            {
                predicates.UNCORDONED: "2026-11-24T08-02-12Z",
                predicates.STATE_LABEL: "drain-succeeded",
            },
            "2026-11-24T09:00:00Z",
            False,
        ),
        ({}, "2026-11-24T09:00:00Z", False),
    ],
)
def test_a_pod_that_came_after_the_node_was_released_was_not_left_behind(
    labels: dict[str, str], scheduled: str, empty: bool
) -> None:
    node = copy.deepcopy(NODE)
    node["metadata"]["labels"] = labels
    late = pod("a", conditions=[{"type": "PodScheduled", "lastTransitionTime": scheduled}])
    assert predicates.node_drained(node, [late])[0] is empty
