# SPDX-License-Identifier: Apache-2.0
"""Replays recordings of the real Dynamo operator as a graph and its pods, one change at a time."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "data" / "recordings" / "dynamo"
GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
HASH_LABEL = "nvidia.com/dynamo-worker-hash"
# Pods are called <graph>-<component>-<hash>-<ReplicaSet>-<pod>; a frontend has no hash.
WORKER = re.compile(r"\w+-(?!frontend)\w+-([0-9a-f]{8})-\w+-\w{5}")
BEGIN = datetime(2026, 11, 24, 8, tzinfo=UTC)
Object = dict[str, Any]
Moment = tuple[float, Object | None, list[Object]]


@dataclass(frozen=True)
class Recording:
    """One experiment, and what its rows do not say.

    `spec` is the dump that holds the graph's specification, `replicas` are those of the workers by
    generation where they differ from it, `before` the pods that were Ready when it began.
    """

    name: str
    graph: str = "mock"
    spec: str = "objects-v1beta1-agg-ready"
    before: tuple[str, ...] = ()
    replicas: dict[int, int] = field(default_factory=dict)

    def rows(self) -> list[Object]:
        """Rows of the graph and of its pods, oldest first."""
        found = [r for r in read(self.name) if r.get("kind") == "dgd" and r["name"] == self.graph]
        pods = [r for r in read(f"pods-{self.name}") if r["name"].startswith(f"{self.graph}-")]
        return sorted(found + pods, key=lambda row: row["t"])

    def graph_of(self, row: Object) -> Object:
        """The graph as it was when the row was recorded."""
        spec = copy.deepcopy(spec_of(self.spec))
        for component in spec["components"]:
            if component["type"] != "frontend" and row["generation"] in self.replicas:
                component["replicas"] = self.replicas[row["generation"]]
        keys = ("name", "generation", "annotations", "deletionTimestamp")
        meta = {key: row[key] for key in keys if row.get(key)}
        return {"metadata": meta, "spec": spec, "status": row["status"]}

    def moments(self) -> Iterator[Moment]:
        """After every change: seconds, the graph (None of none) and its pods."""
        graph: Object | None = None
        pods = {name: pod_of({"name": name, "conditions": {"Ready": "True"}}, self.graph)
                for name in self.before}  # fmt: skip
        born: dict[str, str] = {}
        for row in self.rows():
            gone = row["type"] == "DELETED"
            if row["kind"] == "dgd":
                graph = None if gone else self.graph_of(row)
            elif gone:
                pods.pop(row["name"], None)
            else:
                if row["type"] == "ADDED":
                    born[row["name"]] = (BEGIN + timedelta(seconds=row["t"])).isoformat()
                pods[row["name"]] = pod_of(row, self.graph, born.get(row["name"], ""))
            yield row["t"], graph, list(pods.values())

    def at(self, seconds: float) -> Moment:
        """The moment of the last row at `seconds`."""
        return [moment for moment in self.moments() if moment[0] == seconds][-1]


def read(name: str) -> list[Object]:
    """Rows of one file of recordings."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


REQUESTS = (
    "patch-methods-v1beta1",
    "patch-methods-v1alpha1",
    "create-validation-and-operator-down",
)


def refused(label: str) -> Object:
    """The recorded request of that name which the API server refused, with its answer."""
    rows = [row for name in REQUESTS for row in read(name)]
    return next(r for r in rows if r.get("label") == label and r["status"] >= 400)


def spec_of(dump: str, version: str = "v1beta1") -> Object:
    """Specification of the graph in a dump, as an API version shows it."""
    objects = json.loads((FOLDER / f"{dump}.json").read_text())
    found: Object = objects[f"dynamographdeployments.{version}.nvidia.com"][0]["spec"]
    return found


