# SPDX-License-Identifier: Apache-2.0
"""The verbs of `lab.kube.Kube` over objects in memory; every write is kept in `log`."""

from __future__ import annotations

import copy
import uuid
from typing import Any

Object = dict[str, Any]


def merge(before: Object, change: Object) -> Object:
    """JSON merge patch."""
    after = dict(before)
    for key, value in change.items():
        if value is None:
            after.pop(key, None)
        elif isinstance(value, dict):
            after[key] = merge(after.get(key) or {}, value)
        else:
            after[key] = value
    return after


class Cluster:
    """Objects by kind and name."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.log: list[tuple[str, str, Object]] = []
        for found in objects:
            self.create(found)
        self.log.clear()

    def create(self, body: Object) -> Object | None:
        key = (body["kind"], body["metadata"]["name"])
        if key in self.objects:
            return None
        made = copy.deepcopy(body)
        set_by_server = {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-11-24T08:02:22Z"}
        made["metadata"] = set_by_server | made["metadata"]
        self.objects[key] = made
        self.log.append(("create", body["kind"], body))
        return copy.deepcopy(made)

    def get(self, _version: str, kind: str, name: str, _namespace: str = "") -> Object | None:
        return copy.deepcopy(self.objects.get((kind, name)))

    def list(self, _version: str, kind: str, **_selectors: Any) -> list[Object]:
        return [copy.deepcopy(found) for (k, _), found in self.objects.items() if k == kind]

    def patch(
        self, _version: str, kind: str, name: str, change: Object, *_: str, **__: str
    ) -> Object | None:
        if (kind, name) not in self.objects:
            return None
        self.objects[(kind, name)] = merge(self.objects[(kind, name)], change)
        self.log.append(("patch", kind, change))
        return self.get("", kind, name)

    def delete(self, _version: str, kind: str, name: str, *_: str, **__: Any) -> None:
        self.objects.pop((kind, name), None)
        self.log.append(("delete", kind, {}))


def node(name: str = "gpu-node-1", **metadata: Any) -> Object:
    """A Ready node."""
    ready = {"type": "Ready", "status": "True"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, **metadata},
        "spec": {},
        "status": {"conditions": [ready], "nodeInfo": {"bootID": "before"}},
    }


def event(name: str, *, code: str = "79", healthy: bool = False, **status: Any) -> Object:
    """A HealthEvent about the first GPU of gpu-node-1; a healthy one is about all of it."""
    actions = {"79": "RESTART_BM", "119": "COMPONENT_RESET", "74": "CONTACT_SUPPORT"}
    gpu = {"entityType": "PCI", "entityValue": "0000:1a:00"}
    spec = {
        "nodeName": "gpu-node-1",
        "checkName": "SysLogsXIDError",
        "agent": "syslog-health-monitor",
        "componentClass": "GPU",
        "version": 1,
        "isHealthy": healthy,
        "isFatal": not healthy,
        "message": "No Health Failures" if healthy else f"MESSAGE=NVRM: Xid: {code}",
        "recommendedAction": "NONE" if healthy else actions[code],
        "errorCode": [] if healthy else [code],
        "entitiesImpacted": [] if healthy else [gpu],
        "generatedTimestamp": {"nanos": 1, "seconds": 1795507332},
        "processingStrategy": 1,
    }
    return {
        "apiVersion": "lab.faultline.dev/v1alpha1",
        "kind": "HealthEvent",
        "metadata": {"name": name},
        "spec": spec,
        "status": status,
    }
