# SPDX-License-Identifier: Apache-2.0
"""platform-connectors: a fatal event becomes a node condition, another one a Kubernetes Event."""

from __future__ import annotations

import os
import time
from typing import Any

from ..kube import Kube, Obj, Work
from .events import HEALTH_EVENT, mark, stamp
from .parse import AGENT, HEALTHY, condition_text

# Bytes of a condition's message, and characters of an entry when it has grown longer.
LONGEST, SHORT = 1024, 72


def _about(entry: str) -> tuple[str, str, set[str]]:
    """Code, action and entities of an entry."""
    head, _, tail = entry.partition(" MESSAGE=")
    code, *entities = head.split()
    return code, tail.rpartition("Recommended Action=")[2], set(entities)


def compact(entries: list[str]) -> str:
    """A message that has grown too long: one entry per fault, each without most of its text."""
    kept: list[tuple[str, str, set[str]]] = []
    text = ""
    for entry in entries:
        code, action, entities = _about(entry)
        if not any(k[:2] == (code, action) and k[2] & entities for k in kept):
            kept.append((code, action, entities))
            text += f"{entry[:SHORT]};"
    return text[:LONGEST]


def faulty_message(before: str, event: dict[str, Any]) -> str:
    """The condition's message with one more entry; entries are joined and closed by `;`."""
    entries = [e for e in before.split(";") if e] if before != HEALTHY else []
    entry = condition_text(event)
    if entry not in entries:
        entries.append(entry)
    text = "".join(f"{e};" for e in entries)
    return text if len(text.encode()) <= LONGEST else compact(entries)


def healthy_message(before: str, event: dict[str, Any]) -> str:
    """The condition's message after a healthy event; entities of none mean all of them."""
    about = [f"{e['entityType']}:{e['entityValue']}" for e in event["entitiesImpacted"]]
    entries = [e for e in before.split(";") if e] if before != HEALTHY else []
    left = [e for e in entries if about and not any(a in e for a in about)]
    return "".join(f"{e};" for e in left) or HEALTHY


def condition(node: Obj, event: dict[str, Any]) -> dict[str, Any]:
    """The condition of the event's check after the event; its times are the event's own."""
    check, now = event["checkName"], stamp(event["generatedTimestamp"]["seconds"])
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


def kubernetes_event(event: dict[str, Any]) -> Obj:
    """The Event of a fault that is not fatal. Its subject's uid is the node's name, as recorded."""
    node, check = event["nodeName"], event["checkName"]
    now = stamp(event["generatedTimestamp"]["seconds"])
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
        self.handled: set[str] = set()
        self.work = Work(self.look)

    def run(self) -> None:
        """Work for ever."""
        self.kube.follow(*HEALTH_EVENT, self._event)
        self.work.run()

    def _event(self, op: str, found: Obj) -> None:
        name = found["metadata"]["name"]
        if op == "DELETED":
            self.handle(op, found)
        elif found["spec"]["nodeName"] == self.node and name not in self.handled:
            # Not written here: what cannot be written now would not come a second time.
            self.work.add(self.node)

    def look(self, _node: str) -> None:
        """Handle the node's events in their order: a refused one must not come after its end."""
        events = self.kube.list(*HEALTH_EVENT)
        for found in sorted(events, key=lambda e: str(e["metadata"]["name"])):
            self.handle("MODIFIED", found)

    def handle(self, op: str, found: Obj) -> None:
        """Write what an event means; each event once."""
        event, status, name = found["spec"], found.get("status") or {}, found["metadata"]["name"]
        if op == "DELETED":
            self.handled.discard(name)
            return
        # Others mark the event as well, and their marks may be seen before this one's.
        done = status.get("connected") or name in self.handled
        if event["nodeName"] == self.node and not done:
            self.write(found)
            self.handled.add(name)

    def write(self, found: Obj) -> None:
        """Write what an event means."""
        event = found["spec"]
        if event["isHealthy"] or event["isFatal"]:
            node = self.kube.get("v1", "Node", self.node)
            if node:
                change = {"status": {"conditions": [condition(node, event)]}}
                # Conditions merge by their type only in a strategic merge.
                form = "strategic-merge-patch"
                self.kube.patch("v1", "Node", self.node, change, subresource="status", form=form)
        else:
            self.count(event)
        mark(self.kube, found, connected=True)

    def count(self, event: dict[str, Any]) -> None:
        """Create the Event, or count one with the same text once more."""
        made = kubernetes_event(event)
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
    """Work for ever; raises what keeps it from beginning, so that the pod is started again."""
    Connector(kube, os.environ["NODE_NAME"]).run()
