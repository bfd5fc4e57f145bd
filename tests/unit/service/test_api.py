# SPDX-License-Identifier: Apache-2.0
"""The API: who may change what, which nodes it refuses, and what a fault looks like."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from faultline_service import clock
from faultline_service.api import create_app
from faultline_service.models import Inject, fault_object
from kubernetes.client import ApiException

GOOD = {"Authorization": "Bearer good"}
INJECT = "/api/v1/faults/gpu/inject/xid-79"
NODES = {"gpu-node-1": "allowed", "gpu-node-2": "allowed", "precious": "no"}


class FakeKube:
    """A cluster with nodes, faults and the two reviews. Tokens: good, other (audience), weak."""

    def __init__(self) -> None:
        self.faults: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []

    def get(self, kind: str, name: str, api_version: str = "") -> dict[str, Any] | None:
        if kind == "Node":
            labels = {"faultline.dev/drill": NODES.get(name)}
            return {"metadata": {"name": name, "labels": labels}} if name in NODES else None
        return self.faults.get(name)

    def list(self, kind: str) -> list[dict[str, Any]]:
        return list(self.faults.values()) if kind == "GPUFault" else []

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["kind"] == "TokenReview":
            token = body["spec"]["token"]
            known = {"good": "faultline", "weak": "faultline", "other": "https://kubernetes"}
            status = {"authenticated": token in known, "audiences": [known.get(token)]}
            return {"status": status | {"user": {"username": token, "groups": ["g"]}}}
        if body["kind"] == "SubjectAccessReview":
            self.asked.append(body["spec"])
            return {"status": {"allowed": body["spec"]["user"] == "good"}}
        if body["metadata"]["name"] in self.faults:
            raise ApiException(status=409, reason="AlreadyExists")
        # What the API server adds of itself.
        body["metadata"]["creationTimestamp"] = clock.stamp()
        body["spec"].setdefault("durationSeconds", 900)
        self.faults[body["metadata"]["name"]] = body
        return body

    def patch(self, kind: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        self.faults[name]["spec"] |= change["spec"]
        return self.faults[name]

    def delete(self, kind: str, name: str) -> None:
        del self.faults[name]


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def client(kube: FakeKube) -> TestClient:
    return TestClient(create_app(kube))


def body(node: str = "gpu-node-1", **more: Any) -> dict[str, Any]:
    return {"node_name": node, "run_id": "run-1"} | more


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic Z29vZA=="}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer forged"}, 401),
        ({"Authorization": "Bearer other"}, 401),
        ({"Authorization": "Bearer weak"}, 403),
    ],
)
def test_no_change_without_a_token_of_a_user_who_may(
    client: TestClient, kube: FakeKube, headers: dict[str, str], status: int
) -> None:
    assert client.post(INJECT, json=body(), headers=headers).status_code == status
    assert kube.faults == {}
    client.post(INJECT, json=body(), headers=GOOD)
    (name,) = kube.faults
    recover = client.post(f"/api/v1/faults/{name}/recover", headers=headers)
    delete = client.delete(f"/api/v1/faults/{name}", headers=headers)
    assert (recover.status_code, delete.status_code) == (status, status)
    assert not kube.faults[name]["spec"].get("ended")


def test_the_cluster_is_asked_for_exactly_the_verb_that_is_needed(
    client: TestClient, kube: FakeKube
) -> None:
    name = client.post(INJECT, json=body(), headers=GOOD).json()["fault_id"]
    client.post(f"/api/v1/faults/{name}/recover", headers=GOOD)
    client.delete(f"/api/v1/faults/{name}", headers=GOOD)
    asked = [spec["resourceAttributes"] for spec in kube.asked]
    assert [a["verb"] for a in asked] == ["create", "update", "delete"]
    assert {(a["group"], a["resource"]) for a in asked} == {("faultline.dev", "gpufaults")}


def test_a_token_that_came_through_the_api_servers_proxy_counts(client: TestClient) -> None:
    headers = {"X-Faultline-Authorization": "Bearer good"}
    assert client.post(INJECT, json=body(), headers=headers).status_code == 200


def test_a_node_that_is_not_marked_is_never_hurt(client: TestClient, kube: FakeKube) -> None:
    answer = client.post(INJECT, json=body("precious"), headers=GOOD)
    assert answer.status_code == 403
    assert "faultline.dev/drill=allowed" in answer.json()["detail"]
    assert client.post(INJECT, json=body("nowhere"), headers=GOOD).status_code == 404
    assert kube.faults == {}


def test_faults_on_a_second_node_wait_until_the_first_is_over(
    client: TestClient, kube: FakeKube
) -> None:
    first = client.post(INJECT, json=body(), headers=GOOD).json()["fault_id"]
    assert client.post(INJECT, json=body("gpu-node-2"), headers=GOOD).status_code == 409
    assert client.post(INJECT, json=body(), headers=GOOD).status_code == 200
    for fault in kube.faults.values():
        fault["status"] = {"phase": "Recovered"}
    assert client.post(INJECT, json=body("gpu-node-2"), headers=GOOD).status_code == 200
    assert first in kube.faults


@pytest.mark.parametrize("accepted", [True, False])
def test_a_fault_whose_time_is_over_does_not_count_even_if_no_agent_is_left_to_say_so(
    client: TestClient, kube: FakeKube, accepted: bool
) -> None:
    name = client.post(INJECT, json=body(duration=60), headers=GOOD).json()["fault_id"]
    fault = kube.faults[name]

    def ago(seconds: float) -> None:
        then = time.time() - seconds
        fault["metadata"]["creationTimestamp"] = clock.stamp(then)
        if accepted:
            fault["status"] = {"phase": "Active", "endsAt": clock.stamp(then + 60)}

    # Clocks of nodes may differ by a minute.
    ago(110)
    assert client.post(INJECT, json=body("gpu-node-2"), headers=GOOD).status_code == 409
    assert client.get("/api/v1/faults?active_only=true").json()
    ago(130)
    assert not client.get("/api/v1/faults?active_only=true").json()
    assert client.post(INJECT, json=body("gpu-node-2"), headers=GOOD).status_code == 200


def test_a_fault_is_an_object_with_target_run_and_duration(
    client: TestClient, kube: FakeKube
) -> None:
    wanted = body(gpu_id=1, duration=60, effects=["cuda"])
    answer = client.post(INJECT, json=wanted, headers=GOOD).json()
    assert (answer["status"], answer["fault_type"]) == ("pending", "gpu_xid_79")
    assert answer["target"] == "gpu-node-1/gpu1"
    fault = kube.faults[answer["fault_id"]]
    assert fault["metadata"]["labels"]["faultline.dev/run"] == "run-1"
    assert fault["spec"] == {
        "xid": 79,
        "node": "gpu-node-1",
        "gpu": {"index": 1},
        "effects": ["cuda"],
        "durationSeconds": 60,
        "runId": "run-1",
    }


def test_the_same_request_twice_is_one_fault_and_another_of_its_name_is_refused(
    client: TestClient, kube: FakeKube
) -> None:
    for _ in range(2):
        answer = client.post(INJECT, json=body(fault_id="mine"), headers=GOOD)
        assert (answer.status_code, answer.json()["fault_id"]) == (200, "mine")
    other = client.post(INJECT, json=body(fault_id="mine", gpu_id=1), headers=GOOD)
    assert other.status_code == 409
    assert "end it first" in other.json()["detail"]
    assert list(kube.faults) == ["mine"]


@pytest.mark.parametrize("phase", ["Recovered", "Failed"])
def test_a_fault_that_is_over_is_not_answered_as_if_it_had_been_injected(
    client: TestClient, kube: FakeKube, phase: str
) -> None:
    client.post(INJECT, json=body(fault_id="mine"), headers=GOOD)
    kube.faults["mine"]["status"] = {"phase": phase}
    again = client.post(INJECT, json=body(fault_id="mine"), headers=GOOD)
    assert again.status_code == 409
    assert "mine is over" in again.json()["detail"]


def leave(fault: dict[str, Any]) -> None:
    fault["metadata"]["deletionTimestamp"] = clock.stamp()


def end(fault: dict[str, Any]) -> None:
    fault["spec"]["ended"] = True


def run_out(fault: dict[str, Any]) -> None:
    fault["status"] |= {"endsAt": clock.stamp(time.time() - 70)}


@pytest.mark.parametrize("happens", [leave, end, run_out])
def test_a_fault_that_its_agent_has_still_to_end_is_not_answered_as_if_it_would_hurt(
    client: TestClient, kube: FakeKube, happens: Callable[[dict[str, Any]], None]
) -> None:
    client.post(INJECT, json=body(fault_id="mine"), headers=GOOD)
    kube.faults["mine"]["status"] = {"phase": "Active"}
    assert client.post(INJECT, json=body(fault_id="mine"), headers=GOOD).status_code == 200
    happens(kube.faults["mine"])
    again = client.post(INJECT, json=body(fault_id="mine"), headers=GOOD)
    assert again.status_code == 409
    assert "mine is over, or about to be: delete it" in again.json()["detail"]


@pytest.mark.parametrize("xid", [0, 1001])
def test_an_xid_outside_the_range_is_refused(client: TestClient, xid: int) -> None:
    answer = client.post(f"/api/v1/faults/gpu/inject/xid-{xid}", json=body(), headers=GOOD)
    assert answer.status_code == 422


def test_reading_needs_no_token_and_knows_what_is_over(client: TestClient, kube: FakeKube) -> None:
    name = client.post(INJECT, json=body(), headers=GOOD).json()["fault_id"]
    kube.faults[name]["status"] = {"phase": "Recovered", "message": "over"}
    assert [f["fault_id"] for f in client.get("/api/v1/faults").json()] == [name]
    assert client.get("/api/v1/faults?active_only=true").json() == []
    assert client.get(f"/api/v1/faults/{name}").json()["status"] == "recovered"
    assert client.get("/api/v1/faults/none").status_code == 404
    assert client.get("/health").json()["service"] == "fault-injection-api"
    assert {t["code"] for t in client.get("/api/v1/faults/gpu/xid-types").json()} >= {79, 94, 119}


def test_how_and_whose_calls_are_hit_comes_to_the_object_as_it_was_asked(
    client: TestClient, kube: FakeKube
) -> None:
    pod = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"
    cuda = {
        "mode": "slow",
        "after_calls": 3,
        "probability": 0.5,
        "seed": 7,
        "delay_microseconds": 10,
        "not_before_seconds": 2,
        "classes": "SQ",
        "target": {"pod_uid": pod, "mig_uuid": f"MIG-{pod}", "pid": 4711, "rank": 0},
    }
    assert client.post(INJECT, json=body(cuda=cuda), headers=GOOD).status_code == 200
    (fault,) = kube.faults.values()
    assert fault["spec"]["cuda"] == {
        "mode": "slow",
        "afterCalls": 3,
        "probability": 0.5,
        "seed": 7,
        "delayMicroseconds": 10,
        "notBeforeSeconds": 2,
        "classes": "SQ",
        "target": {"podUID": pod, "migUUID": f"MIG-{pod}", "pid": 4711, "rank": 0},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "flaky"},
        {"probability": 0},
        {"classes": "P"},
        {"aftercalls": 3},
        {"target": {"pod_uid": "pod-1"}},
        {"target": {"pod": "x"}},
    ],
)
def test_a_wrong_word_about_cuda_is_refused_and_not_left_out(
    client: TestClient, kube: FakeKube, wrong: dict[str, Any]
) -> None:
    assert client.post(INJECT, json=body(cuda=wrong), headers=GOOD).status_code == 422
    assert kube.faults == {}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"mode": "slow"}, "needs a delay"),
        ({"mode": "slow", "delay_microseconds": 0}, "needs a delay"),
        ({"mode": "once", "delay_microseconds": 5}, "hang and slow, not for once"),
        ({"delay_microseconds": 5}, "say the mode, too"),
        ({"seed": 7}, "say the probability, too"),
        ({"mode": "genuine"}, "no kernel brings XID 79 about"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once_with_a_sentence(
    client: TestClient, kube: FakeKube, wrong: dict[str, Any], why: str
) -> None:
    answer = client.post(INJECT, json=body(cuda=wrong), headers=GOOD)
    assert (answer.status_code, kube.faults) == (422, {})
    assert why in answer.json()["detail"]


def test_how_calls_fail_has_no_meaning_where_none_shall_fail(
    client: TestClient, kube: FakeKube
) -> None:
    wanted = body(effects=["kernelLog"], cuda={"mode": "once"})
    answer = client.post(INJECT, json=wanted, headers=GOOD)
    assert (answer.status_code, kube.faults) == (422, {})


def test_a_fault_that_differs_in_cuda_alone_is_another_one(
    client: TestClient, kube: FakeKube
) -> None:
    once, plain = body(fault_id="mine", cuda={"mode": "once"}), body(fault_id="mine")
    assert client.post(INJECT, json=once, headers=GOOD).status_code == 200
    assert client.post(INJECT, json=once, headers=GOOD).status_code == 200
    assert client.post(INJECT, json=plain, headers=GOOD).status_code == 409


def test_a_node_whose_name_is_no_label_can_have_faults_as_well() -> None:
    made = fault_object(79, Inject(node_name="n" * 200, run_id="run-1"))
    assert made["spec"]["node"] == "n" * 200
    assert made["metadata"]["labels"] == {"faultline.dev/run": "run-1"}
