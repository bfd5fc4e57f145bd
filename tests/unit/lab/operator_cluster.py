# SPDX-License-Identifier: Apache-2.0
"""A few verbs of an API server in memory, enough to run the operator's reconcilers against."""

from __future__ import annotations

import copy
from typing import Any

from kubernetes.dynamic.exceptions import ConflictError

from lab.operator import names
from lab.operator.reconcile import ComponentReconciler, GraphReconciler
from lab.operator.settings import Settings
from lab.operator.store import Store

Object = dict[str, Any]


class HttpAnswer(Exception):
    """What the client's errors are made from."""

    status, reason, body, headers = 409, "Conflict", b"{}", None


class Cluster:
    """Objects by (kind, name) of one namespace; every write is kept in ``log``."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.log: list[str] = []
        self._version = 0

    def _write(self, obj: Object, verb: str) -> Object:
        self._version += 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(self._version)
        self.log.append(f"{verb} {obj['kind']} {meta['name']}")
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self.objects.pop((obj["kind"], meta["name"]), None)
            self._collect(meta["uid"])
        else:
            self.objects[(obj["kind"], meta["name"])] = copy.deepcopy(obj)
        return copy.deepcopy(obj)

    def _collect(self, owner: str) -> None:
        for obj in list(self.objects.values()):
            owners = [o["uid"] for o in obj["metadata"].get("ownerReferences", [])]
            if owner in owners:
                self.delete(obj["kind"], None, obj["metadata"]["name"])

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get((kind, name)))

    def create(self, body: Object) -> Object | None:
        meta = body["metadata"]
        if (body["kind"], meta["name"]) in self.objects:
            return None
        obj = copy.deepcopy(body)
        obj["metadata"]["uid"] = f"uid-{self._version + 1}"
        obj["metadata"]["generation"] = 1
        return self._write(obj, "create")

    def replace(self, body: Object) -> Object:
        known = self.objects[(body["kind"], body["metadata"]["name"])]
        version = body["metadata"].get("resourceVersion")
        if version not in (None, known["metadata"]["resourceVersion"]):
            raise ConflictError(HttpAnswer())
        obj = {**copy.deepcopy(body), "status": known.get("status", {})}
        if obj["spec"] != known["spec"]:
            obj["metadata"]["generation"] = known["metadata"]["generation"] + 1
        return self._write(obj, "replace")

    def replace_status(self, body: Object) -> Object:
        known = self.objects[(body["kind"], body["metadata"]["name"])]
        if body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            raise ConflictError(HttpAnswer())
        return self._write({**known, "status": copy.deepcopy(body["status"])}, "status")

    def patch(self, kind: str, namespace: str | None, name: str, body: Object) -> Object:
        obj = copy.deepcopy(self.objects[(kind, name)])
        before = copy.deepcopy(obj.get("spec"))
        obj["spec"] = {**obj.get("spec", {}), **body.get("spec", {})}
        meta = body.get("metadata", {})
        obj["metadata"].setdefault("annotations", {}).update(meta.get("annotations", {}))
        if "finalizers" in meta:
            obj["metadata"]["finalizers"] = meta["finalizers"]
        if obj["spec"] != before:
            obj["metadata"]["generation"] += 1
        return self._write(obj, "patch")

    def delete(self, kind: str, namespace: str | None, name: str) -> None:
        obj = self.objects.get((kind, name))
        if obj is not None:
            obj["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
            self._write(obj, "delete")

    def deployments_become_ready(self) -> None:
        """Do the work of the Deployment controller, at once and with success."""
        for (kind, _), obj in self.objects.items():
            if kind == "Deployment":
                count = obj["spec"]["replicas"]
                generation = obj["metadata"]["generation"]
                obj["status"] = {"observedGeneration": generation, "replicas": count,
                                 "updatedReplicas": count, "readyReplicas": count,
                                 "availableReplicas": count}  # fmt: skip
                self._version += 1
                obj["metadata"]["resourceVersion"] = str(self._version)


class Events:
    """Collects what the recorder would write."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def record(self, about: Object, reason: str, message: str, kind: str = "Normal") -> None:
        self.reasons.append(reason)


class Operator:
    """Both reconcilers on a cluster in memory. The store is refreshed before each turn."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.events = Events()
        self.store = Store()
        parts: Any = (cluster, self.store, self.events, Settings())
        self.graphs = GraphReconciler(*parts)
        self.components = ComponentReconciler(*parts)

    def see(self) -> None:
        """What the watches would bring."""
        known = dict(self.store._objects)
        for (kind, _, name), obj in known.items():
            if (kind, name) not in self.cluster.objects:
                self.store.drop(obj)
        for obj in self.cluster.objects.values():
            self.store.put(copy.deepcopy(obj))

    def turn(self, graph: str = "mock") -> None:
        """One turn of both controllers."""
        self.see()
        self.graphs.reconcile("drill", graph)
        self.see()
        for kind, name in list(self.cluster.objects):
            if kind == names.DCD_KIND:
                self.components.reconcile("drill", name)
        self.see()

    def rest(self, *, ready: bool = True) -> None:
        """Turn until nothing is written any more."""
        for _ in range(40):
            written = len(self.cluster.log)
            self.turn()
            if ready:
                self.cluster.deployments_become_ready()
            self.turn()
            if len(self.cluster.log) == written:
                return
        raise AssertionError(f"never at rest: {self.cluster.log[-6:]}")
