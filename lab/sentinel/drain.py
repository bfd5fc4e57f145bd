# SPDX-License-Identifier: Apache-2.0
"""node-drainer: empties a quarantined node of the pods of user namespaces."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Any

from ..kube import Kube, Obj, Work
from .events import HEALTH_EVENT, mark, resume, stamp
from .quarantine import STATE, TAKEN
from .settings import Drainer, drainer, intervals

COMPONENT = "nvsentinel-node-drainer"
log = logging.getLogger("lab.sentinel.drain")


def seconds_since(moment: str, now: float) -> float:
    """Seconds since an RFC 3339 time stamp; negative before it."""
    return now - datetime.fromisoformat(moment).timestamp()


def hopeless(pod: Obj, minutes: float, now: float) -> bool:
    """Whether a pod has been unready, or overdue to end, for so long that nobody waits for it."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    unready = {"type": "Ready", "status": "False"}.items()
    since = [c["lastTransitionTime"] for c in conditions if unready <= c.items()]
    since += [at for at in [pod["metadata"].get("deletionTimestamp")] if at]
    return any(seconds_since(at, now) > minutes * 60 for at in since)


def drainable(pod: Obj, settings: Drainer, now: float) -> str | None:
    """Mode in which a pod is drained, None when it is left alone."""
    meta, status = pod["metadata"], pod.get("status") or {}
    owners = [o["kind"] for o in meta.get("ownerReferences") or []]
    if "DaemonSet" in owners or status.get("phase") in ("Succeeded", "Failed"):
        return None
    if hopeless(pod, settings.not_ready_minutes, now):
        return None
    return settings.mode(meta["namespace"])


def waiting_event(node: Obj, pods: list[Obj]) -> Obj:
    """The Event that says for which pods the drainer waits."""
    names = ", ".join(sorted(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods))
    meta, now = node["metadata"], stamp()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta['name']}-", "namespace": "default"},
        "type": "NodeDraining",
        "reason": "AwaitingPodCompletion",
        "message": f"Waiting for following pods to finish: [{names}]",
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Node",
            "name": meta["name"],
            "uid": meta["uid"],
        },
        "source": {"component": COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


class DrainerLoop:
    """The component. Looks again after growing pauses, not when a pod goes: as the real one."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.work = Work(self.look)
        self.taken: set[str] = set()
        self.tries: dict[str, int] = {}
        self.said: dict[str, str] = {}

    def run(self) -> None:
        """Work for ever."""
        resume(self.kube, "node-drainer")
        self.kube.follow(*HEALTH_EVENT, self._event)
        self.work.run()

    def _event(self, op: str, found: Obj) -> None:
        status, name = found.get("status") or {}, found["metadata"]["name"]
        taken = status.get("nodeQuarantined") in TAKEN and not status.get("userPodsEvictionStatus")
        if op == "DELETED" or not taken:
            self.taken.discard(name)
            self.tries.pop(name, None)
        elif name not in self.taken:
            # Once only: what happens to the event later does not bring the next look forward.
            self.taken.add(name)
            self.work.add(name)

    def pods(self, node: str, settings: Drainer) -> dict[str, list[Obj]]:
        """Pods of a node that are to go, by mode."""
        found: dict[str, list[Obj]] = {}
        for pod in self.kube.list("v1", "Pod", field_selector=f"spec.nodeName={node}"):
            mode = drainable(pod, settings, time.time())
            if mode:
                found.setdefault(mode, []).append(pod)
        return found

    def look(self, name: str) -> float | None:
        """One look at one event's node; returns the pause before the next."""
        found = self.kube.get(*HEALTH_EVENT, name)
        status = (found or {}).get("status") or {}
        if not found or status.get("userPodsEvictionStatus"):
            return None
        if status.get("nodeQuarantined") not in TAKEN:
            return None
        settings, node = drainer(), found["spec"]["nodeName"]
        pods = self.pods(node, settings)
        if not any(pods.values()):
            if status["nodeQuarantined"] == "Quarantined":
                self.label(node, "drain-succeeded")
            mark(self.kube, found, userPodsEvictionStatus="Succeeded")
            return None
        if name not in self.tries:
            self.label(node, "draining")
        self.act(found, node, pods, settings)
        self.tries[name] = self.tries.get(name, 0) + 1
        return intervals().pause(self.tries[name])

    def act(self, found: Obj, node: str, pods: dict[str, list[Obj]], settings: Drainer) -> None:
        """Evict, wait, or delete by force, in this order of modes."""
        for pod in pods.get("Immediate", []):
            meta = pod["metadata"]
            if not meta.get("deletionTimestamp"):
                code = self.kube.evict(meta["name"], meta["namespace"], settings.eviction_timeout)
                log.info("evict %s/%s: %s", meta["namespace"], meta["name"], code)
        if pods.get("Immediate"):
            return
        made = found["metadata"]["creationTimestamp"]
        late = seconds_since(made, time.time()) > settings.delete_after_minutes * 60
        for pod in pods.get("DeleteAfterTimeout", []) if late else []:
            meta = pod["metadata"]
            self.kube.delete(
                "v1", "Pod", meta["name"], meta["namespace"], body={"gracePeriodSeconds": 0}
            )
        if pods.get("AllowCompletion"):
            self.say(node, pods["AllowCompletion"])

    def say(self, node: str, pods: list[Obj]) -> None:
        """Say for which pods the drainer waits: one Event, counted up."""
        found = self.kube.get("v1", "Node", node)
        if not found:
            return
        made = waiting_event(found, pods)
        known = self.said.get(node)
        old = self.kube.get("v1", "Event", known, "default") if known else None
        if old and old["message"] == made["message"]:
            more: dict[str, Any] = {"count": old["count"] + 1, "lastTimestamp": stamp()}
            self.kube.patch("v1", "Event", known or "", more, "default")
            return
        new = self.kube.create(made)
        if new:
            self.said[node] = new["metadata"]["name"]

    def label(self, node: str, value: str) -> None:
        """Set the state label."""
        self.kube.patch("v1", "Node", node, {"metadata": {"labels": {STATE: value}}})


def run(kube: Kube) -> None:
    """Work for ever; raises what keeps it from beginning, so that the pod is started again."""
    DrainerLoop(kube).run()
