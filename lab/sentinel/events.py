# SPDX-License-Identifier: Apache-2.0
"""HealthEvent objects: how events travel between the components of the stand-in."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

from ..kube import Kube, Obj
from .parse import AGENT, Event

HEALTH_EVENT = ("lab.faultline.dev/v1alpha1", "HealthEvent")
NAMESPACE = "nvsentinel"
RESUME = "resume-control"
KEPT = 200


def stamp(seconds: float | None = None) -> str:
    """RFC 3339 time stamp of now, or of `seconds` since the epoch."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def resume(kube: Kube, component: str) -> None:
    """Say in the ConfigMap `resume-control` that a component goes on where it has stopped."""
    data = {"data": {component: "RESUME"}}
    body = {"apiVersion": "v1", "kind": "ConfigMap"} | data
    made = kube.create(body | {"metadata": {"name": RESUME, "namespace": NAMESPACE}})
    if not made:
        kube.patch("v1", "ConfigMap", RESUME, data, NAMESPACE)


def publish(kube: Kube, event: Event) -> None:
    """Hand an event to the other components."""
    now = time.time()
    seconds, nanos = int(now), int(now % 1 * 1e9)
    spec = event.content() | {
        "agent": AGENT,
        "componentClass": "GPU",
        "version": 1,
        "generatedTimestamp": {"seconds": seconds, "nanos": nanos},
        "processingStrategy": 1,
    }
    # Names sort by time, so that a restarted component sees events in their order.
    name = f"{int(now * 1e6):x}-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": HEALTH_EVENT[0], "kind": HEALTH_EVENT[1]}
    kube.create(body | {"metadata": {"name": name}, "spec": spec})


def mark(kube: Kube, event: Obj, **status: Any) -> None:
    """Write into an event's status how far it was handled."""
    kube.patch(*HEALTH_EVENT, event["metadata"]["name"], {"status": status}, subresource="status")


def forget_old(kube: Kube) -> None:
    """Keep the newest events only, as a database with a time to live would."""
    names = sorted(e["metadata"]["name"] for e in kube.list(*HEALTH_EVENT))
    for name in names[:-KEPT]:
        kube.delete(*HEALTH_EVENT, name)
