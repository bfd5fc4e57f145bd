# SPDX-License-Identifier: Apache-2.0
"""The modules that look at a cluster as a whole: cluster_snapshot, platform_info."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.modules import cluster_snapshot, platform_info
from fake_api import Api, Run, refusal
from nodes_stage import Object, named, node, worker


def test_a_cluster_is_captured_once_and_check_mode_writes_nothing(
    plain: Api, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "before.json"
    given = {"state": "captured", "path": str(path)}
    would = run(cluster_snapshot, check=True, **given)
    assert would["changed"] is True
    assert not path.exists()
    assert run(cluster_snapshot, **given)["changed"] is True
    kept = json.loads(path.read_text())
    assert kept == would["diff"]["after"]
    assert {"Node/a", "Node/b", "Namespace/default"} <= kept.keys()
    again = run(cluster_snapshot, **given)
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"] == kept


def test_a_cluster_that_is_as_it_was_compares_equal(plain: Api, run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "before.json")
    run(cluster_snapshot, state="captured", path=path)
    result = run(cluster_snapshot, state="compared", path=path)
    assert (result["changed"], result["equal"], result["differences"]) == (False, True, [])


def test_a_difference_that_goes_away_in_time_is_none(plain: Api, run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "before.json")
    run(cluster_snapshot, state="captured", path=path)
    plain.put(node("a", unschedulable=True))
    watched = len(plain.watches)

    def release() -> None:
        plain.until(lambda: "Node" in [kind for kind, _version in plain.watches[watched:]])
        plain.put(node("a"))

    helper = threading.Thread(target=release)
    helper.start()
    result = run(cluster_snapshot, state="compared", path=path, timeout=10)
    helper.join()
    assert result["equal"] is True


def test_what_stays_different_is_told_in_sentences_and_is_no_failure_of_the_module(
    plain: Api, run: Run, tmp_path: Path
) -> None:
    path = str(tmp_path / "before.json")
    run(cluster_snapshot, state="captured", path=path)
    plain.put(node("a", unschedulable=True))
    plain.put(named("v1", "Namespace", "drill-run-1"))
    plain.put(named("nvidia.com/v1beta1", "DynamoGraphDeployment", "agg", "prod"))
    plain.put(named("faultline.dev/v1alpha1", "GPUFault", "f"))
    result = run(cluster_snapshot, state="compared", path=path, timeout=0.1)
    assert "failed" not in result
    assert result["equal"] is False
    assert result["differences"] == [
        "DynamoGraphDeployment/prod/agg was not there before",
        "GPUFault/f was not there before",
        "Namespace/drill-run-1 was not there before",
        "Node/a unschedulable: was false, is true",
    ]


def test_the_cluster_of_a_snapshot_is_told_from_another(
    plain: Api, run: Run, tmp_path: Path
) -> None:
    path = str(tmp_path / "before.json")
    system = named("v1", "Namespace", "kube-system")
    plain.put(system | {"metadata": system["metadata"] | {"uid": "here"}})
    run(cluster_snapshot, state="captured", path=path)
    assert "failed" not in run(cluster_snapshot, state="same_cluster", path=path)
    plain.put(system | {"metadata": system["metadata"] | {"uid": "elsewhere"}})
    result = run(cluster_snapshot, state="same_cluster", path=path)
    assert result["failed"]
    assert "This is not the cluster that" in result["msg"]
    assert "was here, here it is elsewhere" in result["msg"]


def test_a_snapshot_that_was_never_made_cannot_be_compared(
    plain: Api, run: Run, tmp_path: Path
) -> None:
    result = run(cluster_snapshot, state="compared", path=str(tmp_path / "none.json"))
    assert result["failed"] is True
    assert "to compare with: capture one first" in result["msg"]


def test_a_cluster_without_dynamo_and_fault_service_can_be_captured(
    plain: Api, run: Run, tmp_path: Path
) -> None:
    plain.unknown |= {"DynamoGraphDeployment", "GPUFault"}
    given = {"state": "captured", "path": str(tmp_path / "before.json")}
    assert run(cluster_snapshot, **given)["changed"] is True


OPERATOR = "dynamo-platform-dynamo-operator-controller-manager"


def workload(kind: str, name: str, namespace: str) -> Object:
    found = named("apps/v1", kind, name, namespace)
    found["metadata"]["generation"] = 1
    found["spec"] = {"replicas": 1}
    found["status"] = {
        "observedGeneration": 1,
        "replicas": 1,
        "readyReplicas": 1,
        "updatedReplicas": 1,
        "desiredNumberScheduled": 2,
        "numberReady": 2,
        "updatedNumberScheduled": 2,
    }
    return found


@pytest.fixture
def whole(plain: Api) -> Api:
    """A cluster that has all a drill needs."""
    for kind, names in platform_info.SENTINEL.items():
        for name in names:
            plain.put(workload(kind, name, "nvsentinel"))
    for kind, name in platform_info.SERVICE:
        plain.put(workload(kind, name, "fault-injection-system"))
    operator = workload("Deployment", OPERATOR, "dynamo-system")
    operator["metadata"]["labels"] = {
        "app.kubernetes.io/name": "dynamo-operator",
        "app.kubernetes.io/component": "manager",
        "app.kubernetes.io/instance": "dynamo-platform",
    }
    plain.put(operator)
    return plain


def test_a_cluster_that_has_all_a_drill_needs_has_no_problems(whole: Api, run: Run) -> None:
    result = run(platform_info)
    assert result["problems"] == []
    assert result["nodes"] == {"a": 2, "b": 2}
    assert result["versions"]["kubernetes"] == "v1.34.4"
    assert (result["changed"], whole.writes) == (False, [])


def without(kind: str, name: str, namespace: str) -> Any:
    return lambda api: api.remove(api.one(kind, name, namespace))


def not_ready(kind: str, name: str, namespace: str) -> Any:
    def change(api: Api) -> None:
        api.put(api.one(kind, name, namespace) | {"status": {"observedGeneration": 1}})

    return change


def labelled(name: str, key: str, value: str) -> Any:
    def change(api: Api) -> None:
        found = node(name)
        found["metadata"]["labels"][key] = value
        api.put(found)

    return change


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda api: api.unknown.add("DynamoGraphDeployment"),
            "The cluster knows no DynamoGraphDeployment: install the Dynamo platform's operator.",
        ),
        (lambda api: api.unknown.add("GPUFault"), "The fault service is missing: run the role"),
        (
            without("Deployment", "node-drainer", "nvsentinel"),
            "NVSentinel's node-drainer in nvsentinel is not installed",
        ),
        (
            not_ready("DaemonSet", "platform-connectors", "nvsentinel"),
            "NVSentinel's platform-connectors in nvsentinel is not ready (0 of 0 ready)",
        ),
        (
            not_ready("DaemonSet", "gpu-fault-injector-kernel", "fault-injection-system"),
            "The fault service's agent in fault-injection-system is not ready",
        ),
        (
            without("Deployment", "fault-injection-api", "fault-injection-system"),
            "The fault service's API in fault-injection-system is not installed",
        ),
        (
            without("Deployment", OPERATOR, "dynamo-system"),
            "The Dynamo operator is not installed",
        ),
        (
            not_ready("Deployment", OPERATOR, "dynamo-system"),
            f"The Dynamo operator {OPERATOR} in dynamo-system is not ready (0 of 1 ready)",
        ),
        (
            labelled("b", "k8saas.nvidia.com/ManagedByNVSentinel", "false"),
            "NVSentinel leaves node b alone, by its label k8saas.nvidia.com/ManagedByNVSentinel",
        ),
        (
            labelled("a", "nvsentinel.dgxc.nvidia.com/managed", "false"),
            "NVSentinel leaves node a alone, by its label nvsentinel.dgxc.nvidia.com/managed=fal",
        ),
        (lambda api: api.put(node("b", allowed=False)), "A drill needs 2 GPU nodes that may be"),
        (lambda api: api.put(node("b", unschedulable=True)), "Node b is still in the hands of an"),
        (lambda api: api.put(worker("w", "a", gpus=2)), "The drill needs 3 free GPUs"),
    ],
)
def test_each_thing_that_is_missing_is_named(whole: Api, run: Run, spoil: Any, said: str) -> None:
    spoil(whole)
    problems = run(platform_info)["problems"]
    assert [p for p in problems if p.startswith(said)], problems


def test_another_namespace_of_nvsentinel_is_looked_into(whole: Api, run: Run) -> None:
    assert len(run(platform_info, sentinel_namespace="sentinel")["problems"]) == 5


@pytest.mark.parametrize("value", ["true", "", "no"])
def test_a_node_that_is_left_to_nvsentinel_is_no_problem(whole: Api, run: Run, value: str) -> None:
    labelled("b", "nvsentinel.dgxc.nvidia.com/managed", value)(whole)
    assert run(platform_info)["problems"] == []


def test_a_node_that_no_drill_may_hurt_may_opt_out(whole: Api, run: Run) -> None:
    theirs = node("theirs", allowed=False)
    theirs["metadata"]["labels"]["nvsentinel.dgxc.nvidia.com/managed"] = "false"
    whole.put(theirs)
    assert run(platform_info)["problems"] == []


def test_each_kind_is_listed_once(whole: Api, run: Run) -> None:
    run(platform_info, namespace="drill-1", definition=graph_of("host/image:1"))
    assert sorted(whole.lists) == ["DaemonSet", "Deployment", "Node", "Pod"]


def graph_of(image: str, *secrets: str) -> Object:
    pod = {"containers": [{"name": "main", "image": image}]}
    if secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in secrets]
    return {"spec": {"components": [{"name": "decode", "podTemplate": {"spec": pod}}]}}


def test_pull_secrets_that_the_namespace_lacks_are_named(whole: Api, run: Run) -> None:
    whole.put(named("v1", "Namespace", "drill-1"))
    mine = whole.one("Namespace", "drill-1")
    mine["metadata"]["labels"] = {"faultline.dev/run": "run-1"}
    whole.put(mine)
    given = {"namespace": "drill-1", "run_id": "run-1"}
    definition = graph_of("host/image:1", "there", "not-there")
    whole.put(named("v1", "Secret", "there", "drill-1"))
    whole.put(named("v1", "Secret", "not-there", "another"))
    (problem,) = run(platform_info, **given, definition=definition)["problems"]
    assert problem.startswith("The deployment pulls its images with the Secret not-there, which")
    whole.put(named("v1", "Secret", "not-there", "drill-1"))
    assert run(platform_info, **given, definition=definition)["problems"] == []


def test_an_account_that_may_not_read_secrets_is_no_problem(
    whole: Api, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = whole.one

    def denied(kind: str, name: str, namespace: str | None = None) -> Object:
        if kind == "Secret":
            raise refusal(403, "secrets is forbidden")
        return read(kind, name, namespace)

    monkeypatch.setattr(whole, "one", denied)
    given = {"namespace": "drill-1", "definition": graph_of("host/image:1", "any")}
    assert run(platform_info, **given)["problems"] == []


def test_a_pod_of_the_namespace_whose_image_does_not_come_is_named(whole: Api, run: Run) -> None:
    for space in ("drill", "elsewhere"):
        pod = worker(f"in-{space}", "a")
        pod["metadata"]["namespace"] = space
        waiting = {"reason": "ErrImagePull", "message": "manifest unknown"}
        row = {"name": "main", "image": "host/image:2", "state": {"waiting": waiting}}
        pod["status"]["containerStatuses"] = [row]
        whole.put(pod)
    problems = run(platform_info, namespace="drill", gpus=1)["problems"]
    assert problems == [
        "The image host/image:2 of pod in-drill in drill does not come (ErrImagePull: manifest "
        "unknown): the registry has no such image or tag: correct the image in the deployment."
    ]
