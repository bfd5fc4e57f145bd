# SPDX-License-Identifier: Apache-2.0
"""What the components of the stand-in of NVSentinel decide, where no recording shows it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from jinja2 import Environment
from sentinel_cluster import Cluster, event, node

from lab.kube import Kube
from lab.sentinel import quarantine
from lab.sentinel.connector import Connector
from lab.sentinel.drain import DrainerLoop, drainable
from lab.sentinel.janitor import BOOT_ID, Janitor
from lab.sentinel.quarantine import EVENTS, Quarantine, entry, heal, release, trips
from lab.sentinel.remediation import Remediation, reboot_node, remediation_state
from lab.sentinel.settings import PROFILES, Drainer, drainer, intervals

Object = dict[str, Any]
LAB = Path(__file__).parents[3] / "lab"


def kube(cluster: Cluster) -> Kube:
    return cast(Kube, cluster)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_PROFILE", "fast")


# Settings.


@pytest.mark.parametrize(
    ("profile", "looks"),
    [("realistic", [10, 30, 70, 150, 270, 390]), ("fast", [1, 2, 4, 8, 16, 24])],
)
def test_the_drainer_looks_again_after_growing_pauses(profile: str, looks: list[float]) -> None:
    pauses = [PROFILES[profile].pause(n) for n in range(1, 7)]
    assert list(itertools.accumulate(pauses)) == looks


def test_the_realistic_profile_has_the_values_of_the_chart() -> None:
    values = PROFILES["realistic"]
    assert (values.poll, values.busy, values.breaker_window) == (15, 30, 300)
    # The provider that only pretends takes three to five seconds.
    assert 3 <= values.signal <= 5


def test_without_a_profile_the_intervals_are_realistic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SENTINEL_PROFILE")
    assert intervals() is PROFILES["realistic"]


@pytest.fixture
def settings(tmp_path: Path) -> Drainer:
    """Settings of the drainer as the manifest has them, in the chart's default mode."""
    text = (LAB / "sentinel" / "manifests" / "sentinel.yaml.j2").read_text()
    values = {"lab_stack_sentinel_eviction_timeout": 60, "lab_stack_image_stamps": {"lab-dev": ""}}
    mode = {"lab_stack_sentinel_drain_mode": "AllowCompletion", "lab_stack_sentinel_breaker": True}
    rendered = Environment(trim_blocks=True).from_string(text).render(values | mode)
    objects = [o for o in yaml.safe_load_all(rendered) if o and o["kind"] == "ConfigMap"]
    (tmp_path / "config.toml").write_text(objects[0]["data"]["config.toml"])
    return drainer(tmp_path / "config.toml")


def test_the_manifest_has_the_drainer_values_of_the_chart(settings: Drainer) -> None:
    assert (settings.eviction_timeout, settings.delete_after_minutes) == (60, 60)
    assert settings.not_ready_minutes == 5
    assert settings.mode("drill") == "AllowCompletion"
    system = ("nvsentinel", "kube-system", "gpu-operator", "gmp-system", "network-operator")
    assert [settings.mode(name) for name in (*system, "skyhook")] == [None] * 6


# Drain.


def pod(**parts: Any) -> Object:
    status = {"phase": "Running", "conditions": parts.pop("conditions", [])}
    meta = {"name": "worker", "namespace": "drill", **parts.pop("metadata", {})}
    return {"metadata": meta, "status": status | parts}


AT = 1795507332.0
SOON, LONG_AGO = "2026-11-24T08:01:32Z", "2026-11-24T07:52:12Z"


