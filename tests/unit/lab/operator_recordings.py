# SPDX-License-Identifier: Apache-2.0
"""Reads the recordings of the real Dynamo operator, and takes out of objects what an API server
adds."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "data" / "recordings" / "dynamo"
Object = dict[str, Any]
SERVER_METADATA = ("uid", "resourceVersion", "creationTimestamp", "generation", "finalizers")
POD_DEFAULTS = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
}
CONTAINER_DEFAULTS = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
SERVICE_DEFAULTS = (
    "clusterIP", "clusterIPs", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy",
    "sessionAffinity", "type",
)  # fmt: skip


def dump(name: str) -> dict[str, list[Object]]:
    """One ``objects-*.json``: plural to objects."""
    found: dict[str, list[Object]] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def rows(name: str) -> list[Object]:
    """One ``*.jsonl``."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def dgd_of(name: str, version: str = "v1beta1") -> Object:
    """The graph of a dump, seen through an API version."""
    return dump(name)[f"dynamographdeployments.{version}.nvidia.com"][0]


def _without(values: Object, defaults: Object) -> Object:
    return {k: v for k, v in values.items() if k not in defaults or defaults[k] != v}


def _pod(spec: Object) -> Object:
    pod = _without(spec, POD_DEFAULTS)
    pod.pop("serviceAccount", None)
    for key in ("containers", "initContainers"):
        if key in pod:
            pod[key] = [_without(c, CONTAINER_DEFAULTS) for c in pod[key]]
            for container in pod[key]:
                if key == "initContainers":
                    container.pop("imagePullPolicy", None)
    for volume in pod.get("volumes", []):
        volume.get("configMap", {}).pop("defaultMode", None)
    return pod


def as_applied(obj: Object) -> Object:
    """The object without what only the API server or another controller puts into it."""
    result: Object = copy.deepcopy(obj)
    result.pop("status", None)
    meta = result["metadata"]
    for key in SERVER_METADATA:
        meta.pop(key, None)
    meta.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
    meta.get("annotations", {}).pop("nvidia.com/last-applied-generation", None)
    if result["kind"] == "Deployment":
        result["spec"].pop("revisionHistoryLimit", None)
        template = result["spec"]["template"]
        template["spec"] = _pod(template["spec"])
    if result["kind"] == "Service":
        for key in SERVICE_DEFAULTS:
            result["spec"].pop(key, None)
    return result
