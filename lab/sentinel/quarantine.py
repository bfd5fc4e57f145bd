# SPDX-License-Identifier: Apache-2.0
"""fault-quarantine: cordons a node for a fatal event, takes that back for a healthy one."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from datetime import UTC, datetime
from typing import Any

from ..kube import Cache, Kube, Obj, Work
from .events import HEALTH_EVENT, forget_old, mark
from .parse import ACTIONS
from .settings import intervals

PREFIX = "k8saas.nvidia.com/"
STATE = "dgxc.nvidia.com/nvsentinel-state"
EVENTS = "quarantineHealthEvent"
CORDONED = "quarantineHealthEventIsCordoned"
PRE_EXISTING = "quarantineHealthEventCordonPreExisting"
MANUALLY = "quarantinedNodeUncordonedManually"
REMEDIATION = "latestFaultRemediationState"
RULESET = "Syslog-fatal-error-ruleset"
OPT_OUT = (f"{PREFIX}ManagedByNVSentinel", "nvsentinel.dgxc.nvidia.com/managed")
BREAKER = "circuit-breaker"
log = logging.getLogger("lab.sentinel.quarantine")


def timestamp() -> str:
    """Time of now in the form that fits a label."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def entry(found: Obj) -> dict[str, Any]:
    """A HealthEvent as it stands in the node's annotation: Go's encoding, enums as numbers."""
    spec = found["spec"]
    keys = ("version", "agent", "componentClass", "checkName", "isFatal", "message")
    rest = ("errorCode", "entitiesImpacted", "generatedTimestamp", "nodeName", "processingStrategy")
    return {
        **{key: spec[key] for key in keys},
        "recommendedAction": ACTIONS[spec["recommendedAction"]],
        **{key: spec[key] for key in rest},
        "metadata": {"trace_id": "0" * 32},
        "id": found["metadata"]["uid"],
    }


def quarantined(node: Obj) -> list[dict[str, Any]]:
    """Events for which the node is in quarantine; empty of none, and while it is taken back."""
    text = (node["metadata"].get("annotations") or {}).get(EVENTS)
    events: list[dict[str, Any]] = json.loads(text) if text else []
    return events


def managed(node: Obj) -> bool:
    """Whether the node has not opted out."""
    labels = node["metadata"].get("labels") or {}
    return not any(labels.get(key) == "false" for key in OPT_OUT)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two entries are about the same fault: check, code and an entity in common."""
    shared = [e for e in a["entitiesImpacted"] if e in b["entitiesImpacted"]]
    return a["checkName"] == b["checkName"] and a["errorCode"] == b["errorCode"] and bool(shared)


def cordon(node: Obj, event: dict[str, Any]) -> Obj | None:
    """Change of the node for a fatal event; None when it changes nothing."""
    before = quarantined(node)
    if before:
        if any(same(event, old) for old in before):
            return None
        return {"metadata": {"annotations": {EVENTS: json.dumps([*before, event])}}}
    annotations: dict[str, Any] = {EVENTS: json.dumps([event]), CORDONED: "True", MANUALLY: None}
    labels: dict[str, Any] = {STATE: "quarantined"}
    if node["spec"].get("unschedulable"):
        annotations[PRE_EXISTING] = "True"
    else:
        labels |= {
            f"{PREFIX}cordon-by": "NVSentinel",
            f"{PREFIX}cordon-reason": RULESET,
            f"{PREFIX}cordon-timestamp": timestamp(),
        }
    return {
        "metadata": {"annotations": annotations, "labels": labels},
        "spec": {"unschedulable": True},
    }


def heal(node: Obj, event: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Entries left after a healthy event, None when it changes nothing."""
    before = quarantined(node)
    about = event["entitiesImpacted"]

    def healed(old: dict[str, Any]) -> bool:
        if old["checkName"] != event["checkName"]:
            return False
        return not about or any(e in old["entitiesImpacted"] for e in about)

    left = [old for old in before if not healed(old)]
    return None if len(left) == len(before) else left


def release(node: Obj) -> Obj:
    """Change of the node when its last event has healed. A cordon that was there before stays."""
    annotations = {EVENTS: None, CORDONED: None, PRE_EXISTING: None}
    labels: dict[str, Any] = {STATE: None}
    change: Obj = {"metadata": {"annotations": annotations, "labels": labels}}
    if (node["metadata"].get("annotations") or {}).get(PRE_EXISTING) == "True":
        return change
    names = ("cordon-by", "cordon-reason", "cordon-timestamp")
    labels |= {f"{PREFIX}{name}": None for name in names}
    labels |= {
        f"{PREFIX}uncordon-by": "NVSentinel",
        f"{PREFIX}uncordon-reason": f"{RULESET[:55]}-removed",
        f"{PREFIX}uncordon-timestamp": timestamp(),
    }
    return {**change, "spec": {"unschedulable": None}}


def manual(node: Obj) -> Obj | None:
    """Change of a quarantined node that somebody has uncordoned; None of any other node.

    The cordon labels and the condition stay, as recorded.
    """
    annotations = node["metadata"].get("annotations") or {}
    if not quarantined(node) or node["spec"].get("unschedulable"):
        return None
    gone = {EVENTS: None, CORDONED: None, PRE_EXISTING: None, MANUALLY: "True"}
    if annotations.get(MANUALLY) == "True":
        gone.pop(MANUALLY)
    return {"metadata": {"annotations": gone, "labels": {STATE: None}}}


