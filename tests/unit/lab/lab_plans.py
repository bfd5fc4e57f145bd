# SPDX-License-Identifier: Apache-2.0
"""Plans of lab clusters for tests, of which nothing is made on the machine, and their API."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab.cluster import pki
from lab.cluster.config import Cluster

TREE = Path(__file__).resolve().parents[3]


def values(**changes: Any) -> dict[str, Any]:
    """A good plan, with changes."""
    plan = {
        "name": "lab",
        "state": "/var/lib/nowhere",
        "binaries": "/opt/binaries",
        "nodes": 3,
        "gpus_per_node": 2,
        "node_network": "10.250.0.0/24",
        "pod_network": "10.251.0.0/16",
        "service_network": "10.252.0.0/16",
        "version": "v1.34.4",
    }
    return plan | changes


def cluster(**changes: Any) -> Cluster:
    """The cluster of such a plan."""
    return Cluster(**values(**changes))


def own_network() -> str:
    """A range of loopback addresses that no other run of the tests has: the API's port is fixed."""
    second, third = divmod(os.getpid() % (128 * 256), 256)
    return f"127.{64 + second}.{third}.0/24"


@contextmanager
def api_in_place_of(made: Cluster, handler: type[BaseHTTPRequestHandler]) -> Iterator[Any]:
    """An API server in the place of a cluster's, with the cluster's own certificate."""
    pki.ensure(made)
    server = ThreadingHTTPServer((made.api_address, 6443), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.pki / "apiserver.crt", made.pki / "apiserver.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
