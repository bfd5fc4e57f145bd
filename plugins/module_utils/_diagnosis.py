# SPDX-License-Identifier: Apache-2.0
"""Why a deployment's pods do not run, and why a namespace does not go. Pure functions.

A finding is a subject, a problem and a fix, each a sentence or the name of an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._client import Obj
from ._images import fix_for, waiting
from ._objects import conditions
from ._platform import free_by_node, gpu_limit, gpu_nodes

Finding = dict[str, str]
HOSTNAME = "kubernetes.io/hostname"
# Words of the scheduler's message, and what to do about them.
UNSCHEDULED = (
    (
        r"Insufficient nvidia\.com/gpu",
        "Free GPUs by ending other pods, or add a GPU node; a rollout needs one GPU to spare.",
    ),
    (
        r"Insufficient (cpu|memory|ephemeral-storage)",
        "Ask for less in the deployment, or end other pods on the GPU nodes.",
    ),
    (
        r"node affinity|node selector|node\(s\) didn't match",
        "Remove nodeSelector and affinity from the deployment, or label nodes to match them.",
    ),
    (
        r"untolerated taint",
        "Add a toleration for the taint to the deployment, or remove the taint.",
    ),
    (
        r"PersistentVolumeClaim|volume",
        "Look at the claims of the namespace: they need a StorageClass that reaches these nodes.",
    ),
    (r"unschedulable", "Wait until NVSentinel has released the node, or add a GPU node."),
)
# What can hold a namespace that is being removed, by the API server's words.
HELD = (
    (
        r"nvidia\.com/finalizer",
        "The Dynamo operator takes this finalizer away: see that its Deployment runs.",
    ),
    (
        r"faultline\.dev/",
        "The agents of the fault service take this finalizer away: see that they run.",
    ),
    (
        r"[Dd]iscovery",
        "An API does not answer: look for one that is not Available in kubectl get apiservices.",
    ),
    (
        r"pods\. has|pods left",
        "Pods go first: see what sets their finalizers, and bring back nodes that are not Ready.",
    ),
)


def finding(subject: str, problem: str, fix: str) -> Finding:
    """One finding."""
    return {"subject": subject, "problem": problem, "fix": fix}


def advice(table: Sequence[tuple[str, str]], text: str, otherwise: str) -> str:
    """The first row of a table whose words stand in a text."""
    return next((fix for words, fix in table if re.search(words, text)), otherwise)


def is_ready(node: Obj) -> bool:
    """Whether a node's kubelet says that all is well."""
    return bool(conditions(node).get("Ready", {}).get("status") == "True")


def takes_pods(node: Obj) -> bool:
    """Whether a node is Ready and not cordoned."""
    return is_ready(node) and not (node.get("spec") or {}).get("unschedulable")


def room(nodes: Iterable[Obj], pods: Sequence[Obj]) -> dict[str, int]:
    """Free GPUs of every GPU node that takes pods, marked for drills or not."""
    return free_by_node([n for n in gpu_nodes(nodes) if takes_pods(n)], pods)


def name_all(pods: Sequence[Obj]) -> str:
    """The first of some pods, and how many more there are."""
    more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
    return f"pod {pods[0]['metadata']['name']}{more}"


def unscheduled(pods: Iterable[Obj]) -> list[Obj]:
    """Pods that have no node."""
    return [
        p
        for p in pods
        if (p.get("status") or {}).get("phase") == "Pending"
        and not (p.get("spec") or {}).get("nodeName")
        and not p["metadata"].get("deletionTimestamp")
    ]


def pending(pods: Iterable[Obj], free: Mapping[str, int]) -> list[Finding]:
    """Pods without a node, in the scheduler's own words; pods of one message are one finding."""
    groups: dict[str, list[Obj]] = {}
    for pod in unscheduled(pods):
        said = conditions(pod).get("PodScheduled", {}).get("message")
        groups.setdefault(str(said or ""), []).append(pod)
    found = []
    for said, rows in groups.items():
        wants = sum(gpu_limit(p) for p in rows)
        gpus = f" GPUs wanted {wants}, free {dict(free) or 'none'}." if wants else ""
        words = f"The scheduler says: {said}" if said else "The scheduler has not looked at it yet."
        fix = advice(UNSCHEDULED, said, "Look at the pod's events and at the scheduler.")
        found.append(finding(name_all(rows), f"Pending. {words}{gpus}", fix))
    return found


def hosts_wanted(pod: Obj) -> set[str] | None:
    """Nodes that a pod asks for by name; None when it takes any."""
    spec = pod.get("spec") or {}
    wanted = (spec.get("nodeSelector") or {}).get(HOSTNAME)
    if wanted:
        return {wanted}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    names: set[str] = set()
    for term in required.get("nodeSelectorTerms") or []:
        rules = (term.get("matchExpressions") or []) + (term.get("matchFields") or [])
        here = [
            set(rule.get("values") or [])
            for rule in rules
            if rule.get("operator") == "In" and rule.get("key") in (HOSTNAME, "metadata.name")
        ]
        if not here:
            # Terms are alternatives: one that names no node leaves the pod free.
            return None
        names |= set.intersection(*here)
    return names or None


