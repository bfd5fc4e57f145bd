# SPDX-License-Identifier: Apache-2.0
"""Replicas of two generations of a worker while one replaces the other, and the status. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .render import Obj, child_name, dynamo_namespace, is_worker

READY = "all_resources_are_ready"
NOT_READY = "some_resources_are_not_ready"
ROLLING = "rolling_update_in_progress"
TEXTS = {
    READY: "All resources are ready",
    NOT_READY: "Resources not ready",
    ROLLING: "Rolling update in progress",
}


@dataclass(frozen=True)
class Counts:
    """Replica counts of one Deployment; `generation` and `observed` as in its status."""

    wanted: int = 0
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    available: int = 0
    generation: int = 0
    observed: int = 0


def counts(deployment: Obj | None) -> Counts:
    """Counts of a Deployment, all zero of none."""
    if not deployment:
        return Counts()
    status = deployment.get("status") or {}
    return Counts(
        wanted=deployment["spec"].get("replicas", 1),
        replicas=status.get("replicas") or 0,
        ready=status.get("readyReplicas") or 0,
        updated=status.get("updatedReplicas") or 0,
        available=status.get("availableReplicas") or 0,
        generation=deployment["metadata"].get("generation") or 0,
        observed=status.get("observedGeneration") or 0,
    )


def next_replicas(wanted: int, new: Counts, old: Counts, recreate: bool) -> tuple[int, int]:
    """Replicas of the new and of the old generation in the next step of a managed rollout.

    One pod more than wanted at a time, and an old one goes only when a new one is Ready: with all
    GPUs in use the new pod stays Pending and the rollout waits for ever, as the real one does. With
    Recreate the old ones go first.
    """
    if recreate:
        return (0, 0) if old.replicas else (wanted, 0)
    old_left = max(0, wanted - new.ready)
    new_now = min(wanted, wanted + 1 - old_left) if old.replicas or old.wanted else wanted
    return max(new.wanted, new_now), min(old.wanted, old_left)


def settled(wanted: int, new: Counts, old: Counts) -> bool:
    """Whether the new generation serves alone. Old pods may still be ending then."""
    return new.ready >= wanted and old.wanted == 0 and new.observed >= new.generation


def component_status(graph: Obj, component: Obj, hash_: str, now: Counts) -> Obj:
    """One entry of the status' map of components."""
    meta = graph["metadata"]
    space = dynamo_namespace(meta["namespace"], meta["name"])
    return {
        "componentKind": "Deployment",
        "componentNames": [child_name(meta["name"], component, hash_)],
        "replicas": now.replicas,
        "updatedReplicas": now.updated,
        "readyReplicas": now.ready,
        "availableReplicas": now.available,
        "runtimeNamespace": f"{space}-{hash_}" if is_worker(component) else space,
    }


def status(
    graph: Obj, hash_: str, by_name: dict[str, Counts], rolling: bool, now: str
) -> dict[str, Any]:
    """The status of a graph; `by_name` has the counts of each component's current Deployment."""
    components, ready = {}, True
    for component in graph["spec"].get("components") or []:
        found = by_name.get(component["name"], Counts())
        components[component["name"]] = component_status(graph, component, hash_, found)
        wanted = component.get("replicas", 1)
        full = found.ready == found.updated == found.replicas == wanted
        ready = ready and full and found.observed >= found.generation > 0
    reason = ROLLING if rolling else READY if ready else NOT_READY
    return {
        "state": "successful" if reason == READY else "pending",
        "observedGeneration": graph["metadata"]["generation"],
        "components": components,
        "conditions": [_condition(graph, reason, now)],
    }


def _condition(graph: Obj, reason: str, now: str) -> Obj:
    value = "True" if reason == READY else "False"
    before = next(
        (c for c in (graph.get("status") or {}).get("conditions") or [] if c["type"] == "Ready"), {}
    )
    same = before.get("status") == value
    return {
        "type": "Ready",
        "status": value,
        "reason": reason,
        "message": TEXTS[reason],
        "observedGeneration": graph["metadata"]["generation"],
        "lastTransitionTime": before.get("lastTransitionTime", now) if same else now,
    }
