# SPDX-License-Identifier: Apache-2.0
"""Conditions on nodes and on what NVSentinel does there. Pure: (whether it holds, what is seen)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ._client import Obj
from ._errors import WaitFailed
from ._objects import Answer, conditions, ready_pod

STATE_LABEL = "dgxc.nvidia.com/nvsentinel-state"
QUARANTINE = "quarantineHealthEvent"
UNCORDONED = "k8saas.nvidia.com/uncordon-timestamp"
MANUAL = "quarantinedNodeUncordonedManually"
XID_CONDITION = "SysLogsXIDError"
MONITOR = "app.kubernetes.io/name=syslog-health-monitor"
# The connectors carry the name of the whole, not their own.
CONNECTOR = "app.kubernetes.io/name=nvsentinel"
BREAKER = "circuit-breaker"


def quarantined_events(node: Obj) -> list[Any]:
    """Events for which NVSentinel holds a node; `[]` stands for a moment in every recovery."""
    text = (node["metadata"].get("annotations") or {}).get(QUARANTINE)
    try:
        events = json.loads(text) if text else []
    except ValueError:
        return []
    return events if isinstance(events, list) else []


def names_run(text: str | None, run_id: str) -> bool:
    """Whether a kernel line, or a text made from it, carries this run's id and no longer one."""
    return bool(re.search(rf"run={re.escape(run_id)}(?![a-z0-9-])", text or ""))


def node_quarantined(node: Obj | None, run_id: str) -> Answer:
    """Whether NVSentinel has seen this run's fault and has cordoned the node, in any order."""
    if not node:
        return False, "the node is not there"
    xid = conditions(node).get(XID_CONDITION, {})
    detected = xid.get("status") == "True" and names_run(xid.get("message"), run_id)
    cordoned = bool((node.get("spec") or {}).get("unschedulable"))
    theirs = bool(quarantined_events(node))
    name = node["metadata"]["name"]
    seen = f"{name}: condition {XID_CONDITION} {xid.get('status') or 'absent'}"
    if xid.get("status") == "True":
        seen += " with this run's id" if detected else " of another fault"
    seen += ", cordoned" if cordoned else ", not cordoned"
    if cordoned:
        seen += " by NVSentinel" if theirs else ", not by NVSentinel"
    return detected and cordoned and theirs, seen


def node_drained(node: Obj | None, pods: Iterable[Obj]) -> Answer:
    """Whether the drainer has said it is done and none of the pods is on the node.

    A node that is released again takes pods again: those that were put there since do not count.
    """
    if not node:
        return False, "the node is not there"
    name = node["metadata"]["name"]
    state = (node["metadata"].get("labels") or {}).get(STATE_LABEL)
    if state == "drain-failed":
        raise WaitFailed(f"NVSentinel gave up draining {name}: its state is drain-failed.")
    if (node["metadata"].get("annotations") or {}).get(MANUAL) == "True":
        raise WaitFailed(f"{name} was un-cordoned by hand: NVSentinel does not drain it any more.")
    released = state is None and not quarantined_events(node)
    since = uncordoned_at(node) if released else None
    left = [
        p["metadata"]["name"]
        for p in pods
        if p["spec"].get("nodeName") == name and not (since and scheduled_at(p) >= since)
    ]
    seen = f"{name}: state {state or 'none'}"
    seen += f", still there: {', '.join(left)}" if left else ", empty of our pods"
    # A node that was released again was drained before: the label is gone then.
    done = state in (
        "drain-succeeded",
        "remediating",
        "remediation-succeeded",
        "remediation-failed",
    )
    return not left and (done or released), seen


def uncordoned_at(node: Obj) -> str | None:
    """When NVSentinel last took its cordon back, in the form of the API's time stamps.

    Its label writes colons as dashes, 2026-11-24T08-02-12Z (recorded).
    """
    said = (node["metadata"].get("labels") or {}).get(UNCORDONED)
    if not said:
        return None
    date, _, clock = said.partition("T")
    return f"{date}T{clock.replace('-', ':')}"


def scheduled_at(pod: Obj) -> str:
    """When a pod was given its node, as the API's time stamp; empty of one that was not."""
    return str(conditions(pod).get("PodScheduled", {}).get("lastTransitionTime") or "")


def node_released(node: Obj | None) -> Answer:
    """Whether a node is schedulable, healthy and out of NVSentinel's hands."""
    if not node:
        return False, "the node is not there"
    found = conditions(node)
    problems = []
    if (node.get("spec") or {}).get("unschedulable"):
        problems.append("cordoned")
    if quarantined_events(node):
        problems.append("in quarantine")
    state = (node["metadata"].get("labels") or {}).get(STATE_LABEL)
    if state:
        problems.append(f"state {state}")
    if found.get(XID_CONDITION, {}).get("status") == "True":
        problems.append(f"{XID_CONDITION} True")
    if found.get("Ready", {}).get("status") != "True":
        problems.append("not Ready")
    return not problems, f"{node['metadata']['name']}: {', '.join(problems) or 'released'}"


def out_of_service(nodes: Iterable[Obj]) -> set[str]:
    """Names of nodes on which a pod may fail for no fault of its own."""
    return {n["metadata"]["name"] for n in nodes if not node_released(n)[0]}


def on_healthy_nodes(pods: Iterable[Obj], nodes: Iterable[Obj]) -> Answer:
    """Whether every pod is on a node that is in service; a node that was repaired is again."""
    there = {n["metadata"]["name"]: n for n in nodes}
    used = sorted({p["spec"].get("nodeName") or "" for p in pods})
    bad = [seen for good, seen in (node_released(there.get(n)) for n in used) if not good]
    return not bad and bool(used), "; ".join(bad) or f"on healthy nodes {', '.join(used)}"


def node_watched(
    node: Obj | None, host: Obj | None, pods: Iterable[Obj], breaker: Obj | None
) -> Answer:
    """Whether NVSentinel watches a node and is free to act on it.

    The node is out of its hands, monitor and connector run there, the monitor has taken its place
    in the journal during this boot (what is written before that it never reports), and the circuit
    breaker, if there is one, is closed.
    """
    good, seen = node_released(node)
    if not node or not good:
        return False, seen
    problems = []
    for label, what in ((MONITOR, "monitor"), (CONNECTOR, "connector")):
        key, value = label.split("=")
        mine = [p for p in pods if (p["metadata"].get("labels") or {}).get(key) == value]
        if not any(ready_pod(p) for p in mine):
            problems.append(f"NVSentinel's {what} does not run there")
    boot = ((node.get("status") or {}).get("nodeInfo") or {}).get("bootID")
    detector = ((host or {}).get("status") or {}).get("detector") or {}
    if not detector.get("armed") or detector.get("bootID") != boot:
        problems.append("its monitor has not taken its place in the journal yet")
    if breaker and (breaker.get("data") or {}).get("status") == "TRIPPED":
        problems.append("its circuit breaker is TRIPPED, so it cordons nothing")
    name = node["metadata"]["name"]
    return not problems, f"{name}: {'; '.join(problems) or 'watched by NVSentinel'}"
