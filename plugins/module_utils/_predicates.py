# SPDX-License-Identifier: Apache-2.0
"""Conditions to wait for. Pure functions of objects: (whether it holds, what is seen)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ._client import Obj
from ._errors import WaitFailed

Answer = tuple[bool, str]

GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
HASH_LABEL = "nvidia.com/dynamo-worker-hash"
HASH_ANNOTATION = "nvidia.com/current-worker-hash-v2"
STATE_LABEL = "dgxc.nvidia.com/nvsentinel-state"
QUARANTINE = "quarantineHealthEvent"
UNCORDONED = "k8saas.nvidia.com/uncordon-timestamp"
MANUAL = "quarantinedNodeUncordonedManually"
XID_CONDITION = "SysLogsXIDError"
MONITOR = "app.kubernetes.io/name=syslog-health-monitor"
# The connectors carry the name of the whole, not their own.
CONNECTOR = "app.kubernetes.io/name=nvsentinel"
BREAKER = "circuit-breaker"
SHIM_VOLUME = "faultline-shim"
WORKERS = ("worker", "prefill", "decode")
ENDED = ("Failed", "Succeeded")
# Reasons for which a container will not start by waiting.
HOPELESS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
STUCK = ("ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff", "CreateContainerError")


def conditions(obj: Obj) -> dict[str, Obj]:
    """Conditions of an object by type."""
    return {c["type"]: c for c in (obj.get("status") or {}).get("conditions") or []}


def ready_pod(pod: Obj) -> bool:
    """Whether a pod is Ready and not on its way out."""
    ready = conditions(pod).get("Ready", {}).get("status") == "True"
    return ready and not pod["metadata"].get("deletionTimestamp")


def turned_down(pod: Obj) -> bool:
    """Whether a pod has ended and nobody is deleting it: it only lies there."""
    ended = (pod.get("status") or {}).get("phase") in ENDED
    return ended and not pod["metadata"].get("deletionTimestamp")


def has_shim(pod: Obj) -> bool:
    """Whether a pod was made with the shim's volume."""
    volumes = (pod.get("spec") or {}).get("volumes") or []
    return any(v.get("name") == SHIM_VOLUME for v in volumes)


def trouble(pod: Obj) -> str | None:
    """Why a pod does not start, None while it may just need time. Raises WaitFailed if hopeless."""
    meta, status = pod["metadata"], pod.get("status") or {}
    scheduled = conditions(pod).get("PodScheduled", {})
    if scheduled.get("reason") == "Unschedulable":
        return f"pod {meta['name']} cannot be scheduled: {scheduled.get('message')}"
    states = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    for container in states:
        waiting = (container.get("state") or {}).get("waiting") or {}
        last = (container.get("lastState") or {}).get("terminated") or {}
        why = waiting.get("reason")
        text = f"container {container['name']} of pod {meta['name']}: {why}"
        if why in HOPELESS:
            raise WaitFailed(f"{text}: {waiting.get('message')}")
        if why in STUCK:
            ended = f", ended with {last.get('reason')} {last.get('exitCode')}" if last else ""
            return f"{text}{ended}"
    return None


def graph_ready(graph: Obj | None) -> Answer:
    """Whether a DGD is Ready **at its generation**.

    A status is up to 0.4 s older than the specification and says Ready in between (recorded), so
    the generations are compared and all three signs must agree.
    """
    if not graph:
        return False, "the DynamoGraphDeployment is not there"
    status = graph.get("status") or {}
    ready = conditions(graph).get("Ready", {})
    generation, observed = graph["metadata"].get("generation"), status.get("observedGeneration")
    seen = f"DGD {graph['metadata']['name']} {status.get('state') or 'without status'}"
    seen += f" ({ready.get('reason') or 'no reason'}), generation {observed} of {generation}"
    good = ready.get("status") == "True" and status.get("state") == "successful"
    return good and observed == generation, seen


