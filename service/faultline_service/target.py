# SPDX-License-Identifier: Apache-2.0
"""Whom a fault hits on its node: refused while nothing is touched yet, or an entry of the page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from . import clock, gpus
from .cuda_effect import InNamespace, Moment, entry_of, locate, refused
from .kube import DRILL_LABEL, Kube, Obj
from .limits import Refused
from .page import Entry, Page, pack
from .profiles import Profile, profile


@dataclass(frozen=True)
class Node:
    """What the agent touches on its node."""

    name: str
    driver: Path = Path("/host/proc/driver/nvidia")
    journal: Path = Path("/host/var/log/journal")
    kmsg: Path = Path("/dev/kmsg")
    proc: Path = Path("/proc")
    most_nodes: int = 1
    allow_genuine: bool = False


def refuse_unmarked(node: Obj, name: str) -> None:
    """Raise Refused unless somebody has said of the node that it may be hurt."""
    if (node.get("metadata", {}).get("labels") or {}).get(DRILL_LABEL) != "allowed":
        raise Refused(
            "NodeNotAllowed",
            f"node {name} must not be hurt; label it {DRILL_LABEL}=allowed to allow",
        )


def refuse_impossible(facts: Profile, cuda: Obj, node: Node) -> None:
    """Raise Refused for what spec.cuda cannot be, and for a genuine fault that was not allowed."""
    if why := refused(facts, cuda):
        raise Refused("NotPossible", why)
    if cuda.get("mode") == "genuine" and not node.allow_genuine:
        raise Refused(
            "GenuineNotAllowed",
            f"the agent of {node.name} must not let GPUs really fault; set "
            "fault_service_allow_genuine=true to allow it",
        )


def refuse_unknown_pod(kube: Kube, uid: str, node: Node) -> None:
    """Raise Refused for a pod that the node does not have: the fault would hit nobody."""
    here = kube.list("Pod", "v1", field_selector=f"spec.nodeName={node.name}")
    if uid not in (pod["metadata"]["uid"] for pod in here):
        raise Refused("PodNotFound", f"{node.name} has no pod with the UID {uid}")


def entry_for(fault: Obj, status: Obj, node: Node, kube: Kube, page: Page) -> Entry | None:
    """The page entry of an accepted fault, None when CUDA calls are not to fail.

    Raises Refused when its target is not there, or the page cannot take it.
    """
    spec, name = fault["spec"], fault["metadata"]["name"]
    if "cuda" not in spec["effects"]:
        return None
    cuda, process = spec.get("cuda") or {}, InNamespace()
    target = cuda.get("target") or {}
    if target.get("podUID"):
        refuse_unknown_pod(kube, target["podUID"], node)
    if target.get("pid"):
        try:
            process = locate(target["pid"], target.get("podUID") or "", node.proc)
        except LookupError as error:
            raise Refused("ProcessNotFound", str(error)) from error
    when = Moment(clock.seconds(status["injectedAt"]), clock.seconds(status["endsAt"]))
    branch = gpus.driver_branch(node.driver)
    uuid = status["gpu"]["uuid"]
    made = entry_of(name, profile(spec["xid"]), uuid, when, cuda, branch, process)
    ends = min(made.not_after, status.get("endsAtBoottime") or made.not_after)
    entry = replace(made, not_after=max(1, ends))
    try:
        pack(entry)
    except ValueError as error:
        raise Refused("NotPossible", str(error)) from error
    if entry.classes and not page.has_room(name):
        raise Refused("PageFull", "the page of the node has no room for another fault")
    return entry
