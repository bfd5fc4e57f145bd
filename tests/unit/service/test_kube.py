# SPDX-License-Identifier: Apache-2.0
"""The service's way to the API server: over a real connection, which can die without a word."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_stage import FAULTS, GROUP, Server
from fastapi.testclient import TestClient
from faultline_service import kube as kube_module
from faultline_service.api import create_app
from faultline_service.kube import FAULT, Cache, Kube
from urllib3.exceptions import HTTPError

SPEC = {"xid": 79, "node": "n", "gpu": {"index": 0}}
FAULT_F = {
    "apiVersion": GROUP,
    "kind": FAULT,
    "metadata": {"name": "f", "uid": "u"},
    "spec": SPEC,
}


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    found.faults["f"] = FAULT_F
    yield found
    found.end()


@pytest.fixture
def kube(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    one = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [one],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(place, str(tmp_path / "config"))  # it was read from KUBECONFIG at import
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = Kube()
    yield found
    # A cache follows for ever. From here on it waits, and does not ask whoever has the port next.
    found.resource = lambda *_: threading.Event().wait()  # type: ignore[method-assign]


@pytest.mark.parametrize("name", ["%3Fwatch=true", "f%23", "F"])
def test_a_name_from_outside_never_becomes_another_address_of_the_api_server(
    server: Server, kube: Kube, name: str
) -> None:
    client = TestClient(create_app(kube))
    assert client.get("/api/v1/faults/f").json()["fault_id"] == "f"
    before = len(server.asked)
    assert client.get(f"/api/v1/faults/{name}").status_code == 404
    assert server.asked[before:] == []


def test_a_request_that_is_never_answered_comes_to_an_end(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube.get(FAULT, "f")
    monkeypatch.setattr(kube_module, "ANSWER", 0.1, raising=False)
    server.silent, ended = True, threading.Event()

    def ask() -> None:
        with pytest.raises(HTTPError):
            kube.get(FAULT, "f")
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    assert ended.wait(30)


def test_a_watch_whose_connection_died_is_begun_again_and_sees_what_it_missed(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_module, "WATCH_SILENCE", 0.1, raising=False)
    seen = threading.Event()

    def changed(_kind: str, fault: dict[str, dict[str, str]]) -> None:
        if fault["metadata"]["name"] == "later":
            seen.set()

    Cache(kube, FAULT, GROUP, changed).begin()
    server.faults["later"] = FAULT_F | {"metadata": {"name": "later", "uid": "v"}}
    assert seen.wait(30), server.asked
    assert any(asked.startswith(f"{FAULTS}?") and "watch=true" in asked for asked in server.asked)
