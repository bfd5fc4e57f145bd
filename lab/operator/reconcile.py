# SPDX-License-Identifier: Apache-2.0
"""Carries out what the pure modules decide: one reconciler for graphs, one for components."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from lab.operator import names, render, render_pod, status
from lab.operator.events import Recorder
from lab.operator.hash import worker_hash
from lab.operator.kube import Kube
from lab.operator.rollout import Plan, World, make_plan
from lab.operator.settings import Settings
from lab.operator.store import Store

Object = dict[str, Any]
Enqueue = Callable[[str, str], None]


def utc_now() -> str:
    """Now, as Kubernetes writes times."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Base:
    """What both reconcilers need."""

    kind = ""

    def __init__(self, kube: Kube, store: Store, recorder: Recorder, settings: Settings) -> None:
        self.kube = kube
        self.store = store
        self.recorder = recorder
        self.settings = settings

    def finish_deletion(self, obj: Object) -> None:
        """Take our finalizer off; garbage collection follows the owner references."""
        finalizers = obj["metadata"].get("finalizers", [])
        if names.FINALIZER not in finalizers:
            return
        rest = [f for f in finalizers if f != names.FINALIZER]
        meta = obj["metadata"]
        patch = {"metadata": {"finalizers": rest, "resourceVersion": meta["resourceVersion"]}}
        self.kube.patch(self.kind, meta["namespace"], meta["name"], patch)

    def with_finalizer(self, obj: Object) -> Object:
        """The object, with our finalizer on it."""
        meta = obj["metadata"]
        finalizers = meta.get("finalizers", [])
        if names.FINALIZER in finalizers:
            return obj
        wanted = [*finalizers, names.FINALIZER]
        patch = {"metadata": {"finalizers": wanted, "resourceVersion": meta["resourceVersion"]}}
        return self.keep(self.kube.patch(self.kind, meta["namespace"], meta["name"], patch))

    def keep(self, obj: Object) -> Object:
        """Remember the answer to a write, so that the next step does not work on an older copy."""
        self.store.put(obj)
        return obj

    def create(self, body: Object, *, tell: bool = True) -> Object | None:
        """Create with the pair of Events that the operator writes; None when it existed."""
        made = self.kube.create(body)
        if made is not None:
            self.keep(made)
            if tell:
                kind, namespace = body["kind"], body["metadata"]["namespace"]
                self.recorder.record(made, f"Create{kind}", f"Creating a new {kind} {namespace}")
                self.recorder.record(made, f"Create{kind}", f"Created {kind} {namespace}")
        return made

    def write_status(self, obj: Object, wanted: Object) -> Object:
        """Replace the status when it differs."""
        if obj.get("status", {}) == wanted:
            return obj
        return self.keep(self.kube.replace_status({**obj, "status": wanted}))


