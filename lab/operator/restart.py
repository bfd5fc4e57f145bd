# SPDX-License-Identifier: Apache-2.0
"""Pure: ``spec.restart.id``, one component after the other (recording exp-03).

A restart is an annotation in the component's podTemplate, so the worker hash stays and the
Deployment rolls itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.operator import names

Object = dict[str, Any]


@dataclass
class RestartPlan:
    """``status`` for ``status.restart`` (None: leave it out) and the mark each component must
    carry."""

    status: Object | None = None
    marks: dict[str, str] = field(default_factory=dict)


def _restarted(dcds: Mapping[str, Object], component: str, identifier: str) -> bool:
    """True when every living DCD of the component carries the mark and is Available at its
    generation."""
    mine = [
        dcd
        for dcd in dcds.values()
        if dcd["spec"]["name"] == component and not dcd["metadata"].get("deletionTimestamp")
    ]
    for dcd in mine:
        annotations = dcd["spec"].get("podTemplate", {}).get("metadata", {}).get("annotations", {})
        status = dcd.get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        if annotations.get(names.RESTART_AT) != identifier:
            return False
        if status.get("observedGeneration") != dcd["metadata"].get("generation"):
            return False
        if conditions.get("Available") != "True":
            return False
    return bool(mine)


def plan_restart(dgd: Object, dcds: Mapping[str, Object]) -> RestartPlan:
    """Which components are restarting now, given what the last status said."""
    before: Object | None = dgd.get("status", {}).get("restart")
    request = dgd["spec"].get("restart") or {}
    identifier = request.get("id")
    if not identifier:
        return RestartPlan(status=before)
    if before and before.get("observedID") == identifier and before.get("phase") == "Completed":
        return RestartPlan(status=before)
    strategy = request.get("strategy") or {}
    order = strategy.get("order") or [c["name"] for c in dgd["spec"].get("components", [])]
    parallel = strategy.get("type") == "Parallel"
    marks: dict[str, str] = {}
    busy: list[str] = []
    for component in order:
        if _restarted(dcds, component, identifier):
            marks[component] = identifier
            continue
        if busy and not parallel:
            break
        marks[component] = identifier
        busy.append(component)
    if busy:
        return RestartPlan(
            {"observedID": identifier, "phase": "Restarting", "inProgress": busy}, marks
        )
    return RestartPlan({"observedID": identifier, "phase": "Completed"}, marks)
