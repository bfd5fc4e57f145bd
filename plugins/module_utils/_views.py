# SPDX-License-Identifier: Apache-2.0
"""Short views of Kubernetes objects: what a timeline keeps of each. Pure functions.

Every view is a flat mapping of plain values; two equal views mean that nothing which a drill looks
at has changed, so the recorder writes a line only when the view differs from the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._node_predicates import QUARANTINE, STATE_LABEL, XID_CONDITION
from ._objects import conditions

View = dict[str, Any]
Obj = Mapping[str, Any]


def node(obj: Obj) -> View:
    """Schedulability, NVSentinel's marks and condition, readiness and boot id of a Node."""
    meta, found = obj["metadata"], conditions(obj)
    xid = found.get(XID_CONDITION, {})
    annotations = meta.get("annotations") or {}
    return {
        "unschedulable": bool((obj.get("spec") or {}).get("unschedulable")),
        "sentinel_state": (meta.get("labels") or {}).get(STATE_LABEL),
        "quarantined": annotations.get(QUARANTINE, "[]") != "[]",
        "xid_condition": xid.get("status"),
        "xid_message": xid.get("message"),
        "ready": found.get("Ready", {}).get("status"),
        "boot_id": ((obj.get("status") or {}).get("nodeInfo") or {}).get("bootID"),
    }


def pod(obj: Obj) -> View:
    """Place, phase, readiness, restarts and last exits of a Pod."""
    meta, status = obj["metadata"], obj.get("status") or {}
    labels = meta.get("labels") or {}
    containers = status.get("containerStatuses") or []
    exits = [
        (c.get("lastState") or {}).get("terminated", {}).get("exitCode")
        for c in containers
        if (c.get("lastState") or {}).get("terminated")
    ]
    return {
        "uid": meta.get("uid"),
        "node": (obj.get("spec") or {}).get("nodeName"),
        "component": labels.get("nvidia.com/dynamo-component"),
        "graph": labels.get("nvidia.com/dynamo-graph-deployment-name"),
        "worker_hash": labels.get("nvidia.com/dynamo-worker-hash"),
        "phase": status.get("phase"),
        "ready": conditions(obj).get("Ready", {}).get("status") == "True",
        "deleting": bool(meta.get("deletionTimestamp")),
        "disruption": conditions(obj).get("DisruptionTarget", {}).get("reason"),
        "restarts": sum(c.get("restartCount", 0) for c in containers),
        "last_exit_codes": exits,
        "waiting": [
            reason
            for c in containers
            if (reason := (c.get("state") or {}).get("waiting", {}).get("reason"))
        ],
    }


def dgd(obj: Obj) -> View:
    """Generations, state and Ready of a DynamoGraphDeployment."""
    status = obj.get("status") or {}
    return {
        "generation": obj["metadata"].get("generation"),
        "observed_generation": status.get("observedGeneration"),
        "state": status.get("state"),
        "ready": conditions(obj).get("Ready", {}).get("status") == "True",
        "reason": conditions(obj).get("Ready", {}).get("reason"),
        "deleting": bool(obj["metadata"].get("deletionTimestamp")),
    }


def gpu_fault(obj: Obj) -> View:
    """Target, phase and evidence of a GPUFault."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    log, cuda = status.get("kernelLog") or {}, status.get("cuda") or {}
    return {
        "node": spec.get("node"),
        "xid": spec.get("xid"),
        "phase": status.get("phase"),
        "line": log.get("line"),
        "written_at": log.get("writtenAt"),
        "journal_seen": bool((log.get("journal") or {}).get("seen")),
        "armed": bool(cuda.get("armed")),
        "deleting": bool(obj["metadata"].get("deletionTimestamp")),
    }


def maintenance(obj: Obj) -> View:
    """Node and conditions of a RebootNode or GPUReset."""
    return {
        "node": (obj.get("spec") or {}).get("nodeName"),
        "conditions": {t: c.get("status") for t, c in sorted(conditions(obj).items())},
    }


def event(obj: Obj) -> View:
    """Reason, text, count and subject of an Event."""
    about = obj.get("involvedObject") or {}
    return {
        "type": obj.get("type"),
        "reason": obj.get("reason"),
        "message": obj.get("message"),
        "count": obj.get("count"),
        "about": f"{about.get('kind')}/{about.get('name')}",
        "source": (obj.get("source") or {}).get("component") or obj.get("reportingComponent"),
    }


VIEWS: dict[str, Callable[[Obj], View]] = {
    "Node": node,
    "Pod": pod,
    "DynamoGraphDeployment": dgd,
    "GPUFault": gpu_fault,
    "RebootNode": maintenance,
    "GPUReset": maintenance,
    "Event": event,
}