@pytest.mark.parametrize(
    ("found", "drained"),
    [
        (pod(), True),
        (pod(metadata={"namespace": "kube-system"}), False),
        (pod(metadata={"ownerReferences": [{"kind": "ReplicaSet"}]}), True),
        (pod(metadata={"ownerReferences": [{"kind": "DaemonSet"}]}), False),
        (pod(phase="Succeeded"), False),
        (pod(phase="Failed"), False),
        (pod(metadata={"deletionTimestamp": SOON}), True),
        (pod(metadata={"deletionTimestamp": LONG_AGO}), False),
        (pod(conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": SOON}]), True),
        (
            pod(conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": LONG_AGO}]),
            False,
        ),
        (
            pod(conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": LONG_AGO}]),
            True,
        ),
    ],
)
def test_a_drain_leaves_pods_alone_that_nobody_would_wait_for(
    settings: Drainer, found: Object, drained: bool
) -> None:
    assert bool(drainable(found, settings, AT)) is drained


def test_an_event_that_is_being_drained_is_not_looked_at_early_because_it_changes() -> None:
    loop = DrainerLoop(kube(Cluster()))
    found = event("a", nodeQuarantined="Quarantined")
    loop._event("ADDED", found)
    assert loop.work.waiting.get_nowait() == "a"
    loop.work.known.clear()
    loop._event("MODIFIED", found | {"status": found["status"] | {"connected": True}})
    assert loop.work.waiting.empty()


# Connector.


def test_an_event_counts_once_although_others_mark_it_before_the_connector_does() -> None:
    quiet = {"isFatal": False, "recommendedAction": "NONE", "errorCode": ["94"]}
    cluster = Cluster(node(), event("a"))
    found = cluster.list("", "HealthEvent")[0]
    found["spec"] |= quiet
    connector = Connector(kube(cluster), "gpu-node-1")
    connector.handle("ADDED", found)
    connector.handle("MODIFIED", found | {"status": {"nodeQuarantined": "Skipped"}})
    assert [made["count"] for made in cluster.list("", "Event")] == [1]


# Quarantine.


@pytest.mark.parametrize(
    ("nodes", "cordons", "open_"),
    [
        (0, 0, False),
        (1, 0, False),
        (1, 1, True),
        (2, 1, True),
        (3, 1, False),
        (3, 2, True),
        (4, 2, True),
        (5, 2, False),
    ],
)
def test_the_breaker_opens_at_half_of_the_nodes(nodes: int, cordons: int, open_: bool) -> None:
    assert trips([100.0] * cordons, 200.0, 300.0, nodes) is open_
    assert not trips([100.0] * cordons, 500.0, 300.0, nodes)


def test_an_open_breaker_stays_open_until_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRCUIT_BREAKER", "true")
    breaker = {"kind": "ConfigMap", "metadata": {"name": "circuit-breaker"}}
    cluster = Cluster(breaker | {"data": {"status": "TRIPPED"}}, node(), event("a"))
    component = Quarantine(kube(cluster))
    component.look(("event", "a"))
    cluster.patch("v1", "ConfigMap", "circuit-breaker", {"data": {"status": "CLOSED"}})
    component.look(("event", "a"))
    assert not cluster.objects[("Node", "gpu-node-1")]["spec"]
    Quarantine(kube(cluster)).look(("event", "a"))
    assert cluster.objects[("Node", "gpu-node-1")]["spec"] == {"unschedulable": True}


@pytest.mark.parametrize("key", quarantine.OPT_OUT)
def test_a_node_that_opted_out_is_left_alone(key: str) -> None:
    cluster = Cluster(node(labels={key: "false"}), event("a"))
    Quarantine(kube(cluster)).look(("event", "a"))
    assert [kind for _, kind, _ in cluster.log] == ["HealthEvent"]


def test_a_reset_of_one_gpu_leaves_the_entries_of_another() -> None:
    entries = [
        entry(Cluster(event(name, code=code)).list("", "HealthEvent")[0])
        for name, code in (("a", "79"), ("b", "119"))
    ]
    entries[1]["entitiesImpacted"] = [{"entityType": "PCI", "entityValue": "0000:1b:00"}]
    quarantined = node(annotations={EVENTS: quarantine.encoded(entries)})
    reset = event("c", healthy=True)["spec"] | {"entitiesImpacted": entries[0]["entitiesImpacted"]}
    assert heal(quarantined, reset) == entries[1:]
    assert heal(quarantined, reset | {"checkName": "SysLogsSXIDError"}) is None
    assert heal(quarantined, event("d", healthy=True)["spec"]) == []


def test_a_long_ruleset_name_is_cut_so_that_the_label_stays_valid() -> None:
    reason = release(node())["metadata"]["labels"][f"{quarantine.PREFIX}uncordon-reason"]
    assert reason == "Syslog-fatal-error-ruleset-removed"
    assert len(reason) <= 63


# Remediation and janitor.


def test_an_event_waits_while_maintenance_of_its_node_is_under_way() -> None:
    request = reboot_node(node(uid="u"), "first")
    state = remediation_state(request["metadata"]["name"], "RESTART_BM")
    busy = node(annotations={"latestFaultRemediationState": state})
    ready = event("b", nodeQuarantined="AlreadyQuarantined", userPodsEvictionStatus="Succeeded")
    cluster = Cluster(busy, request, ready)
    component = Remediation(kube(cluster))
    assert component.look(("event", "b")) == intervals().busy
    assert cluster.log == []
    done = {"status": {"conditions": [{"type": "NodeReady", "status": "True"}]}}
    cluster.patch("", "RebootNode", request["metadata"]["name"], done)
    assert component.look(("event", "b")) is None
    assert len(cluster.list("", "RebootNode")) == 2


def test_a_gpu_reset_is_asked_for_as_a_reboot_as_the_chart_does_by_default() -> None:
    drained = event(
        "a", code="119", nodeQuarantined="Quarantined", userPodsEvictionStatus="Succeeded"
    )
    cluster = Cluster(node(), drained)
    Remediation(kube(cluster)).look(("event", "a"))
    assert len(cluster.list("", "RebootNode")) == 1
    text = cluster.objects[("Node", "gpu-node-1")]["metadata"]["annotations"]
    assert '"restart":{' in text["latestFaultRemediationState"]
    assert '"actionName":"COMPONENT_RESET"' in text["latestFaultRemediationState"]


def test_the_janitor_does_not_touch_a_node_that_another_request_holds() -> None:
    lease = {"kind": "Lease", "metadata": {"name": "gpu-node-1", "ownerReferences": [{"uid": "x"}]}}
    request = reboot_node(node(uid="u"), "second")
    cluster = Cluster(node(), request, lease)
    assert Janitor(kube(cluster)).look(request["metadata"]["name"]) == intervals().busy
    assert cluster.log == []


def test_a_reboot_is_done_only_when_the_node_is_ready_with_another_boot_id() -> None:
    request = reboot_node(node(uid="u"), "first")
    name = request["metadata"]["name"]
    cluster = Cluster(node(), request)
    janitor = Janitor(kube(cluster))
    janitor.look(name)
    assert cluster.objects[("RebootNode", name)]["metadata"]["annotations"][BOOT_ID] == "before"
    janitor.look(name)
    assert ("Lease", "gpu-node-1") in cluster.objects
    unready = [{"type": "Ready", "status": "False"}]
    booting = {"status": {"nodeInfo": {"bootID": "after"}, "conditions": unready}}
    cluster.patch("", "Node", "gpu-node-1", booting)
    janitor.look(name)
    assert ("Lease", "gpu-node-1") in cluster.objects
    cluster.patch(
        "", "Node", "gpu-node-1", {"status": {"conditions": [unready[0] | {"status": "True"}]}}
    )
    janitor.look(name)
    assert ("Lease", "gpu-node-1") not in cluster.objects
