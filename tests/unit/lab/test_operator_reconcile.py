# SPDX-License-Identifier: Apache-2.0
"""What the operator writes into a cluster, and in which order."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from operator_cluster import Cluster, Operator
from operator_recordings import dgd_of

from lab.operator import names

Object = dict[str, Any]


@pytest.fixture
def operator() -> Operator:
    """An operator on an empty cluster into which a user has just put a graph."""
    cluster = Cluster()
    dgd = dgd_of("objects-v1beta1-agg-ready")
    graph = {
        "apiVersion": dgd["apiVersion"],
        "kind": dgd["kind"],
        "metadata": {"name": "mock", "namespace": "drill", "annotations": {}},
        "spec": dgd["spec"],
    }
    cluster.create(graph)
    return Operator(cluster)


def graph_of(operator: Operator) -> Object:
    found = operator.cluster.get(names.DGD_KIND, "drill", "mock")
    assert found is not None
    return found


def change_worker(operator: Operator, value: str | None) -> None:
    """A user adds a variable to the worker, or takes it away again."""
    dgd = graph_of(operator)
    spec = copy.deepcopy(dgd["spec"])
    main = spec["components"][1]["podTemplate"]["spec"]["containers"][0]
    main.pop("env", None)
    if value is not None:
        main["env"] = [{"name": "X", "value": value}]
    operator.cluster.replace({**dgd, "spec": spec})


def objects(operator: Operator, kind: str) -> list[str]:
    return sorted(name for found, name in operator.cluster.objects if found == kind)


def test_the_finalizer_and_the_hash_come_before_any_child(operator: Operator) -> None:
    operator.turn()
    first_child = next(i for i, line in enumerate(operator.cluster.log[1:], 1) if "create" in line)
    before = operator.cluster.log[1:first_child]
    assert before == [f"patch {names.DGD_KIND} mock"] * 2
    assert graph_of(operator)["metadata"]["finalizers"] == [names.FINALIZER]


def test_a_graph_becomes_successful_with_the_whole_chain_below_it(operator: Operator) -> None:
    operator.rest()
    dgd = graph_of(operator)
    worker = f"mock-decode-{dgd['metadata']['annotations'][names.CURRENT_HASH]}"
    assert dgd["status"]["state"] == "successful"
    for kind in (names.DCD_KIND, "Deployment", "Service"):
        assert objects(operator, kind) == [worker, "mock-frontend"]
    assert objects(operator, "Role") == ["mock-k8s-service-discovery-role"]
    assert names.PLANNER_BINDING in objects(operator, "RoleBinding")


def test_nothing_is_written_while_nothing_changes(operator: Operator) -> None:
    operator.rest()
    written = len(operator.cluster.log)
    for _ in range(5):
        operator.turn()
    assert len(operator.cluster.log) == written


def test_a_rollout_replaces_the_generation_and_a_revert_brings_the_old_names_back(
    operator: Operator,
) -> None:
    operator.rest()
    before = objects(operator, "Deployment")
    change_worker(operator, "1")
    operator.rest()
    during = objects(operator, "Deployment")
    assert len(during) == 2
    assert during != before
    assert graph_of(operator)["status"]["rollingUpdate"]["phase"] == "Completed"
    change_worker(operator, None)
    operator.rest()
    assert objects(operator, "Deployment") == before
    assert operator.events.reasons.count("RollingUpdateCompleted") == 2


def test_a_rollout_that_cannot_start_pods_stays_pending_and_keeps_the_old_workers(
    operator: Operator,
) -> None:
    operator.rest()
    before = objects(operator, "Deployment")
    change_worker(operator, "1")
    operator.rest(ready=False)
    status = graph_of(operator)["status"]
    assert status["state"] == "pending"
    assert status["conditions"][0]["reason"] == "rolling_update_in_progress"
    assert set(before) < set(objects(operator, "Deployment"))
    old = operator.cluster.get("Deployment", "drill", before[0])
    assert old is not None
    assert old["spec"]["replicas"] == 2


def test_a_second_change_during_a_rollout_drops_the_first_target(operator: Operator) -> None:
    operator.rest()
    change_worker(operator, "1")
    operator.rest(ready=False)
    first = set(objects(operator, names.DCD_KIND))
    change_worker(operator, "2")
    operator.rest(ready=False)
    second = set(objects(operator, names.DCD_KIND))
    assert len(second) == 3
    assert len(first & second) == 2
    operator.rest()
    assert len(objects(operator, names.DCD_KIND)) == 2


def test_scaling_changes_replicas_and_nothing_else(operator: Operator) -> None:
    operator.rest()
    before = objects(operator, "Deployment")
    dgd = graph_of(operator)
    dgd["spec"]["components"][1]["replicas"] = 4
    operator.cluster.replace(dgd)
    operator.rest()
    assert objects(operator, "Deployment") == before
    deployment = operator.cluster.get("Deployment", "drill", before[0])
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 4


def test_somebody_elses_change_of_replicas_is_put_back(operator: Operator) -> None:
    operator.rest()
    name = objects(operator, "Deployment")[0]
    operator.cluster.patch("Deployment", "drill", name, {"spec": {"replicas": 7}})
    operator.rest()
    deployment = operator.cluster.get("Deployment", "drill", name)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 2


def test_a_deleted_service_is_made_again(operator: Operator) -> None:
    operator.rest()
    operator.cluster.delete("Service", "drill", "mock-frontend")
    operator.rest()
    assert "mock-frontend" in objects(operator, "Service")


def test_deletion_leaves_only_the_planners_account_and_binding(operator: Operator) -> None:
    operator.rest()
    operator.cluster.delete(names.DGD_KIND, "drill", "mock")
    operator.rest()
    left = sorted(operator.cluster.objects)
    assert left == [
        ("RoleBinding", names.PLANNER_BINDING),
        ("ServiceAccount", names.PLANNER_ACCOUNT),
    ]


def test_the_same_graph_can_be_made_again_after_its_deletion(operator: Operator) -> None:
    operator.rest()
    spec = graph_of(operator)["spec"]
    operator.cluster.delete(names.DGD_KIND, "drill", "mock")
    operator.rest()
    body = {"apiVersion": names.HUB_VERSION, "kind": names.DGD_KIND, "spec": spec,
            "metadata": {"name": "mock", "namespace": "drill", "annotations": {}}}  # fmt: skip
    operator.cluster.create(body)
    operator.rest()
    assert graph_of(operator)["status"]["state"] == "successful"
    assert objects(operator, "Role") == ["mock-k8s-service-discovery-role"]
