# SPDX-License-Identifier: Apache-2.0
"""Conditions on graphs, pods and what the agents report of the shim."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _predicates as predicates
from ansible_collections.faultline.gpu.plugins.module_utils._errors import WaitFailed

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
            "annotations": {predicates.HASH_ANNOTATION: "aaaaaaaa"},
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
    labels = {predicates.HASH_LABEL: hash_} if hash_ else {}
    volumes = [{"name": "model"}, *([{"name": predicates.SHIM_VOLUME}] if shim else [])]
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


def waiting(reason: str, last: Object | None = None, where: str = "containerStatuses") -> Object:
    found = pod("w1", up="False")
    state: Object = {"name": "main", "state": {"waiting": {"reason": reason, "message": "why"}}}
    found["status"][where] = [state | ({"lastState": {"terminated": last}} if last else {})]
    return found


def unschedulable() -> Object:
    found = pod("w1", up="False")
    found["status"]["conditions"] = [
        condition(
            "PodScheduled", "False", "Unschedulable", "0/3 nodes: Insufficient nvidia.com/gpu"
        )
    ]
    return found


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (pod("w1"), None),
        (pod("w1", up="False"), None),
        (waiting("ContainerCreating"), None),
        (unschedulable(), "pod w1 cannot be scheduled: 0/3 nodes: Insufficient nvidia.com/gpu"),
        (waiting("ImagePullBackOff"), "container main of pod w1: ImagePullBackOff"),
        (waiting("ErrImagePull", where="initContainerStatuses"), "main of pod w1: ErrImagePull"),
        (
            waiting("CrashLoopBackOff", {"reason": "Error", "exitCode": 137}),
            "CrashLoopBackOff, ended with Error 137",
        ),
    ],
)
def test_what_keeps_a_pod_from_starting_is_named(found: Object, said: str | None) -> None:
    trouble = predicates.trouble(found)
    assert (trouble is None) if said is None else (trouble and said in trouble)


@pytest.mark.parametrize("reason", predicates.HOPELESS)
@pytest.mark.parametrize("where", ["containerStatuses", "initContainerStatuses"])
def test_what_waiting_cannot_heal_ends_the_wait(reason: str, where: str) -> None:
    pods = [FRONT, waiting(reason, where=where)]
    with pytest.raises(WaitFailed, match=f"container main of pod w1: {reason}: why"):
        predicates.graph_settled(graph(state="pending"), pods)


@pytest.mark.parametrize("state", ["pending", "successful"])
def test_a_graph_that_is_not_settled_says_which_pod_has_trouble(state: str) -> None:
    said = predicates.graph_settled(graph(state=state), [FRONT, pod("w2"), unschedulable()])[1]
    assert "pod w1 cannot be scheduled" in said


def process(pod_: str, hits: int = 0, mapped: bool = True, **more: Any) -> Object:
    shim = {"hits": hits, "pageMapped": mapped}
    return {"podUID": f"uid-{pod_}", "pod": pod_, "namespace": "drill", "shim": shim} | more


def host(name: str, *processes: Object) -> Object:
    return {"metadata": {"name": name}, "status": {"processes": list(processes)}}


@pytest.mark.parametrize(
    ("hosts", "seen"),
    [
        ([host("a", process("w1")), host("b", process("w2"))], None),
        ([host("a", process("w1")), host("b")], "in w2"),
        ([host("a", process("w1"), process("w2", mapped=False))], "in w2"),
        ([host("a", process("w1"), process("w2", hits=3))], "in w2"),
        ([host("a", process("w1"), process("w2", exited=True))], "in w2"),
        ([host("a", process("w1"), process("w2", namespace="other"))], "in w2"),
        ([host("a", process("w1"), process("w2") | {"shim": None})], "in w2"),
        ([{"metadata": {"name": "new"}}], "in w1, w2"),
        # A pod has processes without the shim, too: one with it is enough.
        ([host("a", process("w1"), process("w2", mapped=False), process("w2"))], None),
    ],
)
def test_the_shim_is_proven_when_a_living_process_of_every_worker_shows_it_inert(
    hosts: list[Object], seen: str | None
) -> None:
    proven, said = predicates.shim_proven(hosts, TWO, "drill")
    assert proven is (seen is None), said
    assert seen is None or said.endswith(seen)


def test_no_worker_pods_prove_nothing() -> None:
    assert not predicates.shim_proven([host("a", process("w1"))], [FRONT], "drill")[0]


def test_hits_are_counted_by_node_and_only_those_of_the_namespace() -> None:
    hosts = [
        host("a", process("w1", 2), process("w1", 3, exited=True)),
        host("b", process("w2"), process("x", 7, namespace="other")),
        host("c"),
    ]
    assert predicates.shim_hits(hosts, "drill") == {"a": 5, "b": 0}
    assert {p["node"] for p in predicates.shim_processes(hosts, "drill")} == {"a", "b"}
