# SPDX-License-Identifier: Apache-2.0
"""A drill's namespace: how it says whose it is and how long it may live. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ._client import Obj
from ._objects import RUN_LABEL, run_of
from ._platform import ALLOWED

EXPIRES = "faultline.dev/expires-at"
MANAGED = ("app.kubernetes.io/managed-by", "faultline.gpu")


def owner_labels(run_id: str) -> dict[str, str]:
    """Labels that say who made a namespace, for which run, and that it may be hurt."""
    return {RUN_LABEL: run_id, ALLOWED[0]: ALLOWED[1], MANAGED[0]: MANAGED[1]}


def expiry(now: datetime, ttl: float) -> str:
    """RFC 3339 UTC time stamp in whole seconds, `ttl` seconds after `now`."""
    return f"{(now + timedelta(seconds=ttl)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def expires(namespace: Obj) -> datetime | None:
    """When the life of a namespace is over; None when it does not say so in a form that counts."""
    text = (namespace["metadata"].get("annotations") or {}).get(EXPIRES)
    try:
        found = datetime.fromisoformat(text or "")
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None


def ours(namespace: Obj) -> bool:
    """Whether a namespace has every mark of this collection: who, for which run, may be hurt."""
    labels: Mapping[str, Any] = namespace["metadata"].get("labels") or {}
    marked = all(labels.get(key) == value for key, value in (ALLOWED, MANAGED))
    return marked and bool(run_of(namespace))


def remaining(namespace: Obj) -> list[str]:
    """What the API server says still holds a namespace that is being removed, one sentence each."""
    rows = (namespace.get("status") or {}).get("conditions") or []
    return [str(r.get("message")) for r in rows if r.get("status") == "True" and r.get("message")]


def sorted_out(namespaces: Iterable[Obj], now: datetime) -> tuple[list[Obj], dict[str, str]]:
    """Namespaces to remove, and of our others why they stay.

    What does not carry all our marks is neither removed nor named.
    """
    over, stay = [], {}
    for found in namespaces:
        if not ours(found):
            continue
        name, end = found["metadata"]["name"], expires(found)
        if found["metadata"].get("deletionTimestamp"):
            stay[name] = "is being removed already"
        elif end is None:
            said = (found["metadata"].get("annotations") or {}).get(EXPIRES)
            stay[name] = f"says no time at which it may go ({EXPIRES} is {said!r})"
        elif end > now:
            stay[name] = f"may live until {end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        else:
            over.append(found)
    return over, stay
