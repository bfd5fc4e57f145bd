# SPDX-License-Identifier: Apache-2.0
"""Preconditions of a drill, and the choice of its target."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _platform as platform
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from ansible_collections.faultline.gpu.plugins.module_utils._objects import HASH_LABEL

Object = dict[str, Any]


def node(name: str, gpus: int = 2, gpu: bool = True, allowed: bool = True, **spec: Any) -> Object:
    labels = {
        **({platform.PRESENT: "true"} if gpu else {}),
        **({platform.ALLOWED[0]: platform.ALLOWED[1]} if allowed else {}),
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "allocatable": {platform.GPU: str(gpus)} if gpus else {},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(
    name: str, at: str | None, gpus: int = 1, worker: bool = True, phase: str = "Running",
    ready: str = "True", **meta: Any,
) -> Object:  # fmt: skip
    limits = {platform.GPU: str(gpus)} if gpus else {}
    return {
        "metadata": {"name": name, "labels": {HASH_LABEL: "aaaaaaaa"} if worker else {}, **meta},
        "spec": {
            "nodeName": at,
            "containers": [{"name": "main", "resources": {"limits": limits}}, {"name": "side"}],
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    }


def test_only_marked_gpu_nodes_that_take_pods_are_usable() -> None:
    nodes = [
        node("good"),
        node("no-gpu", gpu=False),
        node("not-marked", allowed=False),
        node("cordoned", unschedulable=True),
        {"metadata": {"name": "bare"}, "spec": {}, "status": {}},
    ]
    assert [n["metadata"]["name"] for n in platform.usable_nodes(nodes)] == ["good"]
    assert [n["metadata"]["name"] for n in platform.gpu_nodes(nodes)] == [
        "good",
        "not-marked",
        "cordoned",
    ]


@pytest.mark.parametrize("value", ["", "true", "Allowed", "denied"])
def test_a_mark_of_another_value_is_no_permission(value: str) -> None:
    found = node("n")
    found["metadata"]["labels"][platform.ALLOWED[0]] = value
    assert not platform.allowed(found)


def test_free_gpus_are_those_that_no_living_pod_on_the_node_asks_for() -> None:
    pods = [
        pod("a1", "a"),
        pod("a2", "a", phase="Succeeded"),
        pod("a3", "a", phase="Failed"),
        pod("b1", "b", gpus=2),
        pod("front", "a", gpus=0, worker=False),
        pod("pending", None),
        {"metadata": {"name": "new"}, "spec": {}},
    ]
    nodes = [node("a"), node("b"), node("c", gpus=0)]
    assert platform.free_by_node(nodes, pods) == {"a": 1, "b": 0, "c": 0}


def problems(nodes: list[Object], pods: list[Object], least: int = 2, gpus: int = 3) -> list[str]:
    free = platform.free_by_node(platform.usable_nodes(nodes), pods)
    return platform.node_problems(nodes, free, least, gpus)


def test_a_cluster_with_room_has_no_problems() -> None:
    assert problems([node("a"), node("b")], [pod("x", "a")]) == []


@pytest.mark.parametrize(
    ("nodes", "pods", "said"),
    [
        (
            [node("a"), node("b"), node("c", unschedulable=True)],
            [],
            "Node c is still in the hands of an earlier fault (c: cordoned): wait",
        ),
        (
            [node("a", gpus=4), node("b", gpus=4, allowed=False)],
            [],
            "A drill needs 2 GPU nodes that may be hurt, there is 1 (a); not marked: b "
            "(kubectl label node NAME faultline.dev/drill=allowed).",
        ),
        (
            [node("a"), node("b")],
            [pod("x", "a"), pod("y", "b")],
            "The drill needs 3 free GPUs (its workers and one for the rollout), 2 are free: ",
        ),
    ],
)
def test_each_thing_that_is_missing_is_one_sentence_that_says_what_to_do(
    nodes: list[Object], pods: list[Object], said: str
) -> None:
    found = problems(nodes, pods)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_cluster_without_gpu_nodes_is_told_so() -> None:
    said = problems([node("cpu", gpu=False, gpus=0)], [])
    assert said[0] == "A drill needs 2 GPU nodes that may be hurt, there is 0 (none)."


def test_a_node_that_nobody_allowed_to_hurt_may_be_cordoned() -> None:
    nodes = [node("a"), node("b"), node("theirs", allowed=False, unschedulable=True)]
    assert problems(nodes, []) == []


FREE = {"a": 1, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("pods", "free", "wanted", "target"),
    [
        pytest.param([pod("x", "b"), pod("y", "c")], FREE, None, "b", id="the first by name"),
        pytest.param(
            [pod("x", "a"), pod("y", "a"), pod("z", "c")], FREE, None, "c", id="fewest workers"
        ),
        pytest.param([pod("x", "b"), pod("y", "c")], FREE, "c", "c", id="the one asked for"),
        pytest.param([pod("x", "a0"), pod("y", "b")], FREE, None, "b", id="never an unmarked one"),
        pytest.param(
            [pod("x", "a", worker=False), pod("y", "b")], FREE, None, "b", id="no frontend's node"
        ),
        pytest.param(
            [pod("x", "a", ready="False"), pod("y", "b")], FREE, None, "b", id="no unready worker's"
        ),
        pytest.param(
            [pod("x", "a", deletionTimestamp="t"), pod("y", "b")], FREE, None, "b", id="none ending"
        ),
        pytest.param([pod("x", "a", gpus=2)], {"a": 0, "b": 2}, None, "a", id="two GPUs fit"),
    ],
)
def test_the_target_is_a_workers_node_whose_workers_fit_elsewhere(
    pods: list[Object], free: dict[str, int], wanted: str | None, target: str
) -> None:
    assert platform.choose_target(pods, free, wanted) == target


@pytest.mark.parametrize(
    ("pods", "free", "wanted", "said"),
    [
        ([pod("x", "a")], {"a": 5, "b": 0}, None, "No other node has room for the workers of a "),
        ([pod("x", "a", gpus=2)], {"a": 0, "b": 1}, "a", "No other node has room for the workers"),
        ([pod("x", "a")], FREE, "b", "No worker pod is on b; workers are on ['a']."),
        ([], FREE, None, "No other node has room for the workers of any node"),
        ([pod("x", "d")], {"a": 1}, "d", "Node d may not be hurt"),
    ],
)
def test_without_a_target_the_drill_is_refused_with_what_is_missing(
    pods: list[Object], free: dict[str, int], wanted: str | None, said: str
) -> None:
    with pytest.raises(FaultlineError) as error:
        platform.choose_target(pods, free, wanted)
    assert str(error.value).startswith(said)


def test_a_workload_that_is_absent_or_not_ready_is_a_problem() -> None:
    found = {
        "kind": "Deployment",
        "metadata": {"generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1},
    }
    up = {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}
    assert platform.workload_problem(None, "The drainer", "install it") == [
        "The drainer is not installed: install it."
    ]
    assert platform.workload_problem(found, "The drainer", "") == [
        "The drainer is not ready (0 of 1 ready): look at its pods."
    ]
    assert platform.workload_problem(found | {"status": up}, "The drainer", "") == []
