# SPDX-License-Identifier: Apache-2.0
"""What of the Dynamo platform keeps state: how it is found and put back. Pure functions.

The chart's labels say which StatefulSet is NATS and which is etcd; the number of replicas before a
restart is kept on the StatefulSet itself, so that any later process can put it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ._client import Obj
from ._conditions import ready

INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
REPLICAS = "faultline.dev/replicas"


def services(found: Iterable[Obj], components: Sequence[str]) -> list[Obj]:
    """StatefulSets of a release that are one of the components, by name."""
    rows = [s for s in found if (s["metadata"].get("labels") or {}).get(COMPONENT) in components]
    return sorted(rows, key=lambda s: str(s["metadata"]["name"]))


def remembered(service: Obj) -> int | None:
    """Replicas before an unfinished restart; None when there is none, or nothing that counts."""
    text = (service["metadata"].get("annotations") or {}).get(REPLICAS)
    return int(text) if text and re.fullmatch(r"[1-9][0-9]{0,3}", text) else None


def wanted(service: Obj) -> int:
    """Replicas that a service has when it is not being restarted."""
    return remembered(service) or int(service["spec"].get("replicas", 1))


def scaled(replicas: int, kept: int | None) -> Obj:
    """Merge patch for a number of replicas; `kept` are those to come back to, None forgets them."""
    note = None if kept is None else str(kept)
    return {"metadata": {"annotations": {REPLICAS: note}}, "spec": {"replicas": replicas}}


def owned(pods: Iterable[Obj], service: Obj) -> list[str]:
    """Names of the pods that a StatefulSet controls."""
    name = service["metadata"]["name"]
    return sorted(
        p["metadata"]["name"]
        for p in pods
        for owner in p["metadata"].get("ownerReferences") or []
        if (owner["kind"], owner["name"]) == ("StatefulSet", name)
    )


def volumes(claims: Iterable[Obj], service: Obj) -> list[str]:
    """Names of the claims made from a StatefulSet's templates: `<template>-<set>-<ordinal>`."""
    name = re.escape(service["metadata"]["name"])
    templates = service["spec"].get("volumeClaimTemplates") or []
    forms = [re.compile(rf"{re.escape(t['metadata']['name'])}-{name}-\d+") for t in templates]
    names = (c["metadata"]["name"] for c in claims)
    return sorted(n for n in names if any(form.fullmatch(n) for form in forms))


def empty(found: Iterable[Obj], names: Iterable[str]) -> tuple[bool, str]:
    """Whether the controller of StatefulSets has seen that the named ones shall have no pods."""
    left = []
    for service in (s for s in found if s["metadata"]["name"] in names):
        meta, status = service["metadata"], service.get("status") or {}
        if status.get("observedGeneration") != meta.get("generation") or status.get("replicas"):
            left.append(f"{meta['name']} has {status.get('replicas') or 0} replicas")
    return not left, "; ".join(left) or "scaled to 0"


def up(found: Iterable[Obj], names: Iterable[str]) -> tuple[bool, str]:
    """Whether every named StatefulSet is ready with all replicas at its generation."""
    there = {s["metadata"]["name"]: s for s in found}
    answers = {n: ready(there[n]) if n in there else (False, "not there") for n in names}
    seen = "; ".join(f"{name}: {seen}" for name, (_good, seen) in answers.items())
    return all(good for good, _seen in answers.values()), seen


def sharing_problem(graphs: Iterable[Obj], run_namespace: str | None) -> list[str]:
    """Why a restart would hurt others: DynamoGraphDeployments outside the run's namespace."""
    others = sorted(
        f"{g['metadata']['namespace']}/{g['metadata']['name']}"
        for g in graphs
        if g["metadata"]["namespace"] != run_namespace
    )
    if not others:
        return []
    return [
        f"NATS and etcd serve other deployments too: {', '.join(others)}. A restart would hurt "
        "them: restart nothing (platform_skip_service_restart), or say that they may be hurt "
        "(platform_shared)."
    ]
