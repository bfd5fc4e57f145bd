# SPDX-License-Identifier: Apache-2.0
"""Why pods of a DGD do not become Ready, and when waiting for them has no sense any more.

Pure functions: what was seen before and the time of now are given to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

from ._client import Obj
from ._errors import WaitFailed
from ._objects import (
    COMPONENT_LABEL,
    HASH_ANNOTATION,
    HASH_LABEL,
    conditions,
    ready_pod,
    turned_down,
)

UNSCHEDULABLE, OUT_OF_MEMORY, CRASHING = "Unschedulable", "OOMKilled", "CrashLoopBackOff"
PULLING = ("ErrImagePull", "ImagePullBackOff")
CREATING = (
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
)
# A worker whose second crash put it into CrashLoopBackOff, after one restart, came back by itself
# (recorded); the third crash is one too many.
RESTARTS = 2
ROLLING = "rolling_update_in_progress"
TEMPLATE_LABEL = "pod-template-hash"


@dataclass(frozen=True)
class Trouble:
    """What keeps a pod from becoming Ready; `container` is empty of what concerns the pod."""

    pod: str
    container: str
    reason: str
    message: str
    hopeless: bool

    def __str__(self) -> str:
        if self.reason == UNSCHEDULABLE:
            return f"pod {self.pod} cannot be scheduled: {self.message}"
        text = f"container {self.container} of pod {self.pod}: {self.reason}"
        return f"{text}: {self.message}" if self.message else text


def trouble(pod: Obj) -> Trouble | None:
    """Why a pod is not Ready, the worst first; None while it may just need time."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    scheduled = conditions(pod).get("PodScheduled", {})
    if scheduled.get("reason") == UNSCHEDULABLE:
        return Trouble(name, "", UNSCHEDULABLE, str(scheduled.get("message")), False)
    states = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    found = [t for t in (_of_container(name, container) for container in states) if t]
    return next((t for t in found if t.hopeless), found[0] if found else None)


def _of_container(pod: str, container: Obj) -> Trouble | None:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    last = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    why, message = waiting.get("reason"), waiting.get("message") or ""
    restarts = container.get("restartCount") or 0
    ended = f"{restarts} restarts, ended with {last.get('reason')} {last.get('exitCode')}"
    if last.get("reason") == OUT_OF_MEMORY and not container.get("ready"):
        return Trouble(pod, container["name"], OUT_OF_MEMORY, ended, True)
    if why == CRASHING:
        text = f"{ended}: {message}" if message else ended
        return Trouble(pod, container["name"], why, text, restarts >= RESTARTS)
    if why in PULLING:
        # The kubelet's message says what the registry answered: without it nobody can act.
        return Trouble(pod, container["name"], why, message, bool(message))
    if why in CREATING:
        return Trouble(pod, container["name"], why, message, True)
    return None


def up_to_date(graph: Obj) -> bool:
    """Whether the operator has seen the specification of now."""
    observed = (graph.get("status") or {}).get("observedGeneration")
    return observed is not None and observed == graph["metadata"].get("generation")


def current(graph: Obj, pods: Iterable[Obj]) -> list[Obj]:
    """The pods that the specification of now has brought, as far as status and pods tell.

    Pods of before may be the very ones that a change is to replace. While workers roll, the graph
    names the old hash until nearly the end (recorded), so the newest pods tell the new one.
    """
    hash_ = (graph["metadata"].get("annotations") or {}).get(HASH_ANNOTATION)
    rolling = conditions(graph).get("Ready", {}).get("reason") == ROLLING
    rows = sorted(pods, key=lambda p: str(p["metadata"].get("creationTimestamp") or ""))
    newest = {_component(p): _generation(p) for p in rows}
    found = []
    for pod in rows:
        mine = _generation(pod)
        if HASH_LABEL not in _labels(pod):
            good = mine == newest[_component(pod)]
        elif rolling:
            good = mine == newest[_component(pod)] and mine != hash_
        else:
            good = hash_ is None or mine == hash_
        if good:
            found.append(pod)
    return found


def _labels(pod: Obj) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _component(pod: Obj) -> tuple[bool, str | None]:
    return HASH_LABEL in _labels(pod), _labels(pod).get(COMPONENT_LABEL)


def _generation(pod: Obj) -> str | None:
    return _labels(pod).get(HASH_LABEL) or _labels(pod).get(TEMPLATE_LABEL)


def without_place(pods: Iterable[Obj], before: Mapping[str, float], now: float) -> dict[str, float]:
    """Since when each pod that cannot be scheduled waits for nothing but others to make room.

    While a pod of the graph is on its way out, its GPU is about to become free: the time counts
    anew from then. `before` is the last answer; times are in seconds of any one clock.
    """
    rows = list(pods)
    if any(p["metadata"].get("deletionTimestamp") for p in rows):
        return {}
    found = [t for t in (trouble(p) for p in rows) if t and t.reason == UNSCHEDULABLE]
    return {t.pod: before.get(t.pod, now) for t in found}


def give_up(
    graph: Obj | None,
    pods: Iterable[Obj],
    elsewhere: Collection[str] = (),
    known: Collection[str] = (),
    overdue: Collection[str] = (),
) -> None:
    """Raise WaitFailed when a graph cannot become Ready by waiting.

    Of no account are pods that are ending, that are Ready, that sit on nodes out of service
    (`elsewhere`: there a fault makes them crash, and the drainer takes them away), that were there
    before a change (`known`, names) or that are not of the specification of now; none counts while
    the status is older than that. A pod that cannot be scheduled counts when its time is up
    (`overdue`, names).
    """
    if not graph or not up_to_date(graph):
        return
    if graph["status"].get("state") == "failed":
        ready = conditions(graph).get("Ready", {})
        raise WaitFailed(
            f"DGD {graph['metadata']['name']} has failed ({ready.get('reason') or 'no reason'}): "
            f"{ready.get('message') or 'it says no more'}.",
            reason=ready.get("reason"),
        )
    for pod in current(graph, pods):
        meta, name = pod["metadata"], pod["metadata"]["name"]
        ends = meta.get("deletionTimestamp") or turned_down(pod) or ready_pod(pod)
        if ends or name in known or pod["spec"].get("nodeName") in elsewhere:
            continue
        found = trouble(pod)
        if found and (found.hopeless or name in overdue):
            raise WaitFailed(f"Waiting cannot help: {found}.", trouble=asdict(found))
