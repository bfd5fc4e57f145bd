# SPDX-License-Identifier: Apache-2.0
"""fault-remediation: asks for a reboot of a drained node. GPU resets are mapped to reboots, as the
chart does by default."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

from ..kube import Kube, Obj, Work
from .events import HEALTH_EVENT, mark
from .quarantine import REMEDIATION, STATE

REBOOT = ("janitor.dgxc.nvidia.com/v1alpha1", "RebootNode")
GROUPS = {"COMPONENT_RESET": "restart", "RESTART_VM": "restart", "RESTART_BM": "restart"}


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
    now = datetime.now(UTC)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.time_ns() % 10**9:09d}Z"
    content = {"maintenanceCR": name, "createdAt": stamp, "actionName": action}
    return json.dumps({"equivalenceGroups": {GROUPS[action]: content}})


class Remediation:
    """The component."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.work = Work(self.look)

    def run(self) -> None:
        """Work for ever."""
        self.kube.follow(*HEALTH_EVENT, self._event)
        self.work.run()

    def _event(self, op: str, found: Obj) -> None:
        status = found.get("status") or {}
        drained = status.get("userPodsEvictionStatus") == "Succeeded"
        if op != "DELETED" and drained and not status.get("faultRemediated"):
            self.work.add(found["metadata"]["name"])

    def look(self, name: str) -> float | None:
        """Handle one drained event."""
        found = self.kube.get(*HEALTH_EVENT, name)
        status = (found or {}).get("status") or {}
        if not found or status.get("faultRemediated"):
            return None
        if status.get("nodeQuarantined") not in ("Quarantined", "AlreadyQuarantined"):
            return None
        node, action = self.kube.get("v1", "Node", found["spec"]["nodeName"]), ""
        if not node:
            return None
        action = found["spec"]["recommendedAction"]
        if action not in GROUPS:
            self.label(node, "remediation-failed")
        else:
            if (node["metadata"].get("annotations") or {}).get(REMEDIATION):
                self.change(node, {"annotations": {REMEDIATION: None}})
            self.label(node, "remediating")
            wanted = reboot_node(node, found["metadata"]["uid"])
            self.kube.create(wanted)
            text = remediation_state(wanted["metadata"]["name"], action)
            self.change(node, {"annotations": {REMEDIATION: text}})
            # Created is all that this label says; nobody has rebooted anything yet.
            self.label(node, "remediation-succeeded")
        mark(self.kube, found, faultRemediated=True)
        return None

    def change(self, node: Obj, metadata: dict[str, Any]) -> None:
        """Change the node's metadata."""
        name = node["metadata"]["name"]
        self.kube.patch("v1", "Node", name, {"metadata": metadata}, manager="fault-remediation")

    def label(self, node: Obj, value: str) -> None:
        """Set the state label."""
        self.change(node, {"labels": {STATE: value}})


def run(kube: Kube) -> None:
    """Work for ever."""
    threading.Thread(target=Remediation(kube).run, daemon=True).start()
    threading.Event().wait()
