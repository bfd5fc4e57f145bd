# SPDX-License-Identifier: Apache-2.0
"""The state of a cluster as far as a drill could change it, and what differs. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ._objects import run_of

Obj = Mapping[str, Any]

# NVSentinel leaves these behind after every recovery (recorded), and others change by themselves.
IGNORED = (
    "k8saas.nvidia.com/uncordon-",
    "volumes.kubernetes.io/",
    "node.alpha.kubernetes.io/",
    "kubectl.kubernetes.io/",
)


# The namespace by whose UID a cluster is known: it is there as long as the cluster.
CLUSTER = "Namespace/kube-system"


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


def capture(nodes: Iterable[Obj], named: Mapping[str, Iterable[Obj]]) -> dict[str, Any]:
    """Snapshot: nodes in detail; of other kinds the names, and whose run they belong to."""
    content: dict[str, Any] = {f"Node/{n['metadata']['name']}": node(n) for n in nodes}
    for kind, objects in named.items():
        for obj in objects:
            meta = obj["metadata"]
            space = f"{meta['namespace']}/" if meta.get("namespace") else ""
            content[f"{kind}/{space}{meta['name']}"] = {"run": run_of(obj)}
            if f"{kind}/{meta['name']}" == CLUSTER:
                content[CLUSTER]["uid"] = meta.get("uid")
    return content


def another_cluster(before: Mapping[str, Any], uid: str | None) -> str | None:
    """Why a snapshot is of another cluster than the one with this UID; None when it is not, or
    when it does not say of which it is."""
    was = (before.get(CLUSTER) or {}).get("uid")
    if not was or not uid or was == uid:
        return None
    return f"the UID of namespace kube-system was {was}, here it is {uid}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is not as it was, one sentence each; empty when all is.

    What belonged to a run goes with it: a namespace that a person made for a drill, with Secrets in
    it, and whatever another run has left.
    """
    found = [f"{key} is gone" for key in before if key not in after and not before[key].get("run")]
    found += [f"{key} was not there before" for key in after if key not in before]
    for key in before:
        if key in after and before[key] != after[key]:
            for field in sorted({*before[key], *after[key]}):
                was, now = before[key].get(field), after[key].get(field)
                if was != now:
                    found.append(f"{key} {field}: was {json.dumps(was)}, is {json.dumps(now)}")
    return sorted(found)
