# SPDX-License-Identifier: Apache-2.0
"""Pure: the status of a DCD and of a DGD.

Facts: recordings exp-01, -02, -03, -22 and -23. ``Ready`` is the only condition of a DGD; states
seen are ``pending`` and ``successful``; a transition time changes only when the condition's status
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.operator import names
from lab.operator.render_pod import worker_hash_of
from lab.operator.rollout import Plan

Object = dict[str, Any]
COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


def set_conditions(before: list[Object], now: str, *wanted: Object) -> list[Object]:
    """Conditions with times: the old time stays while a condition's status stays."""
    old = {condition["type"]: condition for condition in before}
    result = []
    for condition in wanted:
        known = old.get(condition["type"])
        same = known is not None and known["status"] == condition["status"]
        moment = known["lastTransitionTime"] if known is not None and same else now
        result.append({**condition, "lastTransitionTime": moment})
    return result


def deployment_is_ready(deployment: Object) -> bool:
    """The operator's idea of a ready Deployment; one that wants no replicas always is."""
    wanted = int(deployment["spec"].get("replicas", 1))
    if wanted == 0:
        return True
    status = deployment.get("status", {})
    seen = int(status.get("observedGeneration", 0)) >= int(
        deployment["metadata"].get("generation", 1)
    )
    counts = [int(status.get(key, 0)) for key in COUNTS]
    return seen and all(count == wanted for count in counts)


def starting_dcd_status(dcd: Object, now: str) -> Object:
    """First status of a DCD, before its Deployment exists."""
    text = "Starting to reconcile DynamoComponentDeployment"
    unknown = {"status": "Unknown", "reason": "Reconciling", "message": text}
    before = dcd.get("status", {}).get("conditions", [])
    conditions = set_conditions(
        before, now, {"type": "Available", **unknown}, {"type": "DynamoComponentReady", **unknown}
    )
    return {"conditions": conditions}


def dcd_status(dcd: Object, deployment: Object | None, now: str) -> Object:
    """Status of a DCD from its Deployment (None: not created yet, all counts 0)."""
    observed = (deployment or {}).get("status", {})
    ready = deployment is not None and deployment_is_ready(deployment)
    flag = "True" if ready else "False"
    is_or_not = "is" if ready else "is not"
    conditions = set_conditions(
        dcd.get("status", {}).get("conditions", []),
        now,
        {
            "type": "Available",
            "status": flag,
            "reason": "DeploymentReady" if ready else "DeploymentNotReady",
            "message": f"Deployment {is_or_not} ready",
        },
        {
            "type": "DynamoComponentReady",
            "status": flag,
            "reason": "ComponentReady" if ready else "ComponentNotReady",
            "message": f"DynamoComponent {is_or_not} ready",
        },
    )
    labels = dcd["metadata"]["labels"]
    worker_hash = worker_hash_of(dcd) if names.is_worker(dcd["spec"]) else None
    suffix = f"-{worker_hash}" if worker_hash else ""
    return {
        "component": {
            "componentKind": "Deployment",
            "componentNames": [dcd["metadata"]["name"]],
            "runtimeNamespace": labels[names.NAMESPACE] + suffix,
            **{key: int(observed.get(key, 0)) for key in COUNTS},
        },
        "conditions": conditions,
        "observedGeneration": dcd["metadata"].get("generation", 1),
    }


def _why_not_ready(dcd: Object) -> str | None:
    name, status = dcd["metadata"]["name"], dcd.get("status", {})
    generation = dcd["metadata"].get("generation", 1)
    observed = status.get("observedGeneration", 0)
    if generation != observed:
        numbers = f"generation={generation}, observedGeneration={observed}"
        return f"{name}: spec not yet processed: {numbers}"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if conditions.get("Available") != "True":
        return f"{name}: Component deployment not ready - Available condition not true"
    return None


def _merge_generations(old: list[Object], new: list[Object]) -> Object:
    """Counts of both generations of a worker while it rolls; ``updatedReplicas`` only of the new
    one."""
    both = [dcd["status"]["component"] for dcd in (*old, *new)]
    merged: Object = {
        "componentKind": "Deployment",
        "componentNames": sorted(name for part in both for name in part["componentNames"]),
        "runtimeNamespace": both[0]["runtimeNamespace"],
    }
    for key in COUNTS:
        merged[key] = sum(int(part.get(key, 0)) for part in both)
    merged["updatedReplicas"] = sum(
        int(dcd["status"]["component"].get("updatedReplicas", 0)) for dcd in new
    )
    return merged


def _component_statuses(
    dgd: Object, dcds: list[Object], target: str | None, rolling: bool
) -> Object:
    result: Object = {}
    for component in dgd["spec"].get("components", []):
        mine = [
            dcd
            for dcd in dcds
            if dcd["spec"]["name"] == component["name"] and dcd.get("status", {}).get("component")
        ]
        if names.is_worker(component):
            new = [dcd for dcd in mine if worker_hash_of(dcd) == target]
            old = [dcd for dcd in mine if worker_hash_of(dcd) != target]
            if rolling and mine:
                result[component["name"]] = _merge_generations(old, new)
                continue
            mine = new
        if mine:
            result[component["name"]] = dict(mine[0]["status"]["component"])
    return result


def dgd_status(
    dgd: Object, dcds: Mapping[str, Object], plan: Plan, target: str | None, now: str
) -> Object:
    """Status of a graph from its DCDs (as they are after the plan was carried out)."""
    ordered = [dcds[name] for name in sorted(dcds)]
    wanted = [
        dcd for dcd in ordered if not names.is_worker(dcd["spec"]) or worker_hash_of(dcd) == target
    ]
    reasons = [reason for reason in map(_why_not_ready, wanted) if reason]
    ready = {
        "status": "True",
        "reason": "all_resources_are_ready",
        "message": "All resources are ready",
    }
    if plan.rolling:
        ready = {
            "status": "False",
            "reason": "rolling_update_in_progress",
            "message": "Rolling update in progress",
        }
    elif reasons:
        ready = {
            "status": "False",
            "reason": "some_resources_are_not_ready",
            "message": "Resources not ready: " + "; ".join(reasons),
        }
    generation = dgd["metadata"].get("generation", 1)
    condition = {"type": "Ready", "observedGeneration": generation, **ready}
    status: Object = {
        "state": "successful" if ready["status"] == "True" else "pending",
        "observedGeneration": generation,
        "conditions": set_conditions(dgd.get("status", {}).get("conditions", []), now, condition),
    }
    components = _component_statuses(dgd, ordered, target, plan.rolling)
    if components:
        status["components"] = components
    if plan.restart:
        status["restart"] = plan.restart
    if plan.rolling_update:
        status["rollingUpdate"] = plan.rolling_update
    return status
