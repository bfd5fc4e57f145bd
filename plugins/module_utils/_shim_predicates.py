# SPDX-License-Identifier: Apache-2.0
"""Conditions on the shim, as the agents report it. Pure: (whether it holds, what is seen)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ._client import Obj
from ._objects import HASH_LABEL, Answer

SHIM_VOLUME = "faultline-shim"


def has_shim(pod: Obj) -> bool:
    """Whether a pod was made with the shim's volume."""
    volumes = (pod.get("spec") or {}).get("volumes") or []
    return any(v.get("name") == SHIM_VOLUME for v in volumes)


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
