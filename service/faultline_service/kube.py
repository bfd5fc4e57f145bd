# SPDX-License-Identifier: Apache-2.0
"""Kubernetes for the service: a few verbs of the dynamic client, and a cache kept by a watch."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.dynamic import DynamicClient

Obj = dict[str, Any]
GROUP_VERSION = "faultline.dev/v1alpha1"
FAULT, HOST = "GPUFault", "GPUHost"
RUN_LABEL, NODE_LABEL = "faultline.dev/run", "faultline.dev/node"
DRILL_LABEL = "faultline.dev/drill"
FINALIZER = "faultline.dev/agent"
ENDED = ("Recovered", "Failed")
log = logging.getLogger("faultline.kube")
# What the API server takes for a name. Anything else would lead to another address of it: the
# dynamic client puts names into addresses as they are.
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# Seconds. A connection can die without a word; nothing may wait on one for ever.
CONNECT, ANSWER = 5.0, 10.0
# The API server ends a watch after so long; one that is then still silent is dead.
WATCH = 60
WATCH_SILENCE = WATCH + 15.0


class Patient(ApiClient):
    """A client whose every request has a time limit: the dynamic one sets none of its own."""

    def call_api(self, method: str, url: str, *args: Any, **more: Any) -> Any:
        """Make a request; raises an HTTPError of urllib3 when no answer comes in time."""
        silence = WATCH_SILENCE if "watch=true" in url else ANSWER
        more["_request_timeout"] = more.get("_request_timeout") or (CONNECT, silence)
        return super().call_api(method, url, *args, **more)


class Kube:
    """Dynamic client whose objects are plain mappings.

    Its verbs raise ApiException for what the API server refuses, and an HTTPError of urllib3 when
    it does not answer.
    """

    def __init__(self) -> None:
        found = Configuration()
        if os.environ.get("KUBECONFIG"):
            config.load_kube_config(client_configuration=found)
        else:
            config.load_incluster_config(client_configuration=found)
        found.retries = 1
        self.dynamic = DynamicClient(Patient(found))

    def resource(self, kind: str, api_version: str = GROUP_VERSION) -> Any:
        """The client's resource of a kind; raises ResourceNotFoundError when it is not served."""
        return self.dynamic.resources.get(api_version=api_version, kind=kind)

    def get(self, kind: str, name: str, api_version: str = GROUP_VERSION) -> Obj | None:
        """A cluster-scoped object, None when there is none."""
        if not NAME.fullmatch(name):
            return None
        try:
            found: Obj = self.resource(kind, api_version).get(name=name).to_dict()
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def boot_id(self, node: str) -> str:
        """Boot id of a node as its kubelet says it, empty when unknown."""
        found = self.get("Node", node, "v1") or {}
        return str(found.get("status", {}).get("nodeInfo", {}).get("bootID", ""))

    def list(self, kind: str, api_version: str = GROUP_VERSION, **selectors: Any) -> list[Obj]:
        """All objects of a kind."""
        items: list[Obj] = self.resource(kind, api_version).get(**selectors).to_dict()["items"]
        return items

    def create(self, body: Obj) -> Obj:
        """Create an object; raises ApiException, 409 when there is one of that name."""
        made: Obj = self.resource(body["kind"], body["apiVersion"]).create(body=body).to_dict()
        return made

    def patch(self, kind: str, name: str, change: Obj, status: bool = False) -> Obj | None:
        """Merge patch of an object of ours or of its status; None when it is gone."""
        resource = self.resource(kind)
        if status:
            resource = resource.subresources["status"]
        form = "application/merge-patch+json"
        try:
            done: Obj = resource.patch(body=change, name=name, content_type=form).to_dict()
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return done

    def delete(self, kind: str, name: str) -> None:
        """Delete an object of ours; raises ApiException, 404 when there is none."""
        self.resource(kind).delete(name=name)


class Cache:
    """Objects of one kind by UID, kept fresh by LIST and WATCH in a thread of its own."""

    def __init__(
        self,
        kube: Kube,
        kind: str,
        api_version: str,
        changed: Callable[[str, Obj], None] | None = None,
        **selectors: Any,
    ) -> None:
        """`changed(type, object)` is told every difference, type ADDED, MODIFIED or DELETED."""
        self.kube, self.kind, self.api_version = kube, kind, api_version
        self.changed, self.selectors = changed, selectors
        self.objects: dict[str, Obj] = {}
        self.filled = threading.Event()

    def begin(self) -> Cache:
        """Start following, and return once the first LIST is in."""
        threading.Thread(target=self._run, daemon=True, name=f"watch-{self.kind}").start()
        self.filled.wait()
        return self

    def _seen(self, kind: str, found: Obj) -> None:
        key = found["metadata"]["uid"]
        if kind == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = found
        if self.changed:
            self.changed(kind, found)

    def _round(self) -> None:
        resource = self.kube.resource(self.kind, self.api_version)
        listing = resource.get(**self.selectors).to_dict()
        there = {item["metadata"]["uid"]: item for item in listing["items"]}
        for key in set(self.objects) - set(there):
            self._seen("DELETED", self.objects[key])
        for item in there.values():
            self._seen("ADDED", item)
        self.filled.set()
        version = listing["metadata"]["resourceVersion"]
        watching = self.kube.dynamic.watch(
            resource, resource_version=version, timeout=WATCH, **self.selectors
        )
        for event in watching:
            self._seen(event["type"], event["raw_object"])

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self._round()
            except Exception as error:
                # A watch ends now and then, and the API server may be away: list again.
                log.info("following %s again: %s", self.kind, error)
                pause.wait(0.5)
