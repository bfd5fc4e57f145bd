# SPDX-License-Identifier: Apache-2.0
"""What the API answers when the cluster behind it refuses, does not answer or has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from faultline_service.api import create_app
from kubernetes.client import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from test_api import GOOD, INJECT, FakeKube, body
from urllib3.exceptions import ReadTimeoutError

SILENT = ReadTimeoutError(None, "/apis", "Read timed out.")  # type: ignore[arg-type]
UNKNOWN = ResourceNotFoundError("no matches")


def refused(status: int, message: str) -> ApiException:
    """What the API server says, as the client has it."""
    found = ApiException(status=status, reason="Reason")
    found.body = json.dumps({"kind": "Status", "message": message, "code": status})
    return found


class Troubled(FakeKube):
    """A cluster that creates no fault, for the reason given."""

    why: Exception

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["kind"] == "GPUFault":
            raise self.why
        return super().create(body)


@pytest.mark.parametrize(
    ("why", "status", "words"),
    [
        (SILENT, 503, "API server does not answer"),
        (UNKNOWN, 503, "knows no GPUFault"),
        (refused(422, "spec.gpu.uuid: Invalid value"), 422, "refused: spec.gpu.uuid: Invalid"),
        (refused(401, "Unauthorized"), 502, "refused: Unauthorized"),
        (refused(403, "gpufaults is forbidden"), 502, "refused: gpufaults is forbidden"),
        (ApiException(status=500, reason="Internal"), 500, "refused: Internal"),
    ],
)
def test_trouble_of_the_cluster_is_said_in_a_sentence_and_not_laid_to_the_caller(
    why: Exception, status: int, words: str
) -> None:
    kube = Troubled()
    kube.why = why
    client = TestClient(create_app(kube), raise_server_exceptions=False)
    answer = client.post(INJECT, json=body(), headers=GOOD)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert "{" not in answer.json()["detail"]


def test_a_fault_that_goes_while_it_is_ended_is_not_there_any_more() -> None:
    class Racing(FakeKube):
        def patch(self, kind: str, name: str, change: dict[str, Any]) -> Any:
            self.faults.pop(name)

    client = TestClient(create_app(Racing()), raise_server_exceptions=False)
    name = client.post(INJECT, json=body(), headers=GOOD).json()["fault_id"]
    answer = client.post(f"/api/v1/faults/{name}/recover", headers=GOOD)
    assert answer.status_code == 404
    assert name in answer.json()["detail"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"gpu_index": 1}, "gpu_index"),
        ({"gpu_id": 1, "gpu_uuid": "GPU-1"}, "by one of gpu_id, gpu_uuid"),
        ({"gpu_uuid": "GPU-1", "pci_address": "0000:1a:00"}, "by one of gpu_uuid, pci_address"),
        ({"xid_type": 48}, "xid_type is 48, the address says 79"),
    ],
)
def test_a_request_that_may_mean_another_gpu_or_fault_hurts_none(
    wrong: dict[str, Any], words: str
) -> None:
    kube = FakeKube()
    answer = TestClient(create_app(kube)).post(INJECT, json=body(**wrong), headers=GOOD)
    assert (answer.status_code, kube.faults) == (422, {})
    assert words in answer.text


def test_a_request_as_dynamos_own_clients_send_it_is_understood() -> None:
    kube = FakeKube()
    wanted = {"node_name": "gpu-node-1", "xid_type": 79, "gpu_id": 1, "gpu_uuid": None}
    answer = TestClient(create_app(kube)).post(INJECT, json=wanted, headers=GOOD)
    assert answer.status_code == 200
    assert answer.json()["spec"]["gpu"] == {"index": 1}


def test_the_description_of_the_api_says_what_needs_a_token_and_how_it_is_sent() -> None:
    found = create_app(FakeKube()).openapi()
    routes = {
        (verb, path): {name for one in route.get("security", []) for name in one}
        for path, verbs in found["paths"].items()
        for verb, route in verbs.items()
    }
    changing = {at for at in routes if at[0] != "get"}
    assert len(changing) == 3
    assert all(bool(routes[at]) == (at in changing) for at in routes)
    for at in changing:
        assert routes[at] == {"HTTPBearer", "APIKeyHeader"}
    assert found["components"]["securitySchemes"]["APIKeyHeader"]["name"].startswith("X-Faultline")
