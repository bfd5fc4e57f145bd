# SPDX-License-Identifier: Apache-2.0
"""An API server over HTTP that has GPUFaults, and can fall silent as a dead connection does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GROUP = "faultline.dev/v1alpha1"
VERBS = ["get", "list", "watch", "create", "patch", "delete"]


def kinds(version: str, name: str, kind: str) -> dict[str, Any]:
    """What an API server says of a group that has one kind."""
    row = {"name": name, "kind": kind, "namespaced": False, "verbs": VERBS, "singularName": ""}
    return {"kind": "APIResourceList", "groupVersion": version, "resources": [row]}


VERSION = {"groupVersion": GROUP, "version": "v1alpha1"}
DISCOVERY = {
    "/version": {"gitVersion": "v1.34.0", "major": "1", "minor": "34"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [{"name": "faultline.dev", "versions": [VERSION], "preferredVersion": VERSION}],
    },
    "/api/v1": kinds("v1", "nodes", "Node"),
    f"/apis/{GROUP}": kinds(GROUP, "gpufaults", "GPUFault"),
}
FAULTS = f"/apis/{GROUP}/gpufaults"


class Server(ThreadingHTTPServer):
    """Answers discovery and reads of GPUFaults; nothing while `silent`, no watch says a word."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.silent, self.over = False, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self) -> None:
        """Let everybody go who still waits for an answer."""
        self.over.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer, or do not."""
        self.server.asked.append(self.path)
        path, _, query = self.path.partition("?")
        if self.server.silent or "watch=" in query:
            self.server.over.wait()
            return
        name = path.removeprefix(f"{FAULTS}/")
        if path in DISCOVERY:
            self._say(200, DISCOVERY[path])
        elif path.rstrip("/") == FAULTS:
            meta = {"resourceVersion": "1"}
            items = list(self.server.faults.values())
            self._say(200, {"kind": "GPUFaultList", "metadata": meta, "items": items})
        elif name in self.server.faults:
            self._say(200, self.server.faults[name])
        else:
            self._say(404, {"kind": "Status", "code": 404, "message": f"no {path}"})

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
