# SPDX-License-Identifier: Apache-2.0
"""The state of a cluster as far as a drill could change it, and what differs. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from . import _services
from ._objects import run_of

Obj = Mapping[str, Any]

# NVSentinel leaves these behind after every recovery (recorded), and others change by themselves.
IGNORED = (
    "k8saas.nvidia.com/uncordon-",
    "volumes.kubernetes.io/",
    "node.alpha.kubernetes.io/",
    "kubectl.kubernetes.io/",
)


def _kept(entries: Mapping[str, str] | None) -> dict[str, str]:
    return {k: v for k, v in sorted((entries or {}).items()) if not k.startswith(IGNORED)}


def node(obj: Obj) -> dict[str, Any]:
    """A node's labels, annotations, taints, cordon, GPUs and conditions that are not at ease."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    alarming = {
        c["type"]: c["status"]
        for c in status.get("conditions") or []
        if c["status"] != ("True" if c["type"] == "Ready" else "False")
    }
    return {
        "labels": _kept(meta.get("labels")),
        "annotations": _kept(meta.get("annotations")),
        "taints": sorted(json.dumps(t, sort_keys=True) for t in spec.get("taints") or []),
        "unschedulable": bool(spec.get("unschedulable")),
        "gpus": (status.get("allocatable") or {}).get("nvidia.com/gpu"),
        "alarming": alarming,
    }


def key(kind: str, obj: Obj) -> str:
    """`Kind/namespace/name`, without the namespace where there is none."""
    meta = obj["metadata"]
    return "/".join(part for part in (kind, meta.get("namespace"), meta["name"]) if part)


def capture(
    nodes: Iterable[Obj], named: Mapping[str, Iterable[Obj]], services: Iterable[Obj] = ()
) -> dict[str, Any]:
    """Snapshot: nodes in detail; replicas of services; else names, and whose run they belong to."""
    content: dict[str, Any] = {key("Node", n): node(n) for n in nodes}
    for service in services:
        content[key("StatefulSet", service)] = {"replicas": service["spec"].get("replicas", 1)}
    for kind, objects in named.items():
        content |= {key(kind, obj): {"run": run_of(obj)} for obj in objects}
    return content


def mended(content: Mapping[str, Any], services: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The snapshot, with the replicas that services have when no restart of them is unfinished."""
    wanted = {key("StatefulSet", s): {"replicas": _services.wanted(s)} for s in services}
    return dict(content) | wanted


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is not as it was, one sentence each; empty when all is."""
    found = [f"{name} is gone" for name in before if name not in after]
    found += [f"{name} was not there before" for name in after if name not in before]
    for name in before:
        if name in after and before[name] != after[name]:
            for field in sorted({*before[name], *after[name]}):
                was, now = before[name].get(field), after[name].get(field)
                if was != now:
                    found.append(f"{name} {field}: was {json.dumps(was)}, is {json.dumps(now)}")
    return sorted(found)