def trips(cordons: list[float], now: float, window: float, nodes: int, percent: int = 50) -> bool:
    """Whether so many nodes were cordoned within `window` seconds that something else is wrong."""
    threshold = math.ceil(nodes * percent / 100)
    return sum(1 for at in cordons if now - at <= window) >= threshold > 0


class Quarantine:
    """The component. Events are handled one at a time, in their order."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.breaker = os.environ.get("CIRCUIT_BREAKER", "false") == "true"
        self.cordons: dict[str, float] = {}
        self.work = Work(self.look)
        self.expected: set[str] = set()
        self.events: Cache
        self.nodes: Cache

    def run(self) -> None:
        """Work for ever."""
        self.nodes = self.kube.follow("v1", "Node", self._node)
        self.events = self.kube.follow(*HEALTH_EVENT, self._event)
        self.work.run()

    def _event(self, op: str, found: Obj) -> None:
        if op != "DELETED" and not (found.get("status") or {}).get("nodeQuarantined"):
            self.work.add(("event", found["metadata"]["name"]))

    def _node(self, _op: str, node: Obj) -> None:
        if manual(node):
            self.work.add(("node", node["metadata"]["name"]))

    def tripped(self) -> bool:
        """Whether the breaker is open, which outlives restarts; checked before every event."""
        if not self.breaker:
            return False
        found = self.kube.get("v1", "ConfigMap", BREAKER, "nvsentinel")
        if found and found["data"]["status"] == "TRIPPED":
            return True
        count = len(self.kube.list("v1", "Node", label_selector="nvidia.com/gpu.present=true"))
        window = intervals().breaker_window
        if not trips(list(self.cordons.values()), time.time(), window, count):
            return False
        data = {"data": {"status": "TRIPPED", "cursor": "RESUME"}}
        self.kube.patch("v1", "ConfigMap", BREAKER, data, "nvsentinel")
        return True

    def look(self, key: tuple[str, str]) -> float | None:
        """Handle one event, or one node that a human has uncordoned."""
        kind, name = key
        if kind == "node":
            node = self.kube.get("v1", "Node", name)
            change = manual(node) if node else None
            if change:
                self._patch(name, change)
                self._cancel(name)
            return None
        found = self.kube.get(*HEALTH_EVENT, name)
        if not found or (found.get("status") or {}).get("nodeQuarantined"):
            return None
        if self.tripped():
            return None
        node = self.kube.get("v1", "Node", found["spec"]["nodeName"])
        if not node:
            return None
        if found["spec"]["isHealthy"]:
            self._heal(found, node)
        elif found["spec"]["isFatal"] and managed(node):
            self._cordon(found, node)
        else:
            mark(self.kube, found, nodeQuarantined="Skipped")
        forget_old(self.kube)
        return None

    def _patch(self, name: str, change: Obj) -> None:
        self.kube.patch("v1", "Node", name, change, manager="fault-quarantine")

    def _cordon(self, found: Obj, node: Obj) -> None:
        name, already = node["metadata"]["name"], bool(quarantined(node))
        change = cordon(node, entry(found))
        if change:
            self._patch(name, change)
            if not already:
                self.cordons[name] = time.time()
        mark(self.kube, found, nodeQuarantined="AlreadyQuarantined" if already else "Quarantined")

    def _heal(self, found: Obj, node: Obj) -> None:
        name = node["metadata"]["name"]
        left = heal(node, found["spec"])
        if left:
            self._patch(name, {"metadata": {"annotations": {EVENTS: json.dumps(left)}}})
        elif left == []:
            # Seen in every recorded recovery: an empty list first, then the rest is taken back.
            self._patch(name, {"metadata": {"annotations": {EVENTS: "[]"}}})
            self._patch(name, release(node))
            self._patch(name, {"metadata": {"annotations": {REMEDIATION: None}}})
        if left is not None:
            self._cancel(name, found["spec"])
        mark(self.kube, found, nodeQuarantined="UnQuarantined")

    def _cancel(self, node: str, healthy: dict[str, Any] | None = None) -> None:
        """Take events of a node out of the other components' hands."""
        for found in self.events.values():
            status = found.get("status") or {}
            if found["spec"]["nodeName"] == node and status.get("nodeQuarantined") in (
                "Quarantined",
                "AlreadyQuarantined",
            ):
                about = [] if healthy is None else healthy["entitiesImpacted"]
                if not about or any(e in found["spec"]["entitiesImpacted"] for e in about):
                    mark(self.kube, found, nodeQuarantined="Cancelled")


def run(kube: Kube) -> None:
    """Work for ever."""
    quarantine = Quarantine(kube)
    if quarantine.breaker:
        body = {"metadata": {"name": BREAKER, "namespace": "nvsentinel"}}
        data = {"data": {"status": "CLOSED", "cursor": "RESUME"}}
        kube.create({"apiVersion": "v1", "kind": "ConfigMap"} | body | data)
    threading.Thread(target=quarantine.run, daemon=True).start()
    threading.Event().wait()
