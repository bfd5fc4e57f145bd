# SPDX-License-Identifier: Apache-2.0
"""When a cluster that is being started counts as up: over TLS, against an API in its place."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from lab_plans import api_in_place_of, cluster, own_network

from lab.cluster.__main__ import wait_ready
from lab.cluster.config import Cluster, boot_id

Object = dict[str, Any]
LIMIT = 10.0
NODES = {"name": "nodes", "kind": "Node", "namespaced": False, "verbs": ["get", "list", "watch"]}
DISCOVERY = {
    "/version": {"gitVersion": "v1.34.0", "major": "1", "minor": "34"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [NODES]},
}


class Api(BaseHTTPRequestHandler):
    """Refuses as many requests as `refused` says; watches give `seen`, and break off after it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        path = self.path.partition("?")[0]
        if path == "/readyz":
            server.refused -= 1
            self.say(500 if server.refused >= 0 else 200, {})
        elif path in DISCOVERY:
            self.say(200, DISCOVERY[path])
        else:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for node in server.seen.pop(0):
                line = json.dumps({"type": "MODIFIED", "object": node}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                server.told.set()
            self.close_connection = True

    def say(self, status: int, content: Object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster of one node, whose API address is a loopback address."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = cluster(state=str(tmp_path), nodes=1, node_network=own_network())
    found.save()
    boot_id(found, "gpu-node-1").parent.mkdir(parents=True)
    return found


@pytest.fixture
def api(made: Cluster) -> Iterator[Any]:
    """The API server in the cluster's place."""
    with api_in_place_of(made, Api) as server:
        server.refused, server.seen, server.told = 0, [], threading.Event()
        yield server


def node(boot: str) -> Object:
    """A Ready node, in the boot with that id."""
    ready = [{"type": "Ready", "status": "True"}]
    status = {"nodeInfo": {"bootID": boot}, "conditions": ready}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-node-1"}} | {
        "status": status
    }


def test_an_api_server_that_comes_up_late_is_asked_every_second(api: Any, tmp_path: Path) -> None:
    api.refused = 4
    wait_ready(cluster(state=str(tmp_path), nodes=0, node_network=own_network()), 6)
    assert api.refused == -1


def test_an_api_server_that_is_started_again_meanwhile_is_waited_for(
    api: Any, made: Cluster
) -> None:
    boot_id(made, "gpu-node-1").write_text("now\n")
    api.seen = [[], [node("now")]]
    wait_ready(made, 20)
    assert api.seen == []


def test_what_is_known_of_a_nodes_last_life_does_not_count(api: Any, made: Cluster) -> None:
    booted, up = threading.Event(), threading.Event()

    def nodes() -> Iterator[Object]:
        yield node("before")
        booted.wait(LIMIT)
        yield node("now")

    def wait() -> None:
        wait_ready(made, 20)
        up.set()

    api.seen = [nodes()]
    threading.Thread(target=wait, daemon=True).start()
    assert api.told.wait(LIMIT)
    assert not up.wait(0.5)
    boot_id(made, "gpu-node-1").write_text("now\n")
    booted.set()
    assert up.wait(LIMIT)
