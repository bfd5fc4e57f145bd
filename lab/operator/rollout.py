# SPDX-License-Identifier: Apache-2.0
"""Pure: what has to change now so that a graph's components follow its spec.

The managed rollout of operator 1.5.0, read from recordings exp-02, -04, -21, -22 and -23: all
workers share one hash; a changed worker makes a second generation of DCDs beside the first;
replicas move over in steps of 25 % (rounded up) above and 25 % (rounded down) below the wanted
number; the annotation with the current hash moves only when the old generation is at zero. With the
Recreate annotation the old generation goes to zero first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.operator import names, render
from lab.operator.hash import last_applied_hash
from lab.operator.render_pod import uses_recreate, worker_hash_of
from lab.operator.restart import RestartPlan, plan_restart

Object = dict[str, Any]


@dataclass(frozen=True)
class World:
    """What the operator knows. ``live_pods``: pods that have not ended, counted by their DCD's
    name."""

    dgd: Object
    dcds: Mapping[str, Object]
    live_pods: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Plan:
    """Changes to carry out, in this order, and the two status parts that only a plan knows."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    scale: list[tuple[str, int]] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    current_hash: str | None = None
    events: list[tuple[str, str]] = field(default_factory=list)
    rolling_update: Object | None = None
    rolling: bool = False
    restart: Object | None = None
    again: bool = False


def _available(dcd: Object | None) -> int:
    status = (dcd or {}).get("status", {})
    return int(status.get("component", {}).get("availableReplicas", 0))


def is_settled(dcd: Object) -> bool:
    """True when a DCD's status belongs to its spec and says Available."""
    status = dcd.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    observed = status.get("observedGeneration") == dcd["metadata"].get("generation")
    return observed and conditions.get("Available") == "True"


def _wanted(component: Object) -> int:
    return int(component.get("replicas", 1))


def _updated(dcd: Object, spec: Object) -> Object | None:
    """The DCD with a new spec and its bookkeeping, or None when nothing differs."""
    if dcd["spec"] == spec:
        return None
    meta = dict(dcd["metadata"])
    generation = int(meta.get("generation", 1)) + 1
    annotations = dict(meta.get("annotations", {}))
    annotations[names.LAST_GENERATION] = str(generation)
    annotations[names.LAST_HASH] = last_applied_hash(spec)
    meta["annotations"] = annotations
    return {**dcd, "metadata": meta, "spec": spec}


@dataclass
class _Step:
    """The work on one graph; methods append to ``plan``."""

    world: World
    target: str | None
    now: str
    restart: RestartPlan
    plan: Plan

    def _dcd(self, component: Object, worker_hash: str | None) -> Object | None:
        name = names.child_name(self.world.dgd["metadata"]["name"], component, worker_hash)
        found = self.world.dcds.get(name)
        return None if found and found["metadata"].get("deletionTimestamp") else found

    def _restart_mark(self, component: Object, existing: Object | None) -> str | None:
        asked = self.restart.marks.get(component["name"])
        if asked:
            return asked
        template = (existing or {}).get("spec", {}).get("podTemplate", {})
        mark: str | None = template.get("metadata", {}).get("annotations", {}).get(names.RESTART_AT)
        return mark

    def ensure(self, component: Object, worker_hash: str | None, replicas: int) -> None:
        """Create the component's DCD of this generation, or bring its spec up to date."""
        existing = self._dcd(component, worker_hash)
        mark = self._restart_mark(component, existing)
        dgd = self.world.dgd
        if existing is None:
            made = render.component_deployment(dgd, component, worker_hash, replicas, mark)
            self.plan.create.append(made)
            return
        spec = render.component_spec(dgd, component, worker_hash, replicas, mark)
        changed = _updated(existing, spec)
        if changed:
            self.plan.update.append(changed)

    def roll(self, component: Object, current: str) -> bool:
        """One step of a worker from generation ``current`` to the target; True when it has
        arrived."""
        wanted = _wanted(component)
        recreate = uses_recreate(component)
        surge = math.ceil(wanted * 0.25)
        unavailable = wanted if recreate else math.floor(wanted * 0.25)
        old, new = self._dcd(component, current), self._dcd(component, self.target)
        old_spec = int(old["spec"].get("replicas", 1)) if old else 0
        old_target = min(old_spec, max(0, wanted - unavailable - _available(new)))
        room = wanted + surge - old_spec
        if recreate:
            # No surge: the new generation needs what the old one holds.
            room = 0 if self._drains(old) else wanted
        already = int(new["spec"].get("replicas", 0)) if new else 0
        self.ensure(component, self.target, min(wanted, max(room, already, 0)))
        if old and old_target != old_spec:
            self.plan.scale.append((old["metadata"]["name"], old_target))
        gone = old is None or (old_spec == 0 and not self._replicas(old))
        return bool(gone and new and is_settled(new) and _available(new) >= wanted)

    @staticmethod
    def _replicas(dcd: Object) -> int:
        return int(dcd.get("status", {}).get("component", {}).get("replicas", 0))

    def _drains(self, old: Object | None) -> bool:
        """True while the old generation still holds what the new one needs (its GPUs)."""
        if old is None:
            return False
        if int(old["spec"].get("replicas", 1)) or self._replicas(old):
            return True
        return bool(self.world.live_pods.get(old["metadata"]["name"], 0))


