# SPDX-License-Identifier: Apache-2.0
"""The module drill_target: whose GPU is made faulty."""

from __future__ import annotations

import pytest
from ansible_collections.faultline.gpu.plugins.modules import drill_target
from fake_api import Api, Run
from nodes_stage import HASH_LABEL, Object, named, node, worker


@pytest.fixture
def serving(plain: Api) -> Api:
    """Workers of two deployments on both nodes, and a frontend beside one of them."""
    front = worker("front", "a", gpus=0)
    del front["metadata"]["labels"][HASH_LABEL]
    plain.put(front)
    for obj in (
        node("a", 3),
        node("b", 3),
        worker("w1", "a"),
        worker("w2", "b"),
        worker("x", "b", graph="other"),
    ):
        plain.put(obj)
    return plain


TARGET = {"namespace": "drill", "name": "agg"}


def test_the_target_is_the_node_of_one_of_our_workers(serving: Api, run: Run) -> None:
    result = run(drill_target, **TARGET)
    assert (result["node"], result["pod"]) == ("a", "w1")
    assert "gpu_uuid" not in result
    assert (result["changed"], serving.writes) == (False, [])


def test_a_worker_on_its_way_out_is_not_the_target(serving: Api, run: Run) -> None:
    ending = worker("w0", "a")
    ending["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    serving.put(ending)
    assert run(drill_target, **TARGET, node="a")["pod"] == "w1"


def host(name: str, pod: str, *gpus: str) -> Object:
    found = named("faultline.dev/v1alpha1", "GPUHost", name)
    process = {"pod": pod, "podUID": pod, "namespace": "drill", "gpus": list(gpus)}
    return found | {"status": {"processes": [process]}}


def test_the_gpu_is_the_one_that_the_agent_reports_of_the_workers_process(
    serving: Api, run: Run
) -> None:
    for found in (host("a", "w1", "GPU-1", "GPU-2"), host("b", "w2", "GPU-3")):
        serving.put(found)
    result = run(drill_target, **TARGET, gpu=True)
    assert (result["node"], result["pod"], result["gpu_uuid"]) == ("a", "w1", "GPU-1")


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([], "no agent reports a GPU of w1"),
        ([host("a", "w1")], "no agent reports a GPU of w1"),
        ([host("a", "w2", "GPU-1")], "no agent reports a GPU of w1"),
    ],
)
def test_a_gpu_that_nobody_reports_is_waited_for_and_then_named(
    serving: Api, run: Run, hosts: list[Object], said: str
) -> None:
    for found in hosts:
        serving.put(found)
    result = run(drill_target, **TARGET, gpu=True, timeout=1)
    assert result["failed"] is True
    assert said in result["msg"]


def test_a_target_that_is_none_is_refused(serving: Api, run: Run) -> None:
    assert "No worker pod is on c" in run(drill_target, **TARGET, node="c")["msg"]
    serving.unknown.add("GPUHost")
    assert "The fault service is not installed" in run(drill_target, **TARGET, gpu=True)["msg"]
    serving.put(worker("y", "a", gpus=2, graph="other"))
    assert "No other node has room" in run(drill_target, **TARGET, node="b")["msg"]
