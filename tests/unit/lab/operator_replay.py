# SPDX-License-Identifier: Apache-2.0
"""Drives the pure part of the operator with a recorded experiment.

The DCD statuses (or, one level lower, the Deployment statuses) come from the recording; every
decision, and the status of the graph, comes from our code. DCDs exist only because our plan made
them, so a decision that is missing or wrong shows as a recorded row for an object or a generation
that we do not have.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from lab.operator import names
from lab.operator.rollout import World, make_plan
from lab.operator.status import dgd_status

Object = dict[str, Any]
NOW = "2026-11-24T08:00:00Z"


@dataclass
class Replay:
    """One graph. ``hashes``: worker hash per generation of the graph, as recorded."""

    dgd: Object
    hashes: dict[int, str]
    dcds: dict[str, Object] = field(default_factory=dict)
    live_pods: dict[str, int] = field(default_factory=dict)
    statuses: list[tuple[float, Object]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def target(self) -> str:
        """The worker hash that the current spec has in the recording."""
        return self.hashes[self.dgd["metadata"]["generation"]]

    def run(self, moment: float) -> None:
        """Reconcile until nothing changes any more."""
        for _ in range(10):
            before = copy.deepcopy((self.dgd, self.dcds))
            self._step(moment)
            if (self.dgd, self.dcds) == before:
                return
        raise AssertionError("the operator does not come to rest")

    def _step(self, moment: float) -> None:
        annotations = self.dgd["metadata"].setdefault("annotations", {})
        annotations.setdefault(names.CURRENT_HASH, self.target())
        plan = make_plan(World(self.dgd, self.dcds, self.live_pods), self.target(), NOW)
        for made in plan.create:
            made["metadata"]["generation"] = 1
            self.dcds[made["metadata"]["name"]] = made
        for changed in plan.update:
            changed["metadata"]["generation"] += 1
            self.dcds[changed["metadata"]["name"]] = changed
        for name, replicas in plan.scale:
            dcd = copy.deepcopy(self.dcds[name])
            dcd["spec"]["replicas"] = replicas
            dcd["metadata"]["generation"] += 1
            self.dcds[name] = dcd
        self.events += [reason for reason, _ in plan.events]
        self._delete(plan.delete)
        if plan.current_hash:
            annotations[names.CURRENT_HASH] = plan.current_hash
            return
        status = dgd_status(self.dgd, self.dcds, plan, self.target(), NOW)
        if status != self.dgd.get("status"):
            self.dgd = {**self.dgd, "status": status}
            self.statuses.append((moment, copy.deepcopy(self.dgd)))

    def _delete(self, gone: list[str]) -> None:
        for name in gone:
            del self.dcds[name]

    def feed(self, rows: list[Object]) -> None:
        """Take each recorded DCD row's status, and let the operator react."""
        for row in rows:
            if row["src"] != "watch":
                continue
            if row["kind"] == "pod":
                self._pod(row)
            if row["kind"] != "dcd" or row["type"] == "DELETED" or row.get("deletionTimestamp"):
                continue
            assert row["name"] in self.dcds, f"t={row['t']}: we did not make {row['name']}"
            dcd = copy.deepcopy(self.dcds[row["name"]])
            dcd["status"] = row["status"]
            self.dcds[row["name"]] = dcd
            self.run(row["t"])

    def _pod(self, row: Object) -> None:
        owner = row["name"].rsplit("-", 2)[0]
        running = row["type"] != "DELETED" and row["phase"] not in ("Succeeded", "Failed")
        pods = self._pods.setdefault(owner, set())
        (pods.add if running else pods.discard)(row["name"])
        self.live_pods = {name: len(found) for name, found in self._pods.items()}

    _pods: dict[str, set[str]] = field(default_factory=dict)


def change_spec(replay: Replay, spec: Object, moment: float) -> None:
    """A user writes a new spec: one generation more."""
    dgd = copy.deepcopy(replay.dgd)
    dgd["spec"] = spec
    dgd["metadata"]["generation"] += 1
    replay.dgd = dgd
    replay.run(moment)


def summary(dgd: Object) -> tuple[Any, ...]:
    """What an observer sees of a graph's state, without counts and times."""
    status = dgd.get("status") or {}
    ready = (status.get("conditions") or [{}])[0]
    return (
        status.get("observedGeneration"),
        status.get("state"),
        ready.get("status"),
        ready.get("reason"),
        (status.get("rollingUpdate") or {}).get("phase"),
        (status.get("restart") or {}).get("phase"),
        tuple((status.get("restart") or {}).get("inProgress") or ()),
    )


def distinct(values: list[Any]) -> list[Any]:
    """The sequence without immediate repetitions."""
    return [v for i, v in enumerate(values) if i == 0 or values[i - 1] != v]


def recorded_graph_rows(rows: list[Object]) -> list[Object]:
    """The graph's own rows that carry a status, up to its deletion."""
    found = [r for r in rows if r["src"] == "watch" and r["kind"] == "dgd" and r.get("status")]
    return [r for r in found if not r.get("deletionTimestamp")]


def component_counts(dgd: Object, component: str) -> tuple[Any, ...] | None:
    """A component's counts and names in a graph's status."""
    part = ((dgd.get("status") or {}).get("components") or {}).get(component)
    if part is None:
        return None
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return (*(part[key] for key in counts), tuple(part["componentNames"]), part["runtimeNamespace"])
