# SPDX-License-Identifier: Apache-2.0
"""fault-remediation: asks for a reboot of a drained node. GPU resets are mapped to reboots, as the
chart does by default."""

from __future__ import annotations

import json
import time
from typing import Any

from ..kube import Kube, Obj, Work
from .events import HEALTH_EVENT, mark, resume, stamp
from .quarantine import REMEDIATION, STATE, TAKEN, quarantined
from .settings import intervals

REBOOT = ("janitor.dgxc.nvidia.com/v1alpha1", "RebootNode")
GROUPS = {"COMPONENT_RESET": "restart", "RESTART_VM": "restart", "RESTART_BM": "restart"}


def conditions(found: Obj) -> dict[str, str]:
    """Condition statuses of a maintenance object by type."""
    return {c["type"]: c["status"] for c in (found.get("status") or {}).get("conditions") or []}


def annotation(node: Obj, key: str) -> str:
    """Value of a node's annotation, empty without one."""
    text: str = (node["metadata"].get("annotations") or {}).get(key) or ""
    return text


def reboot_node(node: Obj, event_id: str) -> Obj:
    """The RebootNode for an event."""
    meta = node["metadata"]
    return {
        "apiVersion": REBOOT[0],
        "kind": REBOOT[1],
        "metadata": {
            "name": f"maintenance-{meta['name']}-{event_id}",
            "labels": {"app.kubernetes.io/managed-by": "nvsentinel"},
            "annotations": {
                "nvsentinel.nvidia.com/trace-id": "0" * 32,
                "nvsentinel.nvidia.com/span-id": "",
                "nvsentinel.nvidia.com/ttl": "336h",
            },
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {"nodeName": meta["name"], "force": False},
    }


def remediation_state(name: str, action: str) -> str:
    """The annotation that names the maintenance of each group of equivalent actions."""
    seconds, nanos = divmod(time.time_ns(), 10**9)
    made = f"{stamp(seconds)[:-1]}.{nanos:09d}Z"
    content = {"maintenanceCR": name, "createdAt": made, "actionName": action}
    return json.dumps({"equivalenceGroups": {GROUPS[action]: content}}, separators=(",", ":"))


def requested(node: Obj, group: str) -> str:
    """Name of the maintenance that the annotation names for a group, empty without one."""
    groups = json.loads(annotation(node, REMEDIATION) or "{}").get("equivalenceGroups", {})
    name: str = groups.get(group, {}).get("maintenanceCR", "")
    return name


class Remediation:
    """The component."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.work = Work(self.look)

    def run(self) -> None:
        """Work for ever."""
        resume(self.kube, "fault-remediation")
        self.kube.follow(*HEALTH_EVENT, self._event)
        self.work.run()

    def _event(self, op: str, found: Obj) -> None:
        status = found.get("status") or {}
        drained = status.get("userPodsEvictionStatus") == "Succeeded"
        if op == "DELETED":
            return
        if status.get("nodeQuarantined") in ("UnQuarantined", "Cancelled"):
            self.work.add(("node", found["spec"]["nodeName"]))
        elif drained and not status.get("faultRemediated"):
            self.work.add(("event", found["metadata"]["name"]))

    def look(self, key: tuple[str, str]) -> float | None:
        """Handle one drained event, or one node that has left quarantine."""
        kind, name = key
        if kind == "node":
            node = self.kube.get("v1", "Node", name)
            if node and annotation(node, REMEDIATION) and not quarantined(node):
                self.change(node, {"annotations": {REMEDIATION: None}})
            return None
        found = self.kube.get(*HEALTH_EVENT, name)
        status = (found or {}).get("status") or {}
        if not found or status.get("faultRemediated"):
            return None
        node = self.kube.get("v1", "Node", found["spec"]["nodeName"])
        if not node or status.get("nodeQuarantined") not in TAKEN:
            return None
        action = found["spec"]["recommendedAction"]
        if action not in GROUPS:
            self.label(node, "remediation-failed")
        elif self.busy(node, GROUPS[action]):
            return intervals().busy
        else:
            self.request(node, found["metadata"]["uid"], action)
        mark(self.kube, found, faultRemediated=True)
        return None

    def busy(self, node: Obj, group: str) -> bool:
        """Whether maintenance of the same group is under way on the node."""
        name = requested(node, group)
        found = self.kube.get(*REBOOT, name) if name else None
        return found is not None and conditions(found).get("NodeReady") not in ("True", "False")

    def request(self, node: Obj, event_id: str, action: str) -> None:
        """Ask for a reboot; what an earlier finished one has left behind goes first."""
        if annotation(node, REMEDIATION):
            self.change(node, {"annotations": {REMEDIATION: None}})
        self.label(node, "remediating")
        wanted = reboot_node(node, event_id)
        self.kube.create(wanted)
        text = remediation_state(wanted["metadata"]["name"], action)
        self.change(node, {"annotations": {REMEDIATION: text}})
        # Created is all that this label says; nobody has rebooted anything yet.
        self.label(node, "remediation-succeeded")

    def change(self, node: Obj, metadata: dict[str, Any]) -> None:
        """Change the node's metadata."""
        self.kube.patch("v1", "Node", node["metadata"]["name"], {"metadata": metadata})

    def label(self, node: Obj, value: str) -> None:
        """Set the state label."""
        self.change(node, {"labels": {STATE: value}})


def run(kube: Kube) -> None:
    """Work for ever; raises what keeps it from beginning, so that the pod is started again."""
    Remediation(kube).run()