def worker_components(graph: Obj) -> list[Obj]:
    """Components that run a model."""
    found: list[Obj] = graph["spec"].get("components") or []
    return [c for c in found if c.get("type") in WORKERS]


def replicas(graph: Obj) -> int:
    """Number of worker pods that a DGD asks for."""
    return sum(c.get("replicas", 1) for c in worker_components(graph))


def graph_settled(graph: Obj | None, pods: Iterable[Obj], shim: bool | None = None) -> Answer:
    """Whether a DGD serves with one generation of pods and nothing else of it is left.

    Ready at its generation, no pod ending, every worker pod of the one current hash, as many of
    them (never zero) and of the others as asked for and, if `shim` is given, all or none of the
    workers with the shim.
    """
    good, seen = graph_ready(graph)
    # A pod that a restarted kubelet turned down stays as Failed beside its replacement.
    rows = [p for p in pods if not turned_down(p)]
    troubles = [t for t in (trouble(p) for p in rows) if t]
    if not good or not graph:
        return False, "; ".join([seen, *troubles])
    hash_ = (graph["metadata"].get("annotations") or {}).get(HASH_ANNOTATION)
    workers = [p for p in rows if HASH_LABEL in (p["metadata"].get("labels") or {})]
    ending = [p["metadata"]["name"] for p in rows if p["metadata"].get("deletionTimestamp")]
    if ending:
        return False, f"{seen}; still ending: {', '.join(ending)}"
    old = [p["metadata"]["name"] for p in workers if p["metadata"]["labels"][HASH_LABEL] != hash_]
    if old:
        return False, f"{seen}; pods of another generation than {hash_}: {', '.join(old)}"
    wanted = replicas(graph)
    # An old frontend is there for 0.1 s more before it is marked as ending (recorded).
    others = len(rows) - len(workers)
    every = graph["spec"].get("components") or []
    planned = sum(c.get("replicas", 1) for c in every) - wanted
    if others != planned:
        return False, f"{seen}; {others} pods that are no workers, {planned} wanted"
    up = [p for p in workers if ready_pod(p)]
    if not wanted or len(up) != wanted or len(workers) != wanted:
        return False, "; ".join([f"{seen}; {len(up)} of {wanted} workers Ready", *troubles])
    if shim is not None and any(has_shim(p) != shim for p in workers):
        return False, f"{seen}; {sum(has_shim(p) for p in workers)} workers have the shim"
    return True, f"{seen}; {len(up)} workers Ready"


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


def shim_processes(hosts: Iterable[Obj], namespace: str) -> list[Obj]:
    """Processes of a namespace's pods that the agents report, each with its `node`."""
    return [
        {**process, "node": host["metadata"]["name"]}
        for host in hosts
        for process in (host.get("status") or {}).get("processes") or []
        if process.get("namespace") == namespace
    ]


def shim_proven(hosts: Iterable[Obj], pods: Iterable[Obj], namespace: str) -> Answer:
    """Whether a process of every worker pod has the shim and its page mapped and nothing failed."""
    workers = [p for p in pods if HASH_LABEL in (p["metadata"].get("labels") or {})]
    found = [p for p in shim_processes(hosts, namespace) if not p.get("exited")]
    good = {
        p["podUID"]
        for p in found
        if (p.get("shim") or {}).get("pageMapped") and not p["shim"].get("hits")
    }
    lacking = [w["metadata"]["name"] for w in workers if w["metadata"]["uid"] not in good]
    if not workers:
        return False, "no worker pod is there"
    if lacking:
        return False, f"no process proves the shim in {', '.join(lacking)}"
    return True, f"shim mapped and inert in {len(workers)} workers"


def shim_hits(hosts: Iterable[Obj], namespace: str) -> Mapping[str, int]:
    """Calls that were answered by a fault, by node."""
    total: dict[str, int] = {}
    for process in shim_processes(hosts, namespace):
        hits = int((process.get("shim") or {}).get("hits") or 0)
        total[process["node"]] = total.get(process["node"], 0) + hits
    return total
