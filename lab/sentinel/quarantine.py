# SPDX-License-Identifier: Apache-2.0
"""fault-quarantine: cordons a node for a fatal event, takes that back for a healthy one."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from datetime import UTC, datetime
from typing import Any

from ..kube import Kube, Obj, Work
from .events import HEALTH_EVENT, NAMESPACE, forget_old, mark, resume
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
# Fields of an entry of the annotation.
ENTRY = (
    *("version", "agent", "componentClass", "checkName", "isFatal", "message"),
    *("recommendedAction", "errorCode", "entitiesImpacted", "metadata", "generatedTimestamp"),
    *("nodeName", "processingStrategy", "id"),
)
# Marks of events that the drainer and the remediation have to deal with.
TAKEN = ("Quarantined", "AlreadyQuarantined")
log = logging.getLogger("lab.sentinel.quarantine")


def timestamp() -> str:
    """Time of now in the form that fits a label."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def entry(found: Obj) -> dict[str, Any]:
    """A HealthEvent as it stands in the node's annotation, in this order; enums are numbers."""
    at = found["spec"]["generatedTimestamp"]
    content = found["spec"] | {
        "recommendedAction": ACTIONS[found["spec"]["recommendedAction"]],
        "generatedTimestamp": {"seconds": at["seconds"], "nanos": at["nanos"]},
        "metadata": {"trace_id": "0" * 32},
        "id": found["metadata"]["uid"],
    }
    return {key: content[key] for key in ENTRY}


def encoded(events: list[dict[str, Any]]) -> str:
    """Entries as text, as Go writes it."""
    return json.dumps(events, separators=(",", ":"), ensure_ascii=False)


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
        return {"metadata": {"annotations": {EVENTS: encoded([*before, event])}}}
    annotations: dict[str, Any] = {EVENTS: encoded([event]), CORDONED: "True"}
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
    """Entries left after a healthy event, None when it changes nothing.

    A node with an empty list was not taken back to the end: that is no change, and yet to be done.
    """
    before = quarantined(node)
    about = event["entitiesImpacted"]

    def healed(old: dict[str, Any]) -> bool:
        if old["checkName"] != event["checkName"]:
            return False
        return not about or any(e in old["entitiesImpacted"] for e in about)

    left = [old for old in before if not healed(old)]
    halfway = not before and EVENTS in (node["metadata"].get("annotations") or {})
    return None if len(left) == len(before) and not halfway else left


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
    if not quarantined(node) or node["spec"].get("unschedulable"):
        return None
    annotations = {EVENTS: None, CORDONED: None, PRE_EXISTING: None, MANUALLY: "True"}
    return {"metadata": {"annotations": annotations, "labels": {STATE: None}}}


def trips(cordons: list[float], now: float, window: float, nodes: int, percent: int = 50) -> bool:
    """Whether so many nodes were cordoned within `window` seconds that something else is wrong."""
    threshold = math.ceil(nodes * percent / 100)
    return sum(1 for at in cordons if now - at <= window) >= threshold > 0


class Quarantine:
    """The component. Events are handled one at a time, in their order."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.breaker = os.environ.get("CIRCUIT_BREAKER", "false") == "true"
        self.halted = False
        self.cordons: dict[str, float] = {}
        self.work = Work(self.look)

    def run(self) -> None:
        """Work for ever."""
        resume(self.kube, "fault-quarantine")
        if self.breaker:
            body = {"metadata": {"name": BREAKER, "namespace": NAMESPACE}}
            data = {"data": {"status": "CLOSED", "cursor": "RESUME"}}
            self.kube.create({"apiVersion": "v1", "kind": "ConfigMap"} | body | data)
        self.kube.follow("v1", "Node", self._node)
        self.kube.follow(*HEALTH_EVENT, self._event)
        self.work.run()

    def _event(self, op: str, found: Obj) -> None:
        if op != "DELETED" and not (found.get("status") or {}).get("nodeQuarantined"):
            self.work.add(("event", found["metadata"]["name"]))

    def _node(self, _op: str, node: Obj) -> None:
        if manual(node):
            self.work.add(("node", node["metadata"]["name"]))

    def tripped(self) -> bool:
        """Whether the breaker is open; checked before every event.

        An open one outlives restarts in its ConfigMap, and is closed by nothing but a restart
        after somebody has closed it there.
        """
        if not self.breaker or self.halted:
            return self.halted
        found = self.kube.get("v1", "ConfigMap", BREAKER, NAMESPACE)
        if found and found["data"]["status"] == "TRIPPED":
            self.halted = True
            return True
        count = len(self.kube.list("v1", "Node", label_selector="nvidia.com/gpu.present=true"))
        window = intervals().breaker_window
        if trips(list(self.cordons.values()), time.time(), window, count):
            self.halted = True
            data = {"data": {"status": "TRIPPED"}}
            self.kube.patch("v1", "ConfigMap", BREAKER, data, NAMESPACE)
        return self.halted

    def look(self, key: tuple[str, str]) -> float | None:
        """Handle one event, or one node that a human has uncordoned."""
        kind, name = key
        if kind == "node":
            node = self.kube.get("v1", "Node", name)
            change = manual(node) if node else None
            if change:
                self._patch(name, change)
                self._cancel(name, [])
            return None
        found = self.kube.get(*HEALTH_EVENT, name)
        if not found or (found.get("status") or {}).get("nodeQuarantined"):
            return None
        if self.tripped():
            log.warning("%s waits: the circuit breaker is open", name)
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
        self.kube.patch("v1", "Node", name, change)

    def _cordon(self, found: Obj, node: Obj) -> None:
        name, before = node["metadata"]["name"], quarantined(node)
        # Its own entry is there when the mark below could not be written the first time.
        already = bool(before) and before[0]["id"] != found["metadata"]["uid"]
        change = cordon(node, entry(found))
        if (node["metadata"].get("annotations") or {}).get(MANUALLY):
            self._patch(name, {"metadata": {"annotations": {MANUALLY: None}}})
        if change:
            self._patch(name, change)
            if not already:
                self.cordons[name] = time.time()
        mark(self.kube, found, nodeQuarantined="AlreadyQuarantined" if already else "Quarantined")

    def _heal(self, found: Obj, node: Obj) -> None:
        name = node["metadata"]["name"]
        left = heal(node, found["spec"])
        if left is not None:
            # An empty list is seen in every recorded recovery before the rest is taken back.
            self._patch(name, {"metadata": {"annotations": {EVENTS: encoded(left)}}})
            if not left:
                self._patch(name, release(node))
            self._cancel(name, found["spec"]["entitiesImpacted"])
        mark(self.kube, found, nodeQuarantined="UnQuarantined" if left == [] else "Skipped")

    def _cancel(self, node: str, about: list[dict[str, Any]]) -> None:
        """Take events of a node, or those about some of its parts, out of the others' hands."""
        for found in self.kube.list(*HEALTH_EVENT):
            spec, status = found["spec"], found.get("status") or {}
            if spec["nodeName"] != node or status.get("nodeQuarantined") not in TAKEN:
                continue
            if not about or any(e in spec["entitiesImpacted"] for e in about):
                mark(self.kube, found, nodeQuarantined="Cancelled")


def run(kube: Kube) -> None:
    """Work for ever; raises what keeps it from beginning, so that the pod is started again."""
    Quarantine(kube).run()