def _workers_of_other_hashes(world: World, keep: set[str | None]) -> list[str]:
    return sorted(
        name
        for name, dcd in world.dcds.items()
        if names.is_worker(dcd["spec"])
        and worker_hash_of(dcd) not in keep
        and not dcd["metadata"].get("deletionTimestamp")
    )


def _finish(step: _Step, previous: Object | None, workers: list[Object]) -> None:
    """A rollout ended before (or was reverted): write it down as completed."""
    plan = step.plan
    if not previous or previous.get("phase") == "Completed":
        plan.rolling_update = previous
        return
    plan.rolling_update = {
        "phase": "Completed",
        "startTime": previous.get("startTime", step.now),
        "endTime": step.now,
        "updatedComponents": sorted(c["name"] for c in workers),
    }


def _roll_all(step: _Step, current: str, previous: Object | None, workers: list[Object]) -> None:
    plan = step.plan
    plan.rolling = True
    arrived = sorted(c["name"] for c in workers if step.roll(c, current))
    fresh = not previous or previous.get("phase") == "Completed"
    phase = "Pending" if fresh else "InProgress"
    start = step.now if fresh or previous is None else previous.get("startTime", step.now)
    plan.rolling_update = {"phase": phase, "startTime": start}
    if previous and previous.get("phase") == "Pending":
        plan.events.append(
            ("RollingUpdateStarted", f"Starting rolling update to worker hash {step.target}")
        )
    if arrived and not fresh:
        plan.rolling_update["updatedComponents"] = arrived
    plan.again = fresh
    if len(arrived) == len(workers) and not (plan.create or plan.update or plan.scale):
        plan.delete = _workers_of_other_hashes(step.world, {step.target})
        plan.current_hash = step.target
        plan.rolling_update.pop("updatedComponents", None)
        plan.events.append(
            ("RollingUpdateCompleted", f"Rolling update completed, worker hash {step.target}")
        )
        plan.again = True


def make_plan(world: World, target: str | None, now: str) -> Plan:
    """The next step for a graph. ``target``: hash of the workers as the spec wants them; ``now``:
    RFC 3339."""
    dgd = world.dgd
    components = dgd["spec"].get("components", [])
    workers = [c for c in components if names.is_worker(c)]
    current = dgd["metadata"].get("annotations", {}).get(names.CURRENT_HASH) or target
    previous = dgd.get("status", {}).get("rollingUpdate")
    plan = Plan()
    restart = plan_restart(dgd, world.dcds)
    plan.restart = restart.status
    step = _Step(world, target, now, restart, plan)
    for component in components:
        if not names.is_worker(component):
            step.ensure(component, None, _wanted(component))
    if current != target and current is not None:
        plan.delete = _workers_of_other_hashes(world, {target, current})
        _roll_all(step, current, previous, workers)
        return plan
    for component in workers:
        step.ensure(component, target, _wanted(component))
    plan.delete = _workers_of_other_hashes(world, {target})
    if previous and previous.get("phase") != "Completed" and plan.delete:
        message = f"Rolling update completed, worker hash {target}"
        plan.events.append(("RollingUpdateCompleted", message))
    _finish(step, previous, workers)
    return plan
