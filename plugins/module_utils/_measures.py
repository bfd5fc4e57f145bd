# SPDX-License-Identifier: Apache-2.0
"""Times of a drill, from what was recorded while it ran. Pure functions.

A timeline entry is a mapping `at` (epoch seconds, when the watch event came in), `kind`,
`namespace`, `name`, `op` (LISTED, ADDED, MODIFIED, DELETED) and `view` (see `_views`).
A measure that was not observed is None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._node_predicates import names_run
from ._requests import Record, summarise

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """What a drill was about: names it watched, and the worker replicas it asked for."""

    run_id: str
    namespace: str
    graph: str
    target_node: str
    replicas: int


def epoch(timestamp: str) -> float:
    """Epoch seconds of an RFC 3339 time stamp."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def first(entries: Iterable[Entry], wanted: Callable[[Entry], bool]) -> float | None:
    """Moment of the first entry that is `wanted`."""
    return next((e["at"] for e in entries if wanted(e)), None)


def injected_at(timeline: Sequence[Entry], subject: Subject) -> float | None:
    """When the line was written into the kernel log, as the node's agent states it."""
    stamps = [
        e["view"]["written_at"]
        for e in timeline
        if e["kind"] == "GPUFault"
        and e["view"]["node"] == subject.target_node
        and names_run(e["view"]["line"], subject.run_id)
        and e["view"]["written_at"]
    ]
    return epoch(stamps[0]) if stamps else None


def _of_target(entry: Entry, subject: Subject) -> bool:
    return entry["kind"] == "Node" and entry["name"] == subject.target_node


def detected_at(timeline: Sequence[Entry], subject: Subject) -> float | None:
    """When the XID condition of the target stood at True with this run's id in its message."""
    return first(
        timeline,
        lambda e: (
            _of_target(e, subject)
            and e["view"]["xid_condition"] == "True"
            and names_run(e["view"]["xid_message"], subject.run_id)
        ),
    )


def cordoned_at(timeline: Sequence[Entry], subject: Subject, since: float) -> float | None:
    """When the target became unschedulable with NVSentinel's quarantine mark on it."""
    return first(
        timeline,
        lambda e: (
            _of_target(e, subject)
            and e["at"] >= since
            and e["view"]["unschedulable"]
            and e["view"]["quarantined"]
        ),
    )


def _our_pod(entry: Entry, subject: Subject) -> bool:
    return (
        entry["kind"] == "Pod"
        and entry["namespace"] == subject.namespace
        and entry["view"]["graph"] == subject.graph
    )


def drained_at(timeline: Sequence[Entry], subject: Subject, since: float) -> float | None:
    """When the last of our pods on the target was gone; None if one is left or none was there.

    Pods that come to the node later, when it has been released, are no part of the drain.
    """
    there: set[str] = set()
    for entry in timeline:
        if not _our_pod(entry, subject):
            continue
        uid = entry["view"]["uid"]
        if entry["op"] != "DELETED":
            if entry["view"]["node"] == subject.target_node:
                there.add(uid)
        elif uid in there:
            there.discard(uid)
            if not there and entry["at"] >= since:
                return float(entry["at"])
    return None


def recovered_at(timeline: Sequence[Entry], subject: Subject, since: float) -> float | None:
    """When all workers were Ready off the target and the DGD was Ready at its generation."""
    workers: dict[str, Mapping[str, Any]] = {}
    graph: Mapping[str, Any] = {}
    for entry in timeline:
        view = entry["view"]
        if _our_pod(entry, subject):
            if entry["op"] == "DELETED":
                workers.pop(view["uid"], None)
            elif view["worker_hash"]:
                workers[view["uid"]] = view
        elif entry["kind"] == "DynamoGraphDeployment" and entry["name"] == subject.graph:
            graph = view
        else:
            continue
        healthy = [
            w
            for w in workers.values()
            if w["ready"] and not w["deleting"] and w["node"] != subject.target_node
        ]
        ready = graph.get("ready") and graph.get("observed_generation") == graph.get("generation")
        if entry["at"] >= since and ready and len(workers) == len(healthy) == subject.replicas:
            return float(entry["at"])
    return None


def _span(end: float | None, start: float | None) -> float | None:
    return None if end is None or start is None else round(end - start, 3)


def measures(
    timeline: Sequence[Entry],
    requests: Sequence[Record],
    subject: Subject,
    windows: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    """The `measures` of report.json.

    `windows` names stretches of time (epoch seconds from, to) whose latency is reported apart,
    such as `baseline` and `recovered`. What was asked after `recovered` ran into the way back.
    """
    end = windows.get("recovered", (0.0, float("inf")))[1]
    requests = [r for r in requests if r["ended_at"] <= end]
    start = injected_at(timeline, subject)
    hit = [r for r in requests if start is not None and r["ended_at"] >= start]
    failing = summarise(hit)
    cordon = None if start is None else cordoned_at(timeline, subject, start)
    drain = None if cordon is None else drained_at(timeline, subject, cordon)
    back = None if drain is None else recovered_at(timeline, subject, drain)
    everything = summarise(requests)
    first_bad, last_bad = failing["first_failure_at"], failing["last_failure_at"]
    return {
        "injected_at": start,
        "detect_seconds": _span(detected_at(timeline, subject), start),
        "cordon_seconds": _span(cordon, start),
        "drain_seconds": _span(drain, cordon),
        "first_failure_seconds": _span(first_bad, start),
        "error_window_seconds": _span(last_bad, first_bad),
        "recovery_seconds": _span(back, start),
        "requests_total": everything["total"],
        "requests_failed": everything["failed"],
        "requests_retried": everything["retried"],
        "latency_ms": {
            name: summarise([r for r in requests if begin <= r["ended_at"] <= end])["latency_ms"]
            for name, (begin, end) in windows.items()
        },
        "errors": everything["errors"],
    }
