# SPDX-License-Identifier: Apache-2.0
"""The condition that a DGD serves with one generation of pods, and when to give up on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ._client import GRAPH, NODE, Kind
from ._graph_predicates import graph_restarted, graph_settled
from ._graph_trouble import give_up, without_place
from ._node_predicates import on_healthy_nodes, out_of_service
from ._objects import GRAPH_LABEL, Answer
from ._watch import Snapshot


def kinds(namespace: str, name: str) -> dict[str, Kind]:
    """What is followed to know a deployment's state."""
    return {
        "graph": Kind(GRAPH.api_version, GRAPH.kind, namespace, name),
        "pods": Kind("v1", "Pod", namespace, label_selector=f"{GRAPH_LABEL}={name}"),
    }


@dataclass
class Settling:
    """A condition for `wait`, whose `again` belongs to it.

    `grace` is how many seconds a pod may be without a place, `known` are names of pods that were
    there before a change, `restart_id` is the restart that must have ended. `said` is what was
    seen last.
    """

    shim: bool | None = None
    healthy_nodes: bool = False
    fail_fast: bool = True
    grace: float = 30.0
    known: Collection[str] = ()
    restart_id: str | None = None
    clock: Callable[[], float] = time.monotonic
    said: str = ""
    _since: dict[str, float] = field(default_factory=dict)

    def follows(self, namespace: str, name: str) -> dict[str, Kind]:
        """Kinds to follow for it."""
        nodes = {"nodes": NODE} if self.healthy_nodes or self.fail_fast else {}
        return kinds(namespace, name) | nodes

    def __call__(self, now: Snapshot) -> Answer:
        """Whether it is settled. Raises WaitFailed when it cannot be any more."""
        graph = next(iter(now["graph"].values()), None)
        pods = list(now["pods"].values())
        good, self.said = graph_settled(graph, pods, self.shim)
        if good and self.restart_id:
            good, how = graph_restarted(graph, self.restart_id)
            self.said = f"{self.said}; {how}"
        if good and self.healthy_nodes:
            good, where = on_healthy_nodes(pods, now["nodes"].values())
            self.said = f"{self.said}; {where}"
        if self.fail_fast and not good:
            self._since = without_place(pods, self._since, self.clock())
            overdue = {n for n, t in self._since.items() if self.clock() - t >= self.grace}
            give_up(graph, pods, out_of_service(now["nodes"].values()), self.known, overdue)
        return good, self.said

    def again(self) -> float:
        """Seconds until the next pod has been without a place for too long."""
        now = self.clock()
        left = (begun + self.grace - now for begun in self._since.values())
        return min((seconds for seconds in left if seconds > 0), default=float("inf"))
