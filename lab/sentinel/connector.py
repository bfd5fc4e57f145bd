# SPDX-License-Identifier: Apache-2.0
"""platform-connectors: a fatal event becomes a node condition, another one a Kubernetes Event."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from ..kube import Kube, Obj
from .events import HEALTH_EVENT, stamp
from .parse import AGENT, CHECKS, HEALTHY, condition_text

LONGEST = 1024


def faulty_message(before: str, event: dict[str, Any]) -> str:
    """The condition's message with one more entry; entries are joined and closed by `;`."""
    entries = [e for e in before.split(";") if e] if before != HEALTHY else []
    entry = condition_text(event)
    if entry not in entries:
        entries.append(entry)
    text = "".join(f"{e};" for e in entries)
    return text if len(text) <= LONGEST else "".join(f"{e[:72]};" for e in entries)[:LONGEST]


def healthy_message(before: str, event: dict[str, Any]) -> str:
    """The condition's message after a healthy event; entities of none mean all of them."""
    about = [f"{e['entityType']}:{e['entityValue']}" for e in event["entitiesImpacted"]]
    entries = [e for e in before.split(";") if e] if before != HEALTHY else []
    left = [e for e in entries if about and not any(a in e for a in about)]
    return "".join(f"{e};" for e in left) or HEALTHY


def condition(node: Obj, event: dict[str, Any], now: str) -> dict[str, Any]:
    """The condition of the event's check after the event."""
    check = event["checkName"]
    found: dict[str, Any] = next(
        (c for c in node["status"].get("conditions") or [] if c["type"] == check), {}
    )
    before = found.get("message", HEALTHY)
    change = healthy_message if event["isHealthy"] else faulty_message
    message = change(before, event)
    status = "False" if message == HEALTHY else "True"
    moved = status != found.get("status")
    return {
        "type": check,
        "status": status,
        "reason": f"{check}{'IsHealthy' if status == 'False' else 'IsNotHealthy'}",
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now if moved else found.get("lastTransitionTime", now),
    }


def kubernetes_event(event: dict[str, Any], now: str) -> Obj:
    """The Event of a fault that is not fatal. Its subject's uid is the node's name, as recorded."""
    node, check = event["nodeName"], event["checkName"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{node}.{time.time_ns():x}", "namespace": "default"},
        "type": check,
        "reason": f"{check}IsNotHealthy",
        "message": f"{condition_text(event)};",
        "involvedObject": {"kind": "Node", "name": node, "uid": node},
        "source": {"component": AGENT, "host": node},
        "reportingComponent": AGENT,
        "reportingInstance": node,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


class Connector:
    """One node's connector."""

    def __init__(self, kube: Kube, node: str) -> None:
        self.kube, self.node = kube, node

    def handle(self, op: str, found: Obj) -> None:
        """Write what an event means; each event once."""
        event, status = found["spec"], found.get("status") or {}
        if op == "DELETED" or event["nodeName"] != self.node or status.get("connected"):
            return
        if event["isHealthy"] or event["isFatal"]:
            node = self.kube.get("v1", "Node", self.node)
            if node:
                change = {"status": {"conditions": [condition(node, event, stamp())]}}
                # Conditions merge by their type only in a strategic merge.
                self.patch_conditions(change)
        else:
            self.count(event)
        name = found["metadata"]["name"]
        self.kube.patch(*HEALTH_EVENT, name, {"status": {"connected": True}}, subresource="status")

    def patch_conditions(self, change: Obj) -> None:
        """Strategic merge patch of the node's status."""
        nodes = self.kube.dynamic.resources.get(api_version="v1", kind="Node")
        nodes.subresources["status"].patch(
            body=change,
            name=self.node,
            content_type="application/strategic-merge-patch+json",
            field_manager="platform-connectors",
        )

    def count(self, event: dict[str, Any]) -> None:
        """Create the Event, or count one with the same text once more."""
        made = kubernetes_event(event, stamp())
        for old in self.kube.list("v1", "Event", namespace="default"):
            if (old.get("message"), old["involvedObject"].get("name")) == (
                made["message"],
                self.node,
            ):
                more = {"count": old["count"] + 1, "lastTimestamp": made["lastTimestamp"]}
                self.kube.patch("v1", "Event", old["metadata"]["name"], more, "default")
                return
        self.kube.create(made)


def run(kube: Kube) -> None:
    """Handle events for ever."""
    connector = Connector(kube, os.environ["NODE_NAME"])
    node = kube.get("v1", "Node", connector.node) or {"status": {}}
    known = {c["type"] for c in node["status"].get("conditions") or []}
    for check in CHECKS:
        if check not in known:
            healthy = {"checkName": check, "isHealthy": True, "entitiesImpacted": []}
            change = {"status": {"conditions": [condition(node, healthy, stamp())]}}
            connector.patch_conditions(change)
    kube.follow(*HEALTH_EVENT, connector.handle)
    threading.Event().wait()
