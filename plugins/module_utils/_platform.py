# SPDX-License-Identifier: Apache-2.0
"""Preconditions of a drill, and the choice of its target. Pure functions."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence

from ._client import Obj
from ._conditions import ready
from ._errors import FaultlineError
from ._node_predicates import node_released
from ._objects import HASH_LABEL, ready_pod, run_of

GPU = "nvidia.com/gpu"
PRESENT = "nvidia.com/gpu.present"
ALLOWED = ("faultline.dev/drill", "allowed")
SENTINEL = {
    "DaemonSet": ("syslog-health-monitor-regular", "platform-connectors"),
    "Deployment": ("fault-quarantine", "node-drainer", "fault-remediation"),
}
OPERATOR = {
    "app.kubernetes.io/name": "dynamo-operator",
    "app.kubernetes.io/component": "manager",
}
# Labels by which an operator keeps NVSentinel off a node, when their value is false.
OPT_OUT = ("k8saas.nvidia.com/ManagedByNVSentinel", "nvsentinel.dgxc.nvidia.com/managed")


def workload_problem(found: Obj | None, what: str, fix: str) -> list[str]:
    """Why a workload cannot be relied on: it is absent, which `fix` helps against, or not ready."""
    if not found:
        return [f"{what} is not installed: {fix}."]
    good, seen = ready(found)
    return [] if good else [f"{what} is not ready ({seen}): look at its pods."]


def operator_problem(workloads: Iterable[Obj]) -> list[str]:
    """Why the Dynamo operator cannot be relied on; it is found by the labels of its chart."""
    found = [
        w
        for w in workloads
        if w["kind"] == "Deployment"
        and OPERATOR.items() <= (w["metadata"].get("labels") or {}).items()
    ]
    what, fix = "The Dynamo operator", "run playbooks/provision.yml with platform_helm, or Helm"
    if not found:
        return workload_problem(None, what, fix)
    return [
        problem
        for obj in found
        for problem in workload_problem(
            obj, f"{what} {obj['metadata']['name']} in {obj['metadata']['namespace']}", fix
        )
    ]


def namespace_problem(found: Obj | None, run_id: str | None) -> list[str]:
    """Why a namespace cannot be the drill's own: it is somebody's, and would be removed."""
    if not found:
        return []
    meta = found["metadata"]
    if run_id and run_of(found) == run_id:
        return []
    return [
        f"Namespace {meta['name']} is there already and not of this run. A drill removes its "
        "namespace with all that is in it: name one that does not exist, or none (drill_namespace)."
    ]


def drainer_settings(text: str | None) -> tuple[str, list[tuple[str, str]]]:
    """Of the drainer's `config.toml`: its systemNamespaces, and glob and mode of userNamespaces.

    Both are empty of settings that cannot be read.
    """
    try:
        settings = tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return "", []
    rows = settings.get("userNamespaces") or []
    globs = [(str(row.get("name")), str(row.get("mode") or "")) for row in rows]
    return str(settings.get("systemNamespaces") or ""), globs


def drainer_mode(text: str | None, namespace: str) -> str | None:
    """How NVSentinel's drainer ends a namespace's pods: the mode of the first match."""
    _system, globs = drainer_settings(text)
    return next((mode for glob, mode in globs if fnmatch.fnmatchcase(namespace, glob)), None)


def drainer_problem(text: str | None, namespace: str) -> list[str]:
    """Why NVSentinel's drainer would leave a namespace alone, by its `config.toml`.

    A drainer whose settings cannot be read is not judged: the drain itself will show.
    """
    system, globs = drainer_settings(text)
    if not globs:
        return []
    if system and re.search(system, namespace):
        return [
            f"NVSentinel's node-drainer counts {namespace} among its systemNamespaces and "
            "never drains it: choose another with drill_namespace."
        ]
    if drainer_mode(text, namespace) is None:
        return [
            f"NVSentinel's node-drainer drains {', '.join(glob for glob, _mode in globs)}, never "
            f"{namespace}: add it to node-drainer.userNamespaces, or choose a name that matches "
            "with drill_namespace."
        ]
    return []


def opted_out(node: Obj) -> str | None:
    """The label by which a node is kept from NVSentinel, None of none."""
    labels = node["metadata"].get("labels") or {}
    return next((key for key in OPT_OUT if labels.get(key) == "false"), None)


def opt_out_problems(nodes: Iterable[Obj]) -> list[str]:
    """Why NVSentinel would leave nodes alone that may be hurt."""
    return [
        f"NVSentinel leaves node {n['metadata']['name']} alone, by its label {key}=false: remove "
        f"the label (kubectl label node {n['metadata']['name']} {key}-), or keep drills off the "
        f"node (kubectl label node {n['metadata']['name']} {ALLOWED[0]}-)."
        for n in gpu_nodes(nodes)
        if allowed(n) and (key := opted_out(n))
    ]


def gpu_nodes(nodes: Iterable[Obj]) -> list[Obj]:
    """Nodes with GPUs."""
    return [n for n in nodes if (n["metadata"].get("labels") or {}).get(PRESENT) == "true"]


def allowed(node: Obj) -> bool:
    """Whether a node is marked as one that may be hurt."""
    return (node["metadata"].get("labels") or {}).get(ALLOWED[0]) == ALLOWED[1]


def usable_nodes(nodes: Iterable[Obj]) -> list[Obj]:
    """GPU nodes that may be hurt and can take pods."""
    return [n for n in gpu_nodes(nodes) if allowed(n) and node_released(n)[0]]


def gpu_limit(pod: Obj) -> int:
    """GPUs that a pod asks for; none once it has ended."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    containers = (pod.get("spec") or {}).get("containers") or []
    limits = (((c.get("resources") or {}).get("limits") or {}).get(GPU, 0) for c in containers)
    return sum(int(limit) for limit in limits)


