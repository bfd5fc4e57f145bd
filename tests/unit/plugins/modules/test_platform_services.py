# SPDX-License-Identifier: Apache-2.0
"""NATS and etcd are restarted and put back as they were, also by a later process."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._services import REPLICAS
from ansible_collections.faultline.gpu.plugins.modules import platform_services
from fake_api import Api, Run

Object = dict[str, Any]
SPACE = "dynamo-system"
FAST = {"timeout": 0.3}


def stateful(component: str, replicas: int = 1, instance: str = "dynamo-platform") -> Object:
    labels = {"app.kubernetes.io/instance": instance, "app.kubernetes.io/component": component}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": f"{instance}-{component}",
            "namespace": SPACE,
            "labels": labels,
            "generation": 1,
        },
        "spec": {
            "replicas": replicas,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        },
        "status": {},
    }


def graph(namespace: str) -> Object:
    meta = {"name": "agg", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "DynamoGraphDeployment", "metadata": meta, "spec": {}}


class Controller:
    """What Kubernetes does with StatefulSets: pods and claims come and go with the replicas."""

    def __init__(self, api: Api) -> None:
        self.api, self.put, self.works = api, api.put, True
        self.sizes: list[tuple[str, int]] = []
        self.notes: list[Any] = []
        self.born = 0
        api.put = self.taken  # type: ignore[method-assign]

    def taken(self, obj: Object) -> Object:
        if obj["kind"] != "StatefulSet":
            return self.put(obj)
        name, size = obj["metadata"]["name"], obj["spec"]["replicas"]
        self.sizes.append((name, size))
        self.notes.append((obj["metadata"].get("annotations") or {}).get(REPLICAS))
        obj["metadata"]["generation"] += 1
        made = self.put(obj)
        return self.settle(made) if self.works else made

    def settle(self, obj: Object) -> Object:
        meta, size = obj["metadata"], obj["spec"]["replicas"]
        for pod in [
            p for p in self.api.all("Pod") if p["metadata"]["name"].startswith(meta["name"])
        ]:
            if int(pod["metadata"]["name"].rsplit("-", 1)[1]) >= size:
                self.api.remove(pod)
        for ordinal in range(size):
            self.born += 1
            self.own("PersistentVolumeClaim", f"data-{meta['name']}-{ordinal}", meta["name"])
            self.own("Pod", f"{meta['name']}-{ordinal}", meta["name"])
        counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), size)
        return self.put(obj | {"status": {"observedGeneration": meta["generation"], **counts}})

    def own(self, kind: str, name: str, owner: str) -> None:
        if (kind, SPACE, name) in self.api.objects:
            return
        refs = [{"kind": "StatefulSet", "name": owner}]
        meta = {"name": name, "namespace": SPACE, "uid": self.born, "ownerReferences": refs}
        self.put({"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": {}})

    def uids(self, kind: str) -> dict[str, int]:
        return {o["metadata"]["name"]: o["metadata"]["uid"] for o in self.api.all(kind)}


@pytest.fixture
def platform(api: Api) -> Controller:
    """NATS with three replicas and etcd with one; something else beside them."""
    found = Controller(api)
    for obj in (stateful("nats", 3), stateful("etcd"), stateful("nats", instance="other")):
        api.put(obj)
    found.sizes.clear()
    found.notes.clear()
    api.writes.clear()
    return found


def annotation(api: Api, name: str) -> Any:
    meta = api.one("StatefulSet", f"dynamo-platform-{name}", SPACE)["metadata"]
    return (meta.get("annotations") or {}).get(REPLICAS)


def test_each_service_goes_to_zero_and_comes_back_with_as_many_replicas(
    api: Api, run: Run, platform: Controller
) -> None:
    pods, claims = platform.uids("Pod"), platform.uids("PersistentVolumeClaim")
    result = run(platform_services)
    assert result["changed"] is True
    assert result["services"] == {"dynamo-platform-etcd": 1, "dynamo-platform-nats": 3}
    assert platform.sizes[:2] == [("dynamo-platform-etcd", 0), ("dynamo-platform-nats", 0)]
    after = platform.uids("Pod")
    assert after.keys() == pods.keys()
    assert {n for n in pods if pods[n] == after[n]} == {"other-nats-0"}
    assert platform.uids("PersistentVolumeClaim") == claims
    assert (annotation(api, "nats"), annotation(api, "etcd")) == (None, None)


def test_the_replicas_to_come_back_to_are_written_with_the_change_that_takes_them_away(
    api: Api, run: Run, platform: Controller
) -> None:
    run(platform_services)
    down = [
        note for (_name, size), note in zip(platform.sizes, platform.notes, strict=True) if not size
    ]
    assert down == ["1", "3"]


def test_a_restart_that_was_killed_is_finished_by_a_fresh_process(
    api: Api, run: Run, platform: Controller
) -> None:
    for name, size in (("nats", 3), ("etcd", 1)):
        half = stateful(name, 0)
        half["metadata"]["annotations"] = {REPLICAS: str(size)}
        api.put(half)
    result = run(platform_services, state="restored")
    assert result["services"] == {"dynamo-platform-etcd": 1, "dynamo-platform-nats": 3}
    assert "dynamo-platform-nats: 3 of 3 ready" in result["seen"]
    assert len(platform.uids("Pod")) == 5
    assert annotation(api, "nats") is None
    again = run(platform_services, state="restored")
    assert (again["changed"], again["seen"]) == (False, "no restart was interrupted")


def test_a_second_restart_after_a_kill_still_knows_the_first_number(
    api: Api, run: Run, platform: Controller
) -> None:
    half = stateful("nats", 0)
    half["metadata"]["annotations"] = {REPLICAS: "3"}
    api.put(half)
    assert run(platform_services)["services"]["dynamo-platform-nats"] == 3


def test_what_never_comes_back_is_told_and_stays_known(
    api: Api, run: Run, platform: Controller
) -> None:
    platform.works = False
    half = stateful("nats", 0)
    half["metadata"]["annotations"] = {REPLICAS: "3"}
    api.put(half)
    result = run(platform_services, state="restored", **FAST)
    assert result["failed"] is True
    assert "dynamo-platform-nats: 0 of 3 ready" in result["msg"]
    assert annotation(api, "nats") == "3"


def test_pods_that_do_not_go_are_named_and_nothing_is_scaled_back_yet(
    api: Api, run: Run, platform: Controller
) -> None:
    platform.works = False
    result = run(platform_services, **FAST)
    assert result["failed"] is True
    assert "pods still there: dynamo-platform-etcd-0, dynamo-platform-nats-0" in result["msg"]
    assert {size for _name, size in platform.sizes} == {0}


def test_volumes_are_deleted_only_when_asked_for_and_only_those_of_the_services(
    api: Api, run: Run, platform: Controller
) -> None:
    claims = platform.uids("PersistentVolumeClaim")
    result = run(platform_services, delete_volumes=True)
    after = platform.uids("PersistentVolumeClaim")
    assert after.keys() == claims.keys()
    assert {n for n in claims if claims[n] == after[n]} == {"data-other-nats-0"}
    assert len(result["diff"]["before"]["volumes"]) == 4


@pytest.mark.parametrize(
    ("graphs", "options", "fine"),
    [
        ([], {}, True),
        (["drill-1"], {"run_namespace": "drill-1"}, True),
        (["prod"], {"run_namespace": "drill-1"}, False),
        (["drill-1"], {}, False),
        (["prod"], {"shared": True}, True),
    ],
)
def test_a_platform_that_serves_others_is_not_restarted_unless_they_may_be_hurt(
    api: Api, run: Run, platform: Controller, graphs: list[str], options: Object, fine: bool
) -> None:
    for namespace in graphs:
        api.put(graph(namespace))
    result = run(platform_services, **options)
    assert result.get("failed", False) is not fine
    if not fine:
        assert f"{graphs[0]}/agg" in result["msg"]
        assert platform.sizes == []


def test_check_mode_says_what_would_be_restarted_and_changes_nothing(
    api: Api, run: Run, platform: Controller
) -> None:
    result = run(platform_services, check=True, delete_volumes=True)
    assert result["changed"] is True
    assert result["diff"]["before"]["dynamo-platform-nats"] == {"replicas": 3, "restarted": False}
    assert result["diff"]["after"]["dynamo-platform-nats"] == {"replicas": 3, "restarted": True}
    assert (api.writes, platform.sizes) == ([], [])


def test_a_chart_without_etcd_is_no_error(api: Api, run: Run, platform: Controller) -> None:
    api.remove(api.one("StatefulSet", "dynamo-platform-etcd", SPACE))
    assert run(platform_services)["services"] == {"dynamo-platform-nats": 3}


def test_a_platform_without_both_says_so(api: Api, run: Run) -> None:
    result = run(platform_services)
    assert (result["changed"], result["services"]) == (False, {})
    assert result["seen"] == (
        "neither of nats and etcd runs as a StatefulSet of the release dynamo-platform in "
        "dynamo-system, so there is nothing to restart"
    )


def test_what_somebody_else_has_scaled_to_zero_stays_there(
    api: Api, run: Run, platform: Controller
) -> None:
    for name in ("nats", "etcd"):
        api.put(stateful(name, 0))
    platform.sizes.clear()
    result = run(platform_services)
    assert result["changed"] is False
    assert "scaled to 0 by somebody else" in result["seen"]
    assert platform.sizes == []
