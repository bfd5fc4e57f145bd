# SPDX-License-Identifier: Apache-2.0
"""When a graph is Ready and settled, and what is said of one that is not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _graph_predicates as predicates
from ansible_collections.faultline.gpu.plugins.module_utils._objects import (
    HASH_ANNOTATION,
    HASH_LABEL,
)
from ansible_collections.faultline.gpu.plugins.module_utils._shim_predicates import SHIM_VOLUME

Object = dict[str, Any]


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def graph(**status: Any) -> Object:
    """A graph of one frontend and two workers that is Ready at generation 2."""
    ready = {
        "state": "successful",
        "observedGeneration": 2,
        "conditions": [condition("Ready", "True", "all_resources_are_ready")],
    }
    return {
        "metadata": {
            "name": "agg",
            "generation": 2,
            "annotations": {HASH_ANNOTATION: "aaaaaaaa"},
        },
        "spec": {
            "components": [
                {"name": "Frontend", "type": "frontend"},
                {"name": "decode", "type": "decode", "replicas": 2},
            ]
        },
        "status": ready | status,
    }


def pod(name: str, hash_: str | None = "aaaaaaaa", up: str = "True", shim: bool = False) -> Object:
    labels = {HASH_LABEL: hash_} if hash_ else {}
    volumes = [{"name": "model"}, *([{"name": SHIM_VOLUME}] if shim else [])]
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels},
        "spec": {"nodeName": "gpu-node-1", "volumes": volumes},
        "status": {"phase": "Running", "conditions": [condition("Ready", up)]},
    }


def ending(found: Object) -> Object:
    found["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    return found


FRONT = pod("front", None)
TWO = [FRONT, pod("w1"), pod("w2")]


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"observedGeneration": None}, False),
        ({"state": "pending"}, False),
        ({"conditions": [condition("Ready", "False")]}, False),
        ({"conditions": []}, False),
    ],
)
def test_a_graph_is_ready_only_when_all_three_signs_agree(changes: Object, good: bool) -> None:
    assert predicates.graph_ready(graph(**changes))[0] is good


@pytest.mark.parametrize(
    ("pods", "shim", "seen"),
    [
        (TWO, None, None),
        (TWO, False, None),
        (TWO, True, "0 workers have the shim"),
        ([FRONT, pod("w1", shim=True), pod("w2", shim=True)], True, None),
        ([FRONT, pod("w1", shim=True), pod("w2", shim=True)], False, "2 workers have the shim"),
        ([FRONT, pod("w1", shim=True), pod("w2")], True, "1 workers have the shim"),
        ([FRONT, pod("w1", shim=True), pod("w2")], False, "1 workers have the shim"),
        ([FRONT, pod("w1")], None, "1 of 2 workers"),
        ([FRONT, pod("w1"), pod("w2", up="False")], None, "1 of 2 workers"),
        ([*TWO, pod("w3", up="False")], None, "2 of 2 workers"),
        ([*TWO, pod("w3")], None, "3 of 2 workers"),
        ([FRONT, pod("w1"), pod("w2", "bbbbbbbb")], None, "another generation.*: w2"),
        ([FRONT, pod("w1"), ending(pod("w2"))], None, "still ending: w2"),
        ([*TWO, ending(pod("old", None))], None, "still ending: old"),
        ([*TWO, pod("old", None)], None, "2 pods that are no workers, 1 wanted"),
        (TWO[1:], None, "0 pods that are no workers, 1 wanted"),
        ([FRONT], None, "0 of 2 workers"),
        ([], None, "0 pods that are no workers"),
    ],
)
def test_a_ready_graph_is_settled_only_with_exactly_its_own_pods(
    pods: list[Object], shim: bool | None, seen: str | None
) -> None:
    settled, said = predicates.graph_settled(graph(), pods, shim)
    assert settled is (seen is None), said
    assert seen is None or re.search(seen, said), said


def test_a_graph_without_replicas_asks_for_one_worker_and_zero_are_never_settled() -> None:
    found = graph()
    del found["spec"]["components"][1]["replicas"]
    assert predicates.graph_settled(found, [FRONT, pod("w1")])[0]
    found["spec"]["components"][1]["replicas"] = 0
    assert not predicates.graph_settled(found, [FRONT])[0]


def unschedulable() -> Object:
    found = pod("w1", up="False")
    found["status"]["conditions"] = [
        condition(
            "PodScheduled", "False", "Unschedulable", "0/3 nodes: Insufficient nvidia.com/gpu"
        )
    ]
    return found


@pytest.mark.parametrize("state", ["pending", "successful"])
def test_a_graph_that_is_not_settled_says_which_pod_has_trouble(state: str) -> None:
    said = predicates.graph_settled(graph(state=state), [FRONT, pod("w2"), unschedulable()])[1]
    assert "pod w1 cannot be scheduled" in said


@pytest.mark.parametrize(
    ("restart", "good", "seen"),
    [
        (None, False, "restart r1 has not begun"),
        ({"observedID": "r0", "phase": "Completed"}, False, "restart r1 has not begun"),
        (
            {"observedID": "r1", "phase": "Restarting", "inProgress": ["decode"]},
            False,
            "restart r1 Restarting (decode)",
        ),
        ({"observedID": "r1", "phase": "Completed"}, True, "restart r1 Completed"),
    ],
)
def test_a_restart_has_ended_when_the_operator_says_so_of_this_one(
    restart: Object | None, good: bool, seen: str
) -> None:
    assert predicates.graph_restarted(graph(restart=restart), "r1") == (good, seen)
    assert predicates.graph_restarted(None, "r1")[0] is False