class GraphReconciler(Base):
    """DynamoGraphDeployment to accounts, DCDs and its own status."""

    kind = names.DGD_KIND

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.again: Enqueue = lambda namespace, name: None
        self._accounts_of: set[str] = set()

    def reconcile(self, namespace: str, name: str) -> None:
        """Bring one graph a step further."""
        dgd = self.store.get(self.kind, namespace, name)
        if dgd is None:
            return
        if dgd["metadata"].get("deletionTimestamp"):
            self._accounts_of.discard(dgd["metadata"]["uid"])
            self.finish_deletion(dgd)
            return
        dgd = self.with_finalizer(dgd)
        target = worker_hash(dgd)
        dgd = self._with_hash(dgd, target)
        self._ensure_accounts(dgd)
        world = World(dgd, self._dcds(namespace, name), self.store.live_pods(namespace, name))
        plan = make_plan(world, target, utc_now())
        self._carry_out(dgd, plan)
        if plan.current_hash:
            # The status follows one step later, once the annotation names the new generation.
            self._switch_hash(dgd, plan)
        else:
            dcds = self._dcds(namespace, name)
            self.write_status(dgd, status.dgd_status(dgd, dcds, plan, target, utc_now()))
        if plan.again:
            self.again(namespace, name)

    def _dcds(self, namespace: str, name: str) -> dict[str, Object]:
        found = self.store.of_graph(names.DCD_KIND, namespace, name)
        return {dcd["metadata"]["name"]: dcd for dcd in found}

    def _with_hash(self, dgd: Object, target: str | None) -> Object:
        annotations = dgd["metadata"].get("annotations", {})
        if target is None or names.CURRENT_HASH in annotations:
            return dgd
        return self._annotate(dgd, target)

    def _annotate(self, dgd: Object, worker: str) -> Object:
        meta = dgd["metadata"]
        patch = {"metadata": {"annotations": {names.CURRENT_HASH: worker}}}
        return self.keep(self.kube.patch(self.kind, meta["namespace"], meta["name"], patch))

    def _ensure_accounts(self, dgd: Object) -> None:
        uid = dgd["metadata"]["uid"]
        if uid in self._accounts_of:
            return
        for body in render.planner_objects(dgd["metadata"]["namespace"]):
            self.create(body, tell=False)
        for body in render.discovery_objects(dgd):
            self.create(body)
        self._accounts_of.add(uid)

    def _carry_out(self, dgd: Object, plan: Plan) -> None:
        namespace = dgd["metadata"]["namespace"]
        for body in plan.create:
            self.create(body)
        for body in plan.update:
            self.keep(self.kube.replace(body))
        for name, replicas in plan.scale:
            patch = {"spec": {"replicas": replicas}}
            self.keep(self.kube.patch(names.DCD_KIND, namespace, name, patch))
        for reason, message in plan.events:
            self.recorder.record(dgd, reason, message)
        if not plan.current_hash:
            self._delete(namespace, plan)

    def _delete(self, namespace: str, plan: Plan) -> None:
        for name in plan.delete:
            self.kube.delete(names.DCD_KIND, namespace, name)

    def _switch_hash(self, dgd: Object, plan: Plan) -> None:
        """End of a rollout: first the old generation goes, then the annotation names the new
        one."""
        self._delete(dgd["metadata"]["namespace"], plan)
        self._annotate(dgd, str(plan.current_hash))


class ComponentReconciler(Base):
    """DynamoComponentDeployment to Deployment, Service and its own status."""

    kind = names.DCD_KIND

    def reconcile(self, namespace: str, name: str) -> None:
        """Bring one component a step further."""
        dcd = self.store.get(self.kind, namespace, name)
        if dcd is None:
            return
        if dcd["metadata"].get("deletionTimestamp"):
            self.finish_deletion(dcd)
            return
        dcd = self.with_finalizer(dcd)
        if not dcd.get("status", {}).get("conditions"):
            text = "Starting to reconcile DynamoComponentDeployment"
            self.recorder.record(dcd, "Reconciling", text)
            dcd = self.write_status(dcd, status.starting_dcd_status(dcd, utc_now()))
        deployment = self._ensure(dcd, render_pod.deployment(dcd, self.settings.probes))
        self._ensure(dcd, render_pod.service(dcd))
        self.write_status(dcd, status.dcd_status(dcd, deployment, utc_now()))

    def _ensure(self, dcd: Object, wanted: Object) -> Object | None:
        kind, meta = wanted["kind"], wanted["metadata"]
        live = self.store.get(kind, meta["namespace"], meta["name"])
        if live is None:
            made = self.create(wanted)
            if made is not None:
                return made
            live = self.kube.get(kind, meta["namespace"], meta["name"])
            if live is None:
                return None
            self.keep(live)
        return self._update(dcd, live, wanted)

    def _update(self, dcd: Object, live: Object, wanted: Object) -> Object:
        known, fresh = live["metadata"].get("annotations", {}), wanted["metadata"]["annotations"]
        drifted = wanted["kind"] == "Deployment" and (
            live["spec"].get("replicas") != wanted["spec"]["replicas"]
        )
        if known.get(names.LAST_HASH) == fresh[names.LAST_HASH] and not drifted:
            return live
        generation = str(dcd["metadata"].get("generation", 1))
        annotations = {**known, **fresh, names.LAST_GENERATION: generation}
        meta = {
            **live["metadata"],
            "labels": wanted["metadata"]["labels"],
            "annotations": annotations,
        }
        spec = wanted["spec"]
        if wanted["kind"] == "Service":
            spec = {**live["spec"], **spec}
        return self.keep(self.kube.replace({**wanted, "metadata": meta, "spec": spec}))
