# SPDX-License-Identifier: Apache-2.0
"""A drill that did not pass says itself what stands in its way."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._diagnosis_node import GATES
from ansible_collections.faultline.gpu.plugins.module_utils._platform import SENTINEL
from ansible_collections.faultline.gpu.plugins.modules import drill_diagnosis
from fake_api import Api, Run

Object = dict[str, Any]
READY = {"type": "Ready", "status": "True"}


def named(kind: str, name: str, namespace: str | None = None, **more: Any) -> Object:
    meta = {"name": name, "generation": 1} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": {}} | more


def node(name: str, **spec: Any) -> Object:
    found = named("Node", name, spec=spec)
    found["metadata"]["labels"] = GATES | {"nvidia.com/gpu.present": "true"}
    found["status"] = {"allocatable": {"nvidia.com/gpu": "2"}, "conditions": [READY]}
    return found


def pod(name: str, namespace: str, at: str | None, label: str = "x") -> Object:
    limits = {"limits": {"nvidia.com/gpu": "1" if namespace == "drill" else "0"}}
    spec = {"nodeName": at, "containers": [{"name": "main", "resources": limits}]}
    found = named("Pod", name, namespace, spec=spec)
    found["metadata"]["labels"] = {"app.kubernetes.io/name": label}
    return found | {"status": {"phase": "Running" if at else "Pending", "conditions": [READY]}}


@pytest.fixture
def healthy(api: Api) -> Api:
    """A cluster on which a drill runs, with NVSentinel watching two nodes."""
    counts = ("replicas", "readyReplicas", "updatedReplicas")
    more = ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled")
    status = {"observedGeneration": 1, **dict.fromkeys(counts + more, 1)}
    for kind, names in SENTINEL.items():
        for name in names:
            found = named(kind, name, "nvsentinel", spec={"replicas": 1}, status=status)
            api.put(found | {"apiVersion": "apps/v1"})
    config = '[[userNamespaces]]\nname = "*"\nmode = "Immediate"'
    api.put(named("ConfigMap", "node-drainer", "nvsentinel", data={"config.toml": config}))
    api.put(named("ConfigMap", "circuit-breaker", "nvsentinel", data={"status": "CLOSED"}))
    api.put(named("Namespace", "drill"))
    for name in ("a", "b"):
        api.put(node(name))
        api.put(pod(f"monitor-{name}", "nvsentinel", name, "syslog-health-monitor"))
        api.put(pod(f"connector-{name}", "nvsentinel", name, "nvsentinel"))
        detector = {"detector": {"armed": True}}
        api.put(named("GPUHost", name, status=detector))
        api.put(pod(f"w-{name}", "drill", name))
    return api


GIVEN = {"namespace": "drill", "node": "a"}


def subjects(result: Object) -> list[str]:
    return [row["subject"] for row in result["findings"]]


def test_a_healthy_cluster_has_no_findings_and_is_only_read(healthy: Api, run: Run) -> None:
    result = run(drill_diagnosis, **GIVEN)
    assert result["findings"] == []
    assert result["seen"] == (
        "2 pods in drill, 0 without a node; free GPUs {'a': 1, 'b': 1}; a: released"
    )
    assert (result["changed"], healthy.writes) == (False, [])


def test_each_kind_is_listed_once_in_each_place(healthy: Api, run: Run) -> None:
    run(drill_diagnosis, **GIVEN)
    # Events are kept per namespace: the drill's own, and those about nodes.
    assert sorted(healthy.lists) == [
        "ConfigMap", "DaemonSet", "Deployment", "Event", "Event", "Node", "Pod",
    ]  # fmt: skip


def test_what_pods_images_nvsentinel_and_namespace_lack_is_told_in_this_order(
    healthy: Api, run: Run
) -> None:
    image = pod("i", "drill", "b")
    waiting = {"reason": "ErrImagePull", "message": "manifest unknown"}
    image["status"]["containerStatuses"] = [
        {"name": "main", "image": "x", "state": {"waiting": waiting}}
    ]
    healthy.put(image)
    stuck = pod("p", "drill", None)
    stuck["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "gone"}
    stuck["status"]["conditions"] = []
    healthy.put(stuck)
    healthy.put(named("ConfigMap", "circuit-breaker", "nvsentinel", data={"status": "TRIPPED"}))
    healthy.remove(healthy.one("Deployment", "node-drainer", "nvsentinel"))
    healthy.remove(healthy.one("Pod", "monitor-a", "nvsentinel"))
    healthy.put(node("a", unschedulable=True))
    healthy.put(
        named(
            "ConfigMap",
            "node-drainer",
            "nvsentinel",
            data={"config.toml": '[[userNamespaces]]\nname = "ci"'},
        )
    )
    space = named("Namespace", "drill")
    space["metadata"]["deletionTimestamp"] = "t"
    healthy.put(space)
    assert subjects(run(drill_diagnosis, **GIVEN)) == [
        "pod i, container main",
        "pod p",
        "GPU nodes",
        "GPUs",
        "pod p",
        "NVSentinel",
        "NVSentinel's circuit breaker",
        "node a",
        "node a",
        "NVSentinel's node-drainer",
        "namespace drill",
    ]  # fmt: skip


def test_a_fault_that_must_have_been_seen_is_asked_for_by_its_run(healthy: Api, run: Run) -> None:
    assert subjects(run(drill_diagnosis, **GIVEN, run_id="run-1")) == ["node a"]
    message = {"message": "Xid 94 run=run-1", "reason": "SysLogsXIDErrorIsNotHealthy"}
    healthy.put(named("Event", "e", "default", involvedObject={"name": "a"}, **message))
    (found,) = run(drill_diagnosis, **GIVEN, run_id="run-1")["findings"]
    assert "not fatal" in found["problem"]


def test_without_a_target_nvsentinel_is_looked_at_as_a_whole(healthy: Api, run: Run) -> None:
    healthy.put(named("ConfigMap", "circuit-breaker", "nvsentinel", data={"status": "TRIPPED"}))
    healthy.remove(healthy.one("Pod", "monitor-a", "nvsentinel"))
    result = run(drill_diagnosis, namespace="drill")
    assert subjects(result) == ["NVSentinel's circuit breaker"]
    assert "released" not in result["seen"]


def test_a_cluster_without_fault_service_and_nvsentinel_can_be_looked_at(
    healthy: Api, run: Run
) -> None:
    healthy.unknown.add("GPUHost")
    found = subjects(run(drill_diagnosis, namespace="drill", node="a", sentinel_namespace="none"))
    assert found == [
        "NVSentinel",
        "node a",
        "node a",
    ]


def test_a_node_that_is_not_there_is_named(healthy: Api, run: Run) -> None:
    assert "There is no node c" in run(drill_diagnosis, namespace="drill", node="c")["msg"]
