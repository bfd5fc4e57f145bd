# SPDX-License-Identifier: Apache-2.0
"""What happens in the cluster, routed into the store and to the two controllers."""

from __future__ import annotations

from typing import Any

from lab.operator import names
from lab.operator.controller import Controller
from lab.operator.informer import Informer
from lab.operator.kube import Kube
from lab.operator.render_pod import worker_hash_of
from lab.operator.store import Store

Object = dict[str, Any]


class Watches:
    """The handlers of the five watched kinds."""

    def __init__(
        self, store: Store, graphs: Controller, components: Controller, status_delay: float
    ) -> None:
        self._store = store
        self._graphs = graphs
        self._components = components
        self._delay = status_delay

    def _keep(self, change: str, obj: Object) -> None:
        if change == "DELETED":
            self._store.drop(obj)
        else:
            self._store.put(obj)

    def _graph_of(self, obj: Object) -> None:
        meta = obj["metadata"]
        graph = meta.get("labels", {}).get(names.GRAPH)
        if graph:
            self._graphs.add(meta["namespace"], graph)

    def dgd(self, change: str, obj: Object) -> None:
        """A graph changed; a new spec is noticed late, as by the real operator."""
        self._keep(change, obj)
        meta = obj["metadata"]
        seen = obj.get("status", {}).get("observedGeneration")
        late = bool(meta.get("finalizers")) and meta.get("generation") != seen
        self._graphs.add(meta["namespace"], meta["name"], self._delay if late else 0.0)

    def dcd(self, change: str, obj: Object) -> None:
        """A component changed."""
        self._keep(change, obj)
        self._components.add(obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._graph_of(obj)

    def child(self, change: str, obj: Object) -> None:
        """A Deployment or Service of a component changed; it has its DCD's name."""
        self._keep(change, obj)
        self._components.add(obj["metadata"]["namespace"], obj["metadata"]["name"])

    def pod(self, change: str, obj: Object) -> None:
        """A worker pod ended: a Recreate rollout may be waiting for its GPU."""
        self._keep(change, obj)
        leaving = change == "DELETED" or obj["metadata"].get("deletionTimestamp")
        if worker_hash_of(obj) and leaving:
            self._graph_of(obj)

    def informers(self, kube: Kube) -> list[Informer]:
        """One watch per kind; of Deployments, Services and pods only those of a graph."""
        return [
            Informer(kube, names.DGD_KIND, self.dgd),
            Informer(kube, names.DCD_KIND, self.dcd),
            Informer(kube, "Deployment", self.child, names.GRAPH),
            Informer(kube, "Service", self.child, names.GRAPH),
            Informer(kube, "Pod", self.pod, names.GRAPH),
        ]