def pod_of(row: Object, graph: str, born: str = "") -> Object:
    """The pod that a row describes. Labels come from its name: only the first row has them.

    One that was there before the recording has no row that says since when: it is the oldest.
    """
    labels = {GRAPH_LABEL: graph}
    if worker := WORKER.fullmatch(row["name"]):
        labels[HASH_LABEL] = worker[1]
    assert row.get("labels", labels).items() >= labels.items(), "the name does not say it all"
    meta = {"name": row["name"], "labels": labels, "creationTimestamp": born}
    if row.get("deletionTimestamp"):
        meta["deletionTimestamp"] = row["deletionTimestamp"]
    found = [{"type": kind, "status": status} for kind, status in row.get("conditions", {}).items()]
    for condition in found:
        if condition["type"] == "PodScheduled" and row.get("unschedulable"):
            condition |= {"reason": "Unschedulable", "message": row["unschedulable"][0]}
    status = {
        "phase": row.get("phase", "Running"),
        "conditions": found,
        "containerStatuses": row.get("containers", []),
    }
    return {"metadata": meta, "spec": {"nodeName": row.get("node")}, "status": status}


def spells(moments: Iterator[Moment], asked: Callable[..., tuple[bool, str]]) -> list[list[float]]:
    """Stretches of time, [from, to), in which a condition on graph and pods holds."""
    found: list[list[float]] = []
    held = False
    for seconds, graph, pods in moments:
        holds = asked(graph, pods)[0]
        if holds and not held:
            found.append([seconds, float("inf")])
        elif held and not holds:
            found[-1][1] = seconds
        held = holds
    return found


DECODE = "mock-decode-b5804dbe"
CREATED = Recording("exp-01-apply-v1beta1")
SHIM = Recording(
    "exp-02-shim-add-remove-ssa-v1beta1",
    before=(
        "mock-frontend-7fbd7f5978-ff7pc",
        f"{DECODE}-d4ff779b9-bqt8v",
        f"{DECODE}-d4ff779b9-857m4",
    ),
)
CHANGES = Recording(
    "exp-03-frontend-env-scale-restart",
    before=(
        "mock-frontend-7fbd7f5978-ff7pc",
        f"{DECODE}-d4ff779b9-t6xm2",
        f"{DECODE}-d4ff779b9-gkn4m",
    ),
    replicas={6: 3},
)
RESTARTED = (
    "mock-frontend-96f8d5fb9-bpwqx",
    f"{DECODE}-7659557bc4-22stw",
    f"{DECODE}-7659557bc4-gkjf2",
)
KILLED = Recording("exp-05-kill137-migration0", before=RESTARTED)
STOPPED = Recording("exp-07-sigstop-migration0", before=RESTARTED)
EVICTED = Recording(
    "exp-12-cordon-evict",
    before=("mock-frontend-96f8d5fb9-f28mz", f"{DECODE}-7659557bc4-gkjf2"),
)
NO_ROOM = Recording(
    "exp-14-evict-no-capacity",
    before=(
        "mock-frontend-96f8d5fb9-f28mz",
        f"{DECODE}-7659557bc4-vrbmz",
        f"{DECODE}-7659557bc4-2mhs8",
    ),
)
ALPHA = Recording("exp-16-apply-v1alpha1", "mocka", "objects-v1alpha1-ready")
TO_ZERO = Recording(
    "exp-20-scale-to-zero-delete-background",
    "mocka",
    "objects-v1alpha1-ready",
    before=(
        "mocka-frontend-7f58f878cc-5cj9b",
        "mocka-vllmdecodeworker-df78b0c8-b94bcc66c-6hcqs",
        "mocka-vllmdecodeworker-df78b0c8-b94bcc66c-6jpnt",
    ),
    replicas={4: 0, 5: 0},
)
BROKEN = Recording(
    "exp-04-broken-init-container",
    before=(
        "mock-frontend-96f8d5fb9-bpwqx",
        f"{DECODE}-7659557bc4-22stw",
        f"{DECODE}-7659557bc4-gkjf2",
    ),
)
CRASHED_TWICE = Recording(
    "exp-19-exit1-second-crash",
    "mocka",
    "objects-v1alpha1-ready",
    before=(
        "mocka-frontend-7f58f878cc-5cj9b",
        "mocka-vllmdecodeworker-df78b0c8-b94bcc66c-6hcqs",
        "mocka-vllmdecodeworker-df78b0c8-b94bcc66c-6jpnt",
    ),
)
DISAGG = Recording("exp-21-disagg-apply-patch-kill", "mockd", "objects-v1beta1-disagg-ready")
FULL = Recording("exp-22-shim-no-spare-gpu")
RECREATE = Recording("exp-23-shim-recreate-strategy")
