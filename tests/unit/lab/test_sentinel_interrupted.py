# SPDX-License-Identifier: Apache-2.0
"""The stand-in of NVSentinel when a call fails in between, or a process ends: nothing is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from kubernetes.client import ApiException
from sentinel_cluster import Cluster, event, node

from lab.kube import Kube
from lab.sentinel import quarantine
from lab.sentinel.__main__ import COMPONENTS
from lab.sentinel.connector import Connector
from lab.sentinel.journal import CHECK, Files, Monitor
from lab.sentinel.quarantine import EVENTS, Quarantine, entry

Object = dict[str, Any]
LIMIT = 10.0


class Faltering(Cluster):
    """An API server that refuses one patch, number `refused` from 1, as while its store is away."""

    def __init__(self, *objects: Object, refused: int = 0) -> None:
        self.refused, self.patches, self.marked = refused, 0, threading.Semaphore(0)
        super().__init__(*objects)

    def follow(self, _version: str, kind: str, handler: Callable[[str, Object], None]) -> None:
        for found in self.list("", kind):
            handler("LISTED", found)

    def patch(
        self, _version: str, kind: str, name: str, change: Object, *_: str, **__: str
    ) -> Object | None:
        self.patches += 1
        if self.patches == self.refused:
            raise ApiException(status=500, reason="etcdserver: request timed out")
        done = super().patch(_version, kind, name, change)
        if kind == "HealthEvent":
            self.marked.release()
        return done

    def settled(self, component: Any, marks: int = 1) -> Object:
        """The status of the last event once the component has marked so many."""
        threading.Thread(target=component.run, daemon=True).start()
        assert all(self.marked.acquire(timeout=LIMIT) for _ in range(marks)), self.log
        found: Object = self.list("", "HealthEvent")[-1]["status"]
        return found


class Away(Cluster):
    """An API server that is not there."""

    def create(self, _body: Object) -> Object | None:
        raise ApiException(status=503, reason="Service Unavailable")

    def follow(self, *_: Any) -> None:
        raise ApiException(status=503, reason="Service Unavailable")


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_PROFILE", "fast")
    monkeypatch.setenv("NODE_NAME", "gpu-node-1")


@pytest.mark.parametrize(
    "name",
    ["platform-connectors", "fault-quarantine", "node-drainer", "fault-remediation", "janitor"],
)
def test_a_component_that_cannot_begin_ends_so_that_its_pod_is_started_again(name: str) -> None:
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(ApiException):
            COMPONENTS[name](cast(Kube, Away()))
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(LIMIT)


def test_a_fatal_event_becomes_a_condition_although_the_first_write_was_refused() -> None:
    cluster = Faltering(node(), event("a"), refused=1)
    status = cluster.settled(Connector(cast(Kube, cluster), "gpu-node-1"))
    assert status == {"connected": True}
    conditions = cluster.objects[("Node", "gpu-node-1")]["status"]["conditions"]
    assert [(c["type"], c["status"]) for c in conditions] == [("SysLogsXIDError", "True")]


def test_a_fault_whose_write_was_refused_is_not_written_after_its_end() -> None:
    cluster = Faltering(node(), event("a"), event("b", healthy=True), refused=1)
    status = cluster.settled(Connector(cast(Kube, cluster), "gpu-node-1"), marks=2)
    assert status == {"connected": True}
    conditions = cluster.objects[("Node", "gpu-node-1")]["status"]["conditions"]
    assert [(c["type"], c["status"]) for c in conditions] == [("SysLogsXIDError", "False")]


def test_an_event_whose_mark_was_refused_is_still_the_one_that_has_cordoned_the_node() -> None:
    cluster = Faltering(node(), event("a"), refused=2)
    status = cluster.settled(Quarantine(cast(Kube, cluster)))
    assert status == {"nodeQuarantined": "Quarantined"}


def test_a_node_that_was_taken_back_halfway_is_taken_back_to_the_end() -> None:
    cordoned = Cluster(event("a")).list("", "HealthEvent")[0]
    annotations = {EVENTS: quarantine.encoded([entry(cordoned)])}
    held = node(annotations=annotations) | {"spec": {"unschedulable": True}}
    cluster = Faltering(held, event("b", healthy=True), refused=2)
    status = cluster.settled(Quarantine(cast(Kube, cluster)))
    assert status == {"nodeQuarantined": "UnQuarantined"}
    found = cluster.objects[("Node", "gpu-node-1")]
    assert found["spec"] == {}
    assert EVENTS not in found["metadata"]["annotations"]


def test_the_monitors_place_is_never_half_written(tmp_path: Path) -> None:
    files = Files(state=tmp_path / "monitor/state.json")
    monitor = Monitor(cast(Kube, Cluster()), "gpu-node-1", files)
    monitor.save()
    with files.state.open() as old:
        monitor.state["check_last_cursors"][CHECK] = "s=1"
        monitor.save()
        assert json.load(old)["check_last_cursors"] == {}, "a reader has the whole old one"
    assert json.loads(files.state.read_text())["check_last_cursors"] == {CHECK: "s=1"}
    assert [f.name for f in files.state.parent.iterdir()] == ["state.json"]
