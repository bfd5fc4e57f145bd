# SPDX-License-Identifier: Apache-2.0
"""The module dgd on a cluster in memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.modules import dgd
from fake_api import Api, Run
from graph_stage import DEFINITION

Object = dict[str, Any]


def test_a_deployment_is_made_and_waited_for(deployed: Api, run: Run) -> None:
    graph = deployed.one("DynamoGraphDeployment", "mock", "drill")
    assert graph["metadata"]["labels"] == {"team": "a"}
    result = run(dgd, namespace="drill", definition=DEFINITION)
    assert result["dgd"]["metadata"]["name"] == "mock"
    assert [(p["name"], p["worker"], p["component"]) for p in result["pods"]] == [
        ("front", False, "Frontend"),
        ("w1", True, "decode"),
        ("w2", True, "decode"),
    ]
    assert {(p["uid"], p["node"]) for p in result["pods"]} >= {("w1", "gpu-node-1")}
    assert "2 workers Ready" in result["seen"]


def test_a_second_run_changes_nothing(deployed: Api, run: Run) -> None:
    result = run(dgd, namespace="drill", definition=DEFINITION)
    assert result["changed"] is False
    assert result["diff"]["before"] == result["diff"]["after"]


def test_a_changed_specification_is_a_change_once(deployed: Api, run: Run) -> None:
    definition = copy.deepcopy(DEFINITION)
    definition["spec"]["components"][0]["runtimeVersionOverride"] = "1.6.2"
    assert run(dgd, check=True, namespace="drill", definition=definition)["changed"] is True
    assert run(dgd, namespace="drill", definition=definition)["changed"] is True
    assert run(dgd, namespace="drill", definition=definition)["changed"] is False


@pytest.mark.parametrize("exists", [False, True])
def test_check_mode_says_what_would_change_and_changes_nothing(
    api: Api, run: Run, exists: bool
) -> None:
    if exists:
        api.put(copy.deepcopy(DEFINITION) | {"metadata": {"name": "mock", "namespace": "drill"}})
    before = copy.deepcopy(api.objects)
    changed = copy.deepcopy(DEFINITION)
    changed["spec"]["components"][1]["replicas"] = 3
    result = run(dgd, check=True, namespace="drill", definition=changed)
    assert result["changed"] is True
    assert result["diff"]["after"]["components"][1]["replicas"] == 3
    assert result["diff"]["before"] == (DEFINITION["spec"] if exists else {})
    assert api.objects == before
    assert api.writes == []


def test_labels_are_added_and_a_new_one_is_a_change(deployed: Api, run: Run) -> None:
    labels = {"stage": "x"}
    given = {"namespace": "drill", "definition": DEFINITION, "labels": labels}
    assert run(dgd, **given)["changed"] is True
    graph = deployed.one("DynamoGraphDeployment", "mock", "drill")
    assert graph["metadata"]["labels"] == labels | {"team": "a"}
    assert run(dgd, **given)["changed"] is False


def test_name_and_namespace_given_go_before_those_of_the_definition(api: Api, run: Run) -> None:
    definition = copy.deepcopy(DEFINITION)
    definition["metadata"]["namespace"] = "prod"
    result = run(dgd, check=True, namespace="drill", name="other", definition=definition)
    assert result["dgd"]["metadata"]["name"] == "other"
    assert result["dgd"]["metadata"]["namespace"] == "drill"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"definition": {"kind": "Deployment", "metadata": {"name": "x"}}},
            "The definition is of kind Deployment: expected a DynamoGraphDeployment.",
        ),
        (
            {"definition": {"metadata": {"name": "x"}}},
            "The definition is of kind unknown: expected a Dynamo",
        ),
        ({"definition": {"kind": "DynamoGraphDeployment"}}, "The DGD has no metadata.name"),
        ({"state": "settled"}, "Which DynamoGraphDeployment? Give `name`"),
        ({}, "state is present but any of the following are missing: definition, src"),
    ],
)
def test_a_definition_that_is_none_is_refused_before_anything_is_touched(
    api: Api, run: Run, options: Object, said: str
) -> None:
    result = run(dgd, namespace="drill", **options)
    assert result["failed"] is True
    assert result["msg"].startswith(said)
    assert (api.writes, api.lists) == ([], [])


def test_a_deployment_that_does_not_come_up_is_a_timeout_that_says_what_was_seen(
    api: Api, run: Run
) -> None:
    result = run(dgd, namespace="drill", definition=DEFINITION, timeout=0.1)
    assert result["failed"] is True
    assert "Last seen: DGD mock without status" in result["msg"]
    assert result["seconds"] >= 0.1


def test_settled_only_waits_and_asks_for_the_shim_when_told(deployed: Api, run: Run) -> None:
    settled = {"namespace": "drill", "name": "mock", "state": "settled", "timeout": 0.1}
    assert run(dgd, **settled)["changed"] is False
    assert run(dgd, **settled, shim=False)["changed"] is False
    assert "0 workers have the shim" in run(dgd, **settled, shim=True)["msg"]
    assert deployed.writes == []


def test_healthy_nodes_are_asked_for_when_told(deployed: Api, run: Run) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    node: Object = {"kind": "Node", "metadata": {"name": "gpu-node-1"}, "status": ready}
    deployed.put(node | {"spec": {"unschedulable": True}})
    settled = {"namespace": "drill", "name": "mock", "state": "settled", "timeout": 0.1}
    assert "failed" not in run(dgd, **settled)
    assert "gpu-node-1: cordoned" in run(dgd, **settled, healthy_nodes=True)["msg"]
    deployed.put(node | {"spec": {}})
    assert "gpu-node-1" in run(dgd, **settled, healthy_nodes=True)["seen"]


def test_a_removal_waits_until_object_and_pods_are_gone_and_the_second_changes_nothing(
    deployed: Api, run: Run
) -> None:
    def foreground(graph: Object) -> None:
        for pod in deployed.all("Pod"):
            deployed.remove(pod)
        deployed.remove(graph)

    deployed.deletes = foreground
    absent = {"namespace": "drill", "name": "mock", "state": "absent", "timeout": 5}
    would = run(dgd, check=True, **absent)
    assert (would["changed"], deployed.writes) == (True, [])
    assert would["diff"]["before"]["metadata"]["name"] == "mock"
    assert would["diff"]["after"] == {}
    assert run(dgd, **absent)["changed"] is True
    assert deployed.writes == ["delete DynamoGraphDeployment mock Foreground"]
    assert deployed.all("Pod") == []
    assert run(dgd, **absent)["changed"] is False


def test_a_removal_that_hangs_names_what_is_left(deployed: Api, run: Run) -> None:
    result = run(dgd, namespace="drill", name="mock", state="absent", timeout=0.1)
    assert result["failed"] is True
    assert "left: front, w1, w2" in result["msg"]


def test_a_removal_from_a_cluster_without_the_operator_is_done_already(api: Api, run: Run) -> None:
    api.unknown.add("DynamoGraphDeployment")
    assert run(dgd, namespace="drill", name="mock", state="absent")["changed"] is False
