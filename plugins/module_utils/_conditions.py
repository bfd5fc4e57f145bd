# SPDX-License-Identifier: Apache-2.0
"""Conditions on one object, written as data. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._errors import FaultlineError
from ._objects import ready_pod

# A dot or bracket that belongs to a key is written with a backslash before it.
STEP = re.compile(r"((?:[^.\[\]\\]|\\.)+)|\[([^=\]]+)=([^\]]+)\]")


def value_at(obj: Any, path: str) -> Any:
    """What stands at a dotted path, None of nothing. `[type=Ready]` picks an entry of a list."""
    found = obj
    for key, field, wanted in STEP.findall(path):
        if field:
            rows = found if isinstance(found, list) else []
            found = next((r for r in rows if str(r.get(field)) == wanted), None)
        elif isinstance(found, Mapping):
            found = found.get(re.sub(r"\\(.)", r"\1", key))
        else:
            return None
    return found


def ready(obj: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a workload or pod is ready, at its generation."""
    status, spec = obj.get("status") or {}, obj.get("spec") or {}
    if obj["kind"] == "Pod":
        return ready_pod(dict(obj)), f"phase {status.get('phase')}"
    current = status.get("observedGeneration") == obj["metadata"].get("generation")
    if obj["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled") or 0
        up, updated = status.get("numberReady") or 0, status.get("updatedNumberScheduled") or 0
        return current and 0 < wanted == up == updated, f"{up} of {wanted} ready"
    wanted = spec.get("replicas", 1)
    up, updated = status.get("readyReplicas") or 0, status.get("updatedReplicas") or 0
    total = status.get("replicas") or 0
    return current and wanted == up == updated == total, f"{up} of {wanted} ready"


def check(rule: Any) -> None:
    """Raise FaultlineError, in words, for what `meets` could not judge."""
    if rule == "ready":
        return
    if not isinstance(rule, Mapping) or "path" not in rule:
        raise FaultlineError(f"A condition is `ready` or has a `path`, not {rule!r}.")
    if not rule.keys() & {"equals", "in", "regex", "present", "same_as"}:
        raise FaultlineError(
            f"A condition says equals, in, regex, present or same_as, not {rule!r}."
        )
    if not isinstance(rule.get("in", []), list):
        raise FaultlineError(f"`in` of a condition is a list, not {rule['in']!r}.")
    try:
        re.compile(rule.get("regex", ""))
    except (re.error, TypeError) as error:
        raise FaultlineError(f"`regex` of {rule!r} is no regular expression: {error}.") from error


def meets(obj: Mapping[str, Any], rule: Any) -> tuple[bool, str]:
    """Whether an object meets a rule, and what is there instead."""
    check(rule)
    if rule == "ready":
        return ready(obj)
    found = value_at(obj, rule["path"])
    seen = f"{rule['path']} is {found!r}"
    if "equals" in rule:
        return found == rule["equals"], seen
    if "in" in rule:
        return found in rule["in"], seen
    if "regex" in rule:
        return bool(re.search(rule["regex"], str(found or ""))), seen
    if "present" in rule:
        return (found is not None) == bool(rule["present"]), seen
    return found is not None and found == value_at(obj, rule["same_as"]), seen
