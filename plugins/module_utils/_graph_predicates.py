# SPDX-License-Identifier: Apache-2.0
"""Conditions on a DynamoGraphDeployment and its pods. Pure: (whether it holds, what is seen)."""

from __future__ import annotations

from collections.abc import Iterable

from ._client import Obj
from ._graph_trouble import trouble
from ._objects import HASH_ANNOTATION, HASH_LABEL, Answer, conditions, ready_pod, turned_down
from ._shim_predicates import has_shim

WORKERS = ("worker", "prefill", "decode")


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
    troubles = [str(t) for t in (trouble(p) for p in rows) if t]
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


def graph_restarted(graph: Obj | None, restart_id: str) -> Answer:
    """Whether the operator has ended the restart that `spec.restart.id` asked for.

    It restarts one component after the other and says so in `status.restart` (recorded).
    """
    found = ((graph or {}).get("status") or {}).get("restart") or {}
    if found.get("observedID") != restart_id:
        return False, f"restart {restart_id} has not begun"
    busy = ", ".join(found.get("inProgress") or [])
    seen = f"restart {restart_id} {found.get('phase')}" + (f" ({busy})" if busy else "")
    return found.get("phase") == "Completed", seen
