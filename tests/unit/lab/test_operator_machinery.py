# SPDX-License-Identifier: Apache-2.0
"""Watches, store, queue, leader election, certificate and manifests of the operator stand-in."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_recordings import FOLDER

from lab.operator import certificates, names
from lab.operator.controller import Controller
from lab.operator.crd_text import crd_text
from lab.operator.crds import all_crds
from lab.operator.informer import Informer
from lab.operator.leader import Sight, may_take, taken
from lab.operator.registration import changes
from lab.operator.settings import Settings
from lab.operator.store import Store

Object = dict[str, Any]
MANIFESTS = Path(__file__).parents[3] / "lab" / "operator" / "manifests"
LIMIT = 30.0


def pod(name: str, version: int, uid: str = "u", **meta: Any) -> Object:
    labels = {names.GRAPH: "mock", names.SELECTOR: "mock-decode-1"}
    metadata = {"name": name, "namespace": "drill", "uid": uid, "labels": labels, **meta}
    return {"kind": "Pod", "metadata": {**metadata, "resourceVersion": str(version)}}


def test_the_store_keeps_the_newest_state_whatever_arrives_last() -> None:
    store = Store()
    assert store.put(pod("a", 5))
    assert not store.put(pod("a", 4))
    found = store.get("Pod", "drill", "a")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "5"


def test_a_late_event_does_not_bring_a_deleted_object_back() -> None:
    store = Store()
    store.put(pod("a", 5))
    store.drop(pod("a", 6))
    assert not store.put(pod("a", 5))
    assert store.get("Pod", "drill", "a") is None
    assert store.put(pod("a", 7, uid="another"))


def test_pods_that_ended_hold_no_gpu() -> None:
    store = Store()
    store.put(pod("a", 1, "1"))
    store.put({**pod("b", 2, "2"), "status": {"phase": "Succeeded"}})
    assert store.live_pods("drill", "mock") == {"mock-decode-1": 1}


def test_a_key_that_is_queued_twice_is_handled_once() -> None:
    handled: list[str] = []
    done = threading.Event()

    def reconcile(namespace: str, name: str) -> None:
        handled.append(name)
        if name == "last":
            done.set()

    controller = Controller("test", reconcile)
    for _ in range(3):
        controller.add("drill", "a")
    controller.add("drill", "last")
    controller.start()
    assert done.wait(LIMIT)
    controller.stop()
    assert handled == ["a", "last"]


def test_a_failed_key_is_tried_again_and_others_go_on() -> None:
    tries: list[str] = []
    done = threading.Event()

    def reconcile(namespace: str, name: str) -> None:
        tries.append(name)
        if name == "bad" and tries.count("bad") < 2:
            raise ValueError("first time")
        if name == "bad":
            done.set()

    controller = Controller("test", reconcile)
    controller.add("drill", "bad")
    controller.add("drill", "good")
    controller.start()
    assert done.wait(LIMIT)
    controller.stop()
    assert tries == ["bad", "good", "bad"]


class Response:
    """An open watch: chunks of bytes, then the end."""

    def __init__(self, *events: Object) -> None:
        self._chunks = [json.dumps(event).encode() + b"\n" for event in events]

    def stream(self, **_: Any) -> Any:
        yield from self._chunks

    def close(self) -> None:
        """Nothing to close."""


class ListsAndWatches:
    """An API that gives one answer after the other, then blocks."""

    def __init__(self, lists: list[Object], watches: list[Response]) -> None:
        self._lists, self._watches = lists, watches
        self.versions: list[str] = []
        self.exhausted = threading.Event()

    def list_all(self, *_: Any) -> Object:
        return self._lists.pop(0)

    def watch_all(self, kind: str, labels: Any, fields: Any, version: str) -> Response:
        self.versions.append(version)
        if not self._watches:
            self.exhausted.set()
            threading.Event().wait(LIMIT)
            return Response()
        return self._watches.pop(0)


def listing(version: int, *items: Object) -> Object:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


def test_an_expired_watch_lists_again_at_once_and_reports_what_vanished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lab.operator.informer.RETRY_SECONDS", 10 * LIMIT)
    expired = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    api = ListsAndWatches(
        [listing(10, pod("a", 1, "1"), pod("b", 2, "2")), listing(20, pod("b", 15, "2"))],
        [Response({"type": "MODIFIED", "object": pod("b", 12, "2")}, expired)],
    )
    seen: list[tuple[str, str]] = []
    informer = Informer(api, "Pod", lambda c, o: seen.append((c, o["metadata"]["name"])))  # type: ignore[arg-type]
    informer.start()
    assert api.exhausted.wait(LIMIT)
    informer.stop()
    assert seen == [
        ("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a"), ("ADDED", "b"),
    ]  # fmt: skip
    assert api.versions == ["10", "20"]


def test_a_watch_that_ends_goes_on_from_its_last_bookmark() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "17"}}}
    api = ListsAndWatches([listing(10)], [Response(bookmark)])
    informer = Informer(api, "Pod", lambda c, o: None)  # type: ignore[arg-type]
    informer.start()
    assert api.exhausted.wait(LIMIT)
    informer.stop()
    assert api.versions == ["10", "17"]


def lease(holder: str, version: str = "1") -> Object:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 4, "acquireTime": "x"}
    return {"metadata": {"resourceVersion": version}, "spec": spec}


def test_another_replica_leads_only_when_the_lease_was_not_renewed_for_its_duration() -> None:
    sight = Sight()
    assert not may_take(lease("other"), "me", sight, now=100.0)
    assert not may_take(lease("other", "2"), "me", sight, now=103.0), "it was renewed"
    assert not may_take(lease("other", "2"), "me", sight, now=106.9)
    assert may_take(lease("other", "2"), "me", sight, now=107.0)


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    assert may_take(lease(""), "me", Sight(), now=0.0)
    assert may_take(None, "me", Sight(), now=0.0)


def test_a_change_of_leader_is_counted_and_a_renewal_is_not() -> None:
    ours = taken(lease("other"), "me", 4, "now")
    assert ours["spec"]["leaseTransitions"] == 1
    again = taken(ours, "me", 4, "later")
    assert again["spec"]["leaseTransitions"] == 1
    assert again["spec"]["acquireTime"] == "now"
    assert again["spec"]["renewTime"] == "later"


def test_the_certificate_is_good_for_its_hosts_and_no_others() -> None:
    pair = certificates.make(["webhook.dynamo-system.svc", "10.0.0.1"])
    assert certificates.still_good(pair, ["webhook.dynamo-system.svc", "10.0.0.1"])
    assert not certificates.still_good(pair, ["elsewhere.svc"])
    assert not certificates.still_good(certificates.Pair(b"", b"", b""), [])


def documents(name: str) -> list[Object]:
    text = (MANIFESTS / name).read_text()
    for variable in ("lab_stack_image", "lab_stack_operator_probe_profile"):
        text = text.replace("{{ " + variable + " }}", variable)
    assert "{{" not in text, "the manifests know two variables only"
    return list(yaml.safe_load_all(text))


def test_the_manifest_holds_exactly_the_generated_definitions() -> None:
    assert (MANIFESTS / "10-crds.yaml.j2").read_text() == crd_text()
    assert documents("10-crds.yaml.j2") == all_crds()


def recorded(key: str) -> Any:
    return json.loads((FOLDER / "operator-install-objects.json").read_text())[key]


def test_the_graphs_definition_has_the_recorded_names_versions_and_columns() -> None:
    wanted = recorded("crds")["dynamographdeployments"]
    ours = all_crds()[0]["spec"]
    assert ours["names"] == wanted["names"]
    conversion = wanted["conversion"]
    del conversion["webhook"]["clientConfig"]["caBundle"]
    assert ours["conversion"] == conversion
    for mine, theirs in zip(ours["versions"], wanted["versions"], strict=True):
        for key in ("name", "served", "storage", "subresources", "additionalPrinterColumns"):
            assert mine[key] == theirs[key]
        for key in ("deprecated", "deprecationWarning"):
            assert mine.get(key) == theirs[key]


def test_the_webhooks_are_registered_under_the_recorded_names_and_paths() -> None:
    by_kind = {doc["kind"]: doc for doc in documents("40-webhooks.yaml.j2")}
    for key, kind in (
        ("mutating", "MutatingWebhookConfiguration"),
        ("validating", "ValidatingWebhookConfiguration"),
    ):
        ours = by_kind[kind]
        assert ours["metadata"]["name"] == recorded(key)["metadata"]["name"]
        hook = ours["webhooks"][0]
        theirs = next(w for w in recorded(key)["webhooks"] if w["name"] == hook["name"])
        assert hook["clientConfig"]["service"] == theirs["clientConfig"]["service"]
        assert (hook["failurePolicy"], hook["matchPolicy"]) == ("Fail", theirs["matchPolicy"])


@pytest.mark.parametrize("name", ["10-crds.yaml.j2", "40-webhooks.yaml.j2"])
def test_the_ca_is_put_in_once_and_again_after_it_was_taken_out(name: str) -> None:
    for obj in documents(name):
        if obj["metadata"]["name"].startswith(("dynamocomponent", "dynamoworker")):
            continue
        patch = changes(obj, "Q0E=", Settings())
        assert len(patch) == 1
        assert patch[0]["value"]["caBundle"] == "Q0E="
        assert patch[0]["value"]["service"]["name"] == names.WEBHOOK_SERVICE
        target = obj["spec"]["conversion"]["webhook"] if "spec" in obj else obj["webhooks"][0]
        target["clientConfig"] = patch[0]["value"]
        assert changes(obj, "Q0E=", Settings()) == []


def test_a_run_outside_registers_by_url_and_the_next_run_inside_takes_it_back() -> None:
    obj = documents("40-webhooks.yaml.j2")[0]
    outside = Settings(webhook_url="https://10.0.0.1:9443")
    config = changes(obj, "Q0E=", outside)[0]["value"]
    assert config["url"].startswith("https://10.0.0.1:9443/mutate/")
    obj["webhooks"][0]["clientConfig"] = config
    back = changes(obj, "Q0E=", Settings())[0]["value"]
    assert "url" not in back
    assert back["service"]["path"] == "/mutate/nvidia.com/v1beta1/dynamographdeployments"
