# SPDX-License-Identifier: Apache-2.0
"""What conditions on objects share: labels that tell them apart, and what an object says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._client import Obj

Answer = tuple[bool, str]

RUN_LABEL = "faultline.dev/run"
GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
COMPONENT_LABEL = "nvidia.com/dynamo-component"
HASH_LABEL = "nvidia.com/dynamo-worker-hash"
HASH_ANNOTATION = "nvidia.com/current-worker-hash-v2"
ENDED = ("Failed", "Succeeded")


def conditions(obj: Mapping[str, Any]) -> dict[str, Obj]:
    """Conditions of an object by type."""
    return {c["type"]: c for c in (obj.get("status") or {}).get("conditions") or []}


def run_of(obj: Mapping[str, Any] | None) -> str | None:
    """The run that an object belongs to; None of no object, and of one without a run."""
    found: str | None = ((obj or {}).get("metadata", {}).get("labels") or {}).get(RUN_LABEL)
    return found


def ready_pod(pod: Obj) -> bool:
    """Whether a pod is Ready and not on its way out."""
    ready = conditions(pod).get("Ready", {}).get("status") == "True"
    return ready and not pod["metadata"].get("deletionTimestamp")


def turned_down(pod: Obj) -> bool:
    """Whether a pod has ended and nobody is deleting it: it only lies there."""
    ended = (pod.get("status") or {}).get("phase") in ENDED
    return ended and not pod["metadata"].get("deletionTimestamp")
