# SPDX-License-Identifier: Apache-2.0
"""What the lab's controllers share: a client, a cache that a watch keeps fresh, a work queue."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.dynamic import DynamicClient

Obj = dict[str, Any]
log = logging.getLogger("lab.kube")


# Seconds after which the API server ends a watch.
WATCH = 300
# Seconds. A connection can die without a word: one that is silent for longer than a watch is dead.
CONNECT, SILENCE = 5.0, WATCH + 15.0


class Patient(ApiClient):
    """A client whose every request has a time limit: the Kubernetes client sets none."""

    def call_api(self, *args: Any, **more: Any) -> Any:
        """Make a request; raises an HTTPError of urllib3 when no answer comes in time."""
        more["_request_timeout"] = more.get("_request_timeout") or (CONNECT, SILENCE)
        return super().call_api(*args, **more)


class Kube:
    """Dynamic client with the few verbs that the controllers use. Objects are plain mappings."""

    def __init__(self, manager: str | None = None) -> None:
        """`manager` is the field manager of every write that does not name another."""
        self.manager = manager
        found = Configuration()
        if os.environ.get("KUBECONFIG"):
            config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=found)
        else:
            config.load_incluster_config(client_configuration=found)
        self.dynamic = DynamicClient(Patient(found))

    def _resource(self, api_version: str, kind: str) -> Any:
        return self.dynamic.resources.get(api_version=api_version, kind=kind)

    def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> Obj | None:
        """The object, or None."""
        try:
            resource = self._resource(api_version, kind)
            found: Obj = resource.get(name=name, namespace=namespace).to_dict()
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def list(self, api_version: str, kind: str, **selectors: Any) -> list[Obj]:
        """All objects of a kind that the selectors match."""
        items: list[Obj] = self._resource(api_version, kind).get(**selectors).to_dict()["items"]
        return items

    def create(self, body: Obj) -> Obj | None:
        """Create an object; None when there is one of that name."""
        resource = self._resource(body["apiVersion"], body["kind"])
        try:
            made: Obj = resource.create(
                body=body,
                namespace=body["metadata"].get("namespace"),
                field_manager=self.manager,
            ).to_dict()
        except ApiException as error:
            if error.status == 409:
                return None
            raise
        return made

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        change: Any,
        namespace: str | None = None,
        subresource: str | None = None,
        form: str = "merge-patch",
    ) -> Obj | None:
        """Patch an object; None when it is gone. A list is always a JSON patch."""
        resource = self._resource(api_version, kind)
        if subresource:
            resource = resource.subresources[subresource]
        form = "json-patch" if isinstance(change, list) else form
        try:
            done: Obj = resource.patch(
                body=change,
                name=name,
                namespace=namespace,
                content_type=f"application/{form}+json",
                field_manager=self.manager,
            ).to_dict()
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return done

    def delete(
        self, api_version: str, kind: str, name: str, namespace: str | None = None, **options: Any
    ) -> None:
        """Delete an object; one that is gone is fine."""
        try:
            self._resource(api_version, kind).delete(name=name, namespace=namespace, **options)
        except ApiException as error:
            if error.status != 404:
                raise

    def evict(self, name: str, namespace: str, grace: int) -> int:
        """Ask the eviction API to evict a pod; returns the HTTP status (429: a budget forbids)."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"gracePeriodSeconds": grace},
        }
        pods = self._resource("v1", "Pod").subresources["eviction"]
        try:
            pods.create(body=body, name=name, namespace=namespace)
        except ApiException as error:
            return int(error.status)
        return 201

    def follow(
        self,
        api_version: str,
        kind: str,
        handler: Callable[[str, Obj], None],
        **selectors: Any,
    ) -> Cache:
        """Keep a cache of a kind and call `handler(op, object)` for each change."""
        cache = Cache(self, api_version, kind, handler, selectors)
        cache.begin()
        return cache


class Cache:
    """Objects of one kind by (namespace, name), kept fresh by LIST and WATCH in a thread."""

    def __init__(
        self,
        kube: Kube,
        api_version: str,
        kind: str,
        handler: Callable[[str, Obj], None],
        selectors: dict[str, Any],
    ) -> None:
        self.kube, self.api_version, self.kind = kube, api_version, kind
        self.handler, self.selectors = handler, selectors
        self.objects: dict[tuple[str, str], Obj] = {}
        self.filled, self.ended = threading.Event(), threading.Event()

    def begin(self) -> None:
        """Start following, and return once the first LIST is in."""
        threading.Thread(target=self._run, daemon=True, name=f"follow-{self.kind}").start()
        self.filled.wait()

    def end(self) -> None:
        """Call the handler no more; the thread ends when its watch does."""
        self.ended.set()

    def values(self) -> Iterable[Obj]:
        """The objects as they were last seen."""
        return list(self.objects.values())

    def _seen(self, op: str, found: Obj) -> None:
        meta = found["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        if op == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = found
        if self.ended.is_set():
            return
        try:
            self.handler(op, found)
        except Exception:
            log.exception("%s %s %s", op, self.kind, key)

    def _round(self) -> None:
        resource = self.kube._resource(self.api_version, self.kind)
        listing = resource.get(**self.selectors).to_dict()
        there = set()
        for item in listing["items"]:
            item.setdefault("kind", self.kind)
            item.setdefault("apiVersion", self.api_version)
            there.add((item["metadata"].get("namespace") or "", item["metadata"]["name"]))
            self._seen("LISTED", item)
        for key in set(self.objects) - there:
            self._seen("DELETED", self.objects[key])
        self.filled.set()
        version = listing["metadata"]["resourceVersion"]
        for event in self.kube.dynamic.watch(
            resource, resource_version=version, timeout=WATCH, **self.selectors
        ):
            self._seen(event["type"], event["raw_object"])

    def _run(self) -> None:
        while not self.ended.is_set():
            try:
                self._round()
            except Exception as error:
                # A watch ends now and then, and the API server may be away: list again.
                log.info("following %s again: %s", self.kind, error)
                self.ended.wait(0.5)


class Work:
    """Keys to look at again, each once, by one thread; a key that failed comes back later."""

    def __init__(self, look: Callable[[Any], float | None]) -> None:
        """`look(key)` returns seconds after which to look again, or None."""
        self.look = look
        self.waiting: queue.Queue[Any] = queue.Queue()
        self.known: set[Any] = set()
        self.later: dict[Any, threading.Timer] = {}
        self.lock = threading.Lock()

    def add(self, key: Any, delay: float = 0.0) -> None:
        """Look at `key`, after `delay` seconds; of several times the last one counts."""
        with self.lock:
            # One pause per key: each would begin the next one, and the looks would only grow more.
            if key in self.later:
                self.later.pop(key).cancel()
            if delay > 0:
                timer = threading.Timer(delay, self.add, (key,))
                timer.daemon = True
                self.later[key] = timer
                timer.start()
                return
            if key in self.known:
                return
            self.known.add(key)
        self.waiting.put(key)

    def run(self) -> None:
        """Work for ever."""
        while True:
            key = self.waiting.get()
            with self.lock:
                self.known.discard(key)
            try:
                again = self.look(key)
            except ApiException as error:
                # Two writers met (409), or the object has gone: the next look sees what is there.
                log.info("%s: %s %s", key, error.status, error.reason)
                again = 0.3
            except Exception:
                log.exception("%s", key)
                again = 2.0
            if again is not None:
                self.add(key, again)