def not_rescheduled(
    pods: Iterable[Obj], nodes: Sequence[Obj], free: Mapping[str, int], holders: Sequence[Obj]
) -> list[Finding]:
    """Why pods that want GPUs find no other node; `holders` are all pods of the cluster."""
    rows = [p for p in unscheduled(pods) if gpu_limit(p)]
    if not rows:
        return []
    found, up = [], {n["metadata"]["name"] for n in nodes if takes_pods(n)}
    pinned = [p for p in rows if (wanted := hosts_wanted(p)) and not wanted & up]
    if pinned:
        hosts = sorted({name for p in pinned for name in hosts_wanted(p) or ()})
        problem = f"Pinned by nodeSelector or affinity to {', '.join(hosts)}, which takes no pods."
        fix = "Remove the pin from the DynamoGraphDeployment."
        found.append(finding(name_all(pinned), problem, fix))
    there = [n["metadata"]["name"] for n in gpu_nodes(nodes)]
    if len(free) < 2 and len(there) >= 2:
        away = ", ".join(n for n in there if n not in free)
        problem = (
            f"{len(free)} of {len(there)} GPU nodes take pods; {away} is cordoned or not Ready."
        )
        fix = "Wait until the nodes are released, or add a GPU node."
        found.append(finding("GPU nodes", problem, fix))
    elif len(there) < 2:
        problem = f"There is {len(there)} GPU node; pods of a dead one need a second."
        found.append(finding("GPU nodes", problem, "Add a GPU node."))
    largest = max(gpu_limit(p) for p in rows)
    if free and largest > max(free.values()):
        users = [p for p in holders if gpu_limit(p) and p["spec"].get("nodeName") in free]
        names = sorted({f"{p['metadata'].get('namespace')}/{p['metadata']['name']}" for p in users})
        problem = f"No node has {largest} free GPUs; they are held by {', '.join(names[:4])}"
        problem += f" and {len(names) - 4} more." if len(names) > 4 else "."
        fix = "End some of these pods, or add a GPU node."
        found.append(finding("GPUs", problem, fix))
    return found


def newest_failure(pod: Obj, events: Iterable[Obj]) -> str:
    """What the kubelet said last of a pull that failed; its back-off alone says no cause."""
    name = pod["metadata"]["name"]
    rows = [
        e
        for e in events
        if (e.get("involvedObject") or {}).get("name") == name
        and e.get("reason") in ("Failed", "ErrImageNeverPull", "InspectFailed")
        and "image" in (e.get("message") or "")
    ]
    rows.sort(key=lambda e: str(e.get("lastTimestamp") or e["metadata"].get("creationTimestamp")))
    return str(rows[-1]["message"]).strip() if rows else ""


def not_pulled(pods: Iterable[Obj], events: Sequence[Obj]) -> list[Finding]:
    """Images that do not come, in the kubelet's own words; one finding for each image."""
    found: dict[str, Finding] = {}
    for pod in pods:
        for container, image, reason, message in waiting(pod):
            bare = not message or message.startswith("Back-off pulling image")
            # Newer kubelets put the cause behind the back-off's words.
            said = (newest_failure(pod, events) if bare and ": " not in message else "") or message
            subject = f"pod {pod['metadata']['name']}, container {container}"
            problem = f"Image {image}: {reason}. The kubelet says: {said or 'nothing more'}"
            fix = fix_for(f"{said} {reason}" if said else reason)
            found.setdefault(image, finding(subject, problem, fix[0].upper() + fix[1:] + "."))
    return list(found.values())


def holding(pod: Obj, up: Iterable[str]) -> str:
    """What keeps a pod from going, in a few words; `up` are the nodes that are Ready."""
    meta, at = pod["metadata"], (pod.get("spec") or {}).get("nodeName")
    why = []
    if meta.get("finalizers"):
        why.append(f"finalizers {', '.join(meta['finalizers'])}")
    if at and at not in up:
        why.append(f"its node {at} is not Ready")
    state = "ending" if meta.get("deletionTimestamp") else "not asked to end yet"
    return f"{meta['name']} ({'; '.join(why) or state})"


def terminating(
    namespace: Obj | None, pods: Sequence[Obj] = (), nodes: Iterable[Obj] = ()
) -> list[Finding]:
    """What holds a namespace that is being removed: its pods, and what the API server says.

    Kubernetes removes pods first and says, while any is left, that all content is gone (seen with
    1.34); so the pods are looked at here.
    """
    if not namespace or not namespace["metadata"].get("deletionTimestamp"):
        return []
    rows: list[Any] = (namespace.get("status") or {}).get("conditions") or []
    said = [
        str(row.get("message") or row["type"])
        for row in rows
        if row.get("status") == "True" and str(row.get("type", "")).startswith("Namespace")
    ]
    # What is remaining says less than its finalizers do, which come in a row of their own.
    said.sort(key=lambda text: not re.search(HELD[0][0] + "|" + HELD[1][0], text))
    if pods:
        up = [n["metadata"]["name"] for n in nodes if is_ready(n)]
        names = [holding(p, up) for p in pods]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        said.append(f"pods left: {', '.join(names[:3])}{more}")
    since = f"Being removed since {namespace['metadata']['deletionTimestamp']}. "
    words = (
        f"{'; '.join(said).rstrip('.')}."
        if said
        else "Neither its pods nor the API server's words say what holds it."
    )
    fix = advice(HELD, " ".join(said), "Look at what remains in it before you remove a finalizer.")
    return [finding(f"namespace {namespace['metadata']['name']}", since + words, fix)]
