# SPDX-License-Identifier: Apache-2.0
"""The operator stand-in behind a real API server: recorded requests, and graphs that start."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

pytestmark = pytest.mark.lab

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "tests" / "data" / "recordings" / "dynamo"
KUBECONFIG = os.environ.get("KUBECONFIG", "/var/lib/faultline-lab/lab/kubeconfig")
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
WAIT_SECONDS = 180.0
# The one recorded answer that the stand-in does not give: see lab/operator/README.md.
DIFFERENT = {"bad volume type"}


class Api:
    """Plain requests to the API server, answers as (status, warning header, body)."""

    def __init__(self) -> None:
        self._client = client.ApiClient(
            configuration=_configuration(),
        )

    def call(
        self, method: str, path: str, body: Object | str | None = None, kind: str | None = None
    ) -> tuple[int, str, Object]:
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        headers = {"Accept": "application/json", "Content-Type": kind or "application/json"}
        host = self._client.configuration.host
        pool = self._client.rest_client.pool_manager
        answer = pool.request(method, host + path, body=text, headers=headers)
        return answer.status, answer.headers.get("Warning", ""), json.loads(answer.data)


def _configuration() -> client.Configuration:
    found = client.Configuration()
    config.load_kube_config(KUBECONFIG, client_configuration=found)
    return found


@pytest.fixture(scope="module")
def api() -> Api:
    return Api()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace for one test."""
    name = f"operator-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert api.call("POST", "/api/v1/namespaces", body)[0] == 201
    yield name
    api.call("DELETE", f"/api/v1/namespaces/{name}")


def rows(name: str) -> list[Object]:
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]


def graphs(namespace: str, version: str) -> str:
    return f"/apis/nvidia.com/{version}/namespaces/{namespace}/dynamographdeployments"


def recorded_graph(name: str, version: str, namespace: str) -> Object:
    dump = json.loads((RECORDINGS / f"objects-{name}.json").read_text())
    graph = dump[f"dynamographdeployments.{version}.nvidia.com"][0]
    return {
        "apiVersion": graph["apiVersion"],
        "kind": graph["kind"],
        "metadata": {"name": graph["metadata"]["name"], "namespace": namespace},
        "spec": graph["spec"],
    }


def patch_type(row: Object) -> str:
    if "ssa" in row["label"]:
        return APPLY
    if "strategic" in row["label"]:
        return STRATEGIC
    return JSON_PATCH if row["request_content"].startswith("[") else MERGE


def dry(path: str, label: str) -> str:
    """The recorded path, always as dry run: real changes would build on each other."""
    if "dryRun" not in path:
        path += ("&" if "?" in path else "?") + "dryRun=All"
    return path + ("&force=true" if "force" in label and "force" not in path else "")


@pytest.mark.parametrize(
    ("recording", "graph", "version"),
    [
        ("patch-methods-v1beta1", "v1beta1-agg-ready", "v1beta1"),
        ("patch-methods-v1alpha1", "v1alpha1-ready", "v1alpha1"),
    ],
)
def test_recorded_patches_get_the_recorded_answers(
    api: Api, namespace: str, recording: str, graph: str, version: str
) -> None:
    path = f"{graphs(namespace, version)}?fieldManager=kubectl-client-side-apply"
    assert api.call("POST", path, recorded_graph(graph, version, namespace))[0] == 201
    different = []
    for row in rows(recording):
        text = json.dumps(row).replace("drill", namespace)
        row = json.loads(text)
        status, warning, body = api.call(
            "PATCH", dry(row["path"], row["label"]), row["request_content"], patch_type(row)
        )
        wanted = row["response_json"]
        same = status == row["status"] and warning == row["headers"].get("warning", "")
        if status == 200:
            same = same and body["spec"] == wanted["spec"]
        else:
            same = same and body["message"] == wanted["message"]
        if not same:
            different.append(row["label"])
    assert set(different) <= DIFFERENT, different


def test_recorded_creates_get_the_recorded_answers(api: Api, namespace: str) -> None:
    different = []
    for row in rows("create-validation-and-operator-down"):
        if row["via"] != "dry-run":
            continue
        row = json.loads(json.dumps(row).replace("drill", namespace))
        status, _, body = api.call("POST", dry(row["path"], ""), row["request_json"])
        wanted = row["response_json"]
        if status != row["status"] or body.get("message") != wanted.get("message"):
            different.append(row["label"])
    assert different == []


def until(api: Api, path: str, done: Any) -> Object:
    """The first state of an object, from now on, that is ``done``; by watch, with one deadline."""
    deadline = time.monotonic() + WAIT_SECONDS
    collection, name = path.rsplit("/", 1)
    state: Object = {}
    while time.monotonic() < deadline:
        seconds = max(1, int(deadline - time.monotonic()))
        query = f"?fieldSelector=metadata.name%3D{name}"
        _, _, found = api.call("GET", collection + query)
        state = found["items"][0] if found["items"] else {}
        if done(state):
            return state
        version = found["metadata"]["resourceVersion"]
        query += f"&watch=1&resourceVersion={version}&timeoutSeconds={seconds}"
        for state in watch(api, collection + query):
            if done(state):
                return state
    raise AssertionError(f"{path} after {WAIT_SECONDS:.0f} s: {json.dumps(state.get('status'))}")


def watch(api: Api, path: str) -> Iterator[Object]:
    """Objects of a watch; an empty object for a deletion."""
    pool = api._client.rest_client.pool_manager
    host = api._client.configuration.host
    answer = pool.request("GET", host + path, preload_content=False)
    rest = b""
    try:
        for chunk in answer.stream(amt=None):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, lines):
                event = json.loads(line)
                yield {} if event["type"] == "DELETED" else event["object"]
    finally:
        answer.close()


def is_ready(graph: Object) -> bool:
    status = graph.get("status", {})
    observed = status.get("observedGeneration") == graph.get("metadata", {}).get("generation")
    return bool(graph) and observed and status.get("state") == "successful"


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
def test_the_example_graph_starts_rolls_out_and_leaves_nothing_behind(
    api: Api, namespace: str, version: str
) -> None:
    file = ROOT / "lab" / "operator" / "examples" / f"lab-model-{version}.yaml"
    body = yaml.safe_load(file.read_text())
    assert api.call("POST", graphs(namespace, version), body)[0] == 201
    path = f"{graphs(namespace, 'v1beta1')}/lab-model"
    ready = until(api, path, is_ready)
    before = ready["metadata"]["annotations"]["nvidia.com/current-worker-hash-v2"]
    template = {"spec": {"containers": [{"name": "main", "env": [{"name": "X", "value": "1"}]}]}}
    for entry, changed in (({"podTemplate": template}, True), ({}, False)):
        intent = {
            "apiVersion": "nvidia.com/v1beta1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": "lab-model"},
            "spec": {"components": [{"name": "decode", **entry}]},
        }
        assert api.call("PATCH", f"{path}?fieldManager=a-test", intent, APPLY)[0] == 200
        graph = until(api, path, is_ready)
        now = graph["metadata"]["annotations"]["nvidia.com/current-worker-hash-v2"]
        assert (now != before) is changed
    assert graph["spec"] == ready["spec"]
    assert api.call("DELETE", f"{path}?propagationPolicy=Foreground")[0] == 200
    until(api, path, lambda state: not state)
    for kind in ("apps/v1|deployments", "v1|services"):
        group, plural = kind.split("|")
        prefix = "/apis" if "/" in group else "/api"
        found = api.call("GET", f"{prefix}/{group}/namespaces/{namespace}/{plural}")[2]
        assert found["items"] == []
