# SPDX-License-Identifier: Apache-2.0
"""Threads of the operator stand-in outlive what they did not expect, and two replicas agree."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from kubernetes.dynamic.exceptions import ConflictError
from operator_cluster import HttpAnswer

from lab.operator import certificates, names
from lab.operator.__main__ import Health, serve_until
from lab.operator.events import Recorder
from lab.operator.informer import Informer
from lab.operator.kube import Kube
from lab.operator.leader import Elector
from lab.operator.settings import Settings

Object = dict[str, Any]
LIMIT = 5.0
HOSTS = ["webhook.dynamo-system.svc"]


class OneDefinition:
    """An API with one definition, which changes from one LIST to the next; watches stay silent."""

    def __init__(self, *versions: Object) -> None:
        self.versions = list(versions)

    def list_all(self, *_: Any) -> Object:
        found = {"metadata": {"uid": "u", "name": "graphs"}} | self.versions.pop(0)
        return {"metadata": {"resourceVersion": "1"}, "items": [found]}

    def watch_all(self, *_: Any) -> Any:
        threading.Event().wait(LIMIT)


def test_an_object_that_is_not_as_expected_does_not_end_its_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lab.operator.informer.RETRY_SECONDS", 0.01)
    handled = threading.Event()

    def handler(_change: str, obj: Object) -> None:
        if obj["spec"]["conversion"]:
            handled.set()

    api = OneDefinition({"spec": {}}, {"spec": {"conversion": "Webhook"}})
    informer = Informer(cast(Kube, api), "CustomResourceDefinition", handler)
    informer.start()
    assert handled.wait(LIMIT)
    informer.stop()


def test_an_event_that_could_not_be_written_is_not_the_last_one() -> None:
    written = threading.Event()

    class Api:
        def create(self, body: Object) -> None:
            if body["reason"] == "first":
                raise OSError("the connection was reset")
            written.set()

    recorder = Recorder(cast(Kube, Api()))
    about = {"kind": "Pod", "metadata": {"name": "a", "namespace": "drill"}}
    for reason in ("first", "second"):
        recorder.record(about, reason, "")
    assert written.wait(LIMIT)


class Leases:
    """An API with a lease that nobody holds. Once `silent`, it answers no call until `over`."""

    def __init__(self) -> None:
        self.silent, self.over = threading.Event(), threading.Event()

    def get(self, *_: Any) -> None:
        if self.silent.is_set():
            self.over.wait()

    def create(self, body: Object) -> Object:
        return body


def test_a_leader_whose_renewal_never_returns_stops_leading_all_the_same() -> None:
    api, led, lost = Leases(), threading.Event(), threading.Event()
    elector = Elector(cast(Kube, api), "dynamo-system", "me", 1, led.set, lost.set)
    elector.start()
    assert led.wait(LIMIT)
    api.silent.set()
    assert lost.wait(LIMIT)
    led.clear()
    api.over.set()
    elector._thread.join(LIMIT)
    assert not led.is_set(), "it does not lead again when the answer comes at last"


class AtWork(Leases):
    """An API with one graph; the first write of the graph takes until `over`."""

    def __init__(self) -> None:
        super().__init__()
        self.writing, self.free, self.lease = threading.Event(), threading.Event(), {}

    def list_all(self, kind: str, *_: Any) -> Object:
        meta = {"name": "mock", "namespace": "drill", "uid": "u", "resourceVersion": "1"}
        found = [{"metadata": meta, "spec": {}}] if kind == names.DGD_KIND else []
        return {"metadata": {"resourceVersion": "1"}, "items": found}

    def watch_all(self, *_: Any) -> Any:
        self.free.wait(LIMIT)
        raise OSError("the watch has ended")

    def get(self, *_: Any) -> Object | None:
        return self.lease or None

    def create(self, body: Object) -> Object:
        if body["kind"] == "Lease":
            self.lease = body | {"metadata": body["metadata"] | {"resourceVersion": "1"}}
        return body

    def replace(self, body: Object) -> None:
        if not body["spec"]["holderIdentity"]:
            self.free.set()

    def patch(self, *_: Any, **__: Any) -> None:
        self.writing.set()
        self.over.wait(LIMIT)
        raise OSError("the pod ends")


def test_the_lease_is_given_back_only_when_what_is_being_written_is_written() -> None:
    api = AtWork()

    async def run() -> None:
        stop = asyncio.Event()
        settings = Settings(status_delay=0.0)
        task = asyncio.create_task(serve_until(stop, cast(Kube, api), Health(), settings, []))
        assert await asyncio.to_thread(api.writing.wait, LIMIT)
        stop.set()
        assert not await asyncio.to_thread(api.free.wait, 0.5)
        api.over.set()
        assert await asyncio.to_thread(api.free.wait, LIMIT)
        await task

    asyncio.run(run())


class Secrets:
    """An API with the webhook's secret; `meanwhile` happens before the first write of it."""

    def __init__(self, pair: certificates.Pair) -> None:
        self.meanwhile: Callable[[], Any] = lambda: None
        self.version = 1
        self.data = {"ca.crt": pair.ca, "tls.crt": pair.certificate, "tls.key": pair.key}

    def get(self, *_: Any) -> Object:
        data = {key: base64.b64encode(value).decode() for key, value in self.data.items()}
        return {"metadata": {"resourceVersion": str(self.version)}, "data": data}

    def patch(self, kind: str, _namespace: str, name: str, body: Object) -> None:
        assert (kind, name) == ("Secret", names.WEBHOOK_SECRET)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        if body.get("metadata", {}).get("resourceVersion", str(self.version)) != str(self.version):
            raise ConflictError(HttpAnswer())
        self.version += 1
        self.data = {key: base64.b64decode(value) for key, value in body["data"].items()}


def test_two_replicas_that_renew_the_certificate_at_once_answer_with_the_same() -> None:
    api = Secrets(certificates.make(["elsewhere.svc"]))
    others: list[certificates.Pair] = []
    replica = cast(Kube, api)
    api.meanwhile = lambda: others.append(certificates.ensure(replica, "dynamo-system", HOSTS))
    ours = certificates.ensure(replica, "dynamo-system", HOSTS)
    assert [ours] == others
    assert api.data["tls.crt"] == ours.certificate