def free_by_node(nodes: Iterable[Obj], pods: Sequence[Obj]) -> dict[str, int]:
    """GPUs of each node that no pod has asked for."""
    found = {}
    for node in nodes:
        name = node["metadata"]["name"]
        total = int((node["status"].get("allocatable") or {}).get(GPU, 0))
        found[name] = total - sum(gpu_limit(p) for p in pods if p["spec"].get("nodeName") == name)
    return found


def node_problems(
    nodes: Sequence[Obj], free: Mapping[str, int], least: int, gpus: int
) -> list[str]:
    """What of the nodes stands in the way of a drill that needs `gpus` GPUs on `least` nodes."""
    there = gpu_nodes(nodes)
    problems = [
        f"Node {n['metadata']['name']} is still in the hands of an earlier fault "
        f"({node_released(n)[1]}): wait for its recovery, or run playbooks/cleanup.yml."
        for n in there
        if allowed(n) and not node_released(n)[0]
    ]
    if len(free) < least:
        unmarked = [n["metadata"]["name"] for n in there if not allowed(n)]
        more = (
            f"; not marked: {', '.join(unmarked)} (kubectl label node NAME {'='.join(ALLOWED)})"
            if unmarked
            else ""
        )
        problems.append(
            f"A drill needs {least} GPU nodes that may be hurt, there is "
            f"{len(free)} ({', '.join(free) or 'none'}){more}."
        )
    if sum(free.values()) < gpus:
        problems.append(
            f"The drill needs {gpus} free GPUs (its workers and one for the rollout), "
            f"{sum(free.values())} are free: {dict(free)}."
        )
    return problems


def choose_target(pods: Iterable[Obj], free: Mapping[str, int], wanted: str | None) -> str:
    """The node to hurt: one of a worker pod, whose workers fit elsewhere.

    Raises FaultlineError when there is none, or `wanted` is none.
    """
    workers = [
        p for p in pods if HASH_LABEL in (p["metadata"].get("labels") or {}) and ready_pod(p)
    ]
    by_node: dict[str, int] = {}
    for pod in workers:
        name = pod["spec"].get("nodeName") or ""
        by_node[name] = by_node.get(name, 0) + gpu_limit(pod)
    if wanted and wanted not in by_node:
        raise FaultlineError(f"No worker pod is on {wanted}; workers are on {sorted(by_node)}.")
    if wanted and wanted not in free:
        raise FaultlineError(
            f"Node {wanted} may not be hurt or takes no pods now: label it {'='.join(ALLOWED)}, "
            "wait until it is Ready and schedulable, or take another node."
        )
    candidates = [wanted] if wanted else sorted(by_node, key=lambda n: (by_node[n], n))
    for name in candidates:
        elsewhere = sum(count for node, count in free.items() if node != name)
        if name in free and elsewhere >= by_node[name]:
            return name
    raise FaultlineError(
        f"No other node has room for the workers of {', '.join(map(str, candidates)) or 'any node'}"
        f" (workers by node {by_node}, free GPUs {dict(free)}): add a GPU node or free GPUs."
    )
