# SPDX-License-Identifier: Apache-2.0
"""Watches: kopf's event handlers feed the store and the two controllers. No kopf annotations, no
kopf finalizers."""

from __future__ import annotations

from typing import Any

import kopf

from lab.operator import names
from lab.operator.controller import Controller
from lab.operator.render_pod import worker_hash_of
from lab.operator.store import Store

Object = dict[str, Any]
OWNED = {names.GRAPH: kopf.PRESENT}


class Watches:
    """Routes what happens in the cluster to the controllers."""

    def __init__(
        self, store: Store, graphs: Controller, components: Controller, status_delay: float
    ) -> None:
        self._store = store
        self._graphs = graphs
        self._components = components
        self._delay = status_delay

    def _keep(self, event: Any, kind: str) -> Object:
        obj = dict(event["object"])
        obj["kind"] = kind
        if event["type"] == "DELETED":
            self._store.drop(obj)
        else:
            self._store.put(obj)
        return obj

    def _graph_of(self, obj: Object, delay: float = 0.0) -> None:
        meta = obj["metadata"]
        graph = meta.get("labels", {}).get(names.GRAPH)
        if graph:
            self._graphs.add(meta.get("namespace", ""), graph, delay)

    def dgd(self, event: Any, **_: Any) -> None:
        """A graph changed; a new spec is noticed late, as by the real operator."""
        obj = self._keep(event, names.DGD_KIND)
        meta = obj["metadata"]
        seen = obj.get("status", {}).get("observedGeneration")
        late = bool(meta.get("finalizers")) and meta.get("generation") != seen
        self._graphs.add(meta.get("namespace", ""), meta["name"], self._delay if late else 0.0)

    def dcd(self, event: Any, **_: Any) -> None:
        """A component changed."""
        obj = self._keep(event, names.DCD_KIND)
        self._components.add(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        self._graph_of(obj)

    def child(self, event: Any, **_: Any) -> None:
        """A Deployment or Service of a component changed; it has its DCD's name."""
        obj = self._keep(event, event["object"]["kind"])
        self._components.add(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])

    def pod(self, event: Any, **_: Any) -> None:
        """A worker pod ended: a Recreate rollout may be waiting for its GPU."""
        obj = self._keep(event, "Pod")
        if worker_hash_of(obj) and (
            event["type"] == "DELETED" or obj["metadata"].get("deletionTimestamp")
        ):
            self._graph_of(obj)

    def registry(self) -> kopf.OperatorRegistry:
        """A kopf registry with the five watches."""
        registry = kopf.OperatorRegistry()
        kopf.on.event(names.GROUP, "v1beta1", "dynamographdeployments", registry=registry)(self.dgd)
        kopf.on.event(names.GROUP, "v1beta1", "dynamocomponentdeployments", registry=registry)(
            self.dcd
        )
        kopf.on.event("apps", "v1", "deployments", labels=OWNED, registry=registry)(self.child)
        kopf.on.event("", "v1", "services", labels=OWNED, registry=registry)(self.child)
        kopf.on.event("", "v1", "pods", labels=OWNED, registry=registry)(self.pod)
        return registry


def quiet_settings() -> kopf.OperatorSettings:
    """kopf without Events of its own and without its wait for more events of the same object."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.batching.batch_window = 0.01
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.scanning.disabled = True
    return settings
