# SPDX-License-Identifier: Apache-2.0
"""A connection to the API server that dies without a word: over a real one, to loopback."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _client as client
from ansible_collections.faultline.gpu.plugins.module_utils._client import (
    FAULT,
    HOST,
    Cluster,
    Kind,
)
from ansible_collections.faultline.gpu.plugins.module_utils._errors import (
    FaultlineError,
    NoSuchKind,
)
from ansible_collections.faultline.gpu.plugins.module_utils._watch import Snapshot, wait

sys.path.append(str(Path(__file__).parents[2] / "service"))
from cluster_stage import GROUP, Server


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.end()


def unknown(kind: Kind) -> None:
    raise NoSuchKind(f"The cluster knows no {kind.kind}.")


@pytest.fixture
def cluster(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A client of the server. Its followers end with the test: its kinds are unknown then."""
    address = {"server": f"http://127.0.0.1:{server.server_port}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": address}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = Cluster(str(tmp_path / "config"))
    yield found
    with monkeypatch.context() as after:
        after.setattr(found, "resource", unknown)
        for thread in threading.enumerate():
            if thread.name == "follow-faults":
                thread.join(5)


def test_a_wait_hears_of_what_happens_after_its_watch_has_died(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SILENCE", 0.1, raising=False)

    def there(now: Snapshot) -> tuple[bool, str]:
        if not now["faults"]:
            # Told to nobody: no watch of this server says a word.
            meta = {"name": "f", "uid": "u", "resourceVersion": "2"}
            server.faults["f"] = {"apiVersion": GROUP, "kind": "GPUFault", "metadata": meta}
        return bool(now["faults"]), f"{len(now['faults'])} faults"

    found, _ = wait(cluster, {"faults": FAULT}, there, 5)
    assert [name for _, name in found["faults"]] == ["f"]


def test_a_call_that_is_never_answered_ends_with_a_sentence(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster.list(FAULT) == []
    monkeypatch.setattr(client, "SILENCE", 0.1, raising=False)
    server.silent = True
    said: list[str] = []

    def ask() -> None:
        for call in (cluster.list, cluster.has):
            with pytest.raises(FaultlineError) as error:
                call(FAULT)
            said.append(str(error.value))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5)
    assert len(said) == 2
    for text in said:
        assert text.startswith("Cannot list GPUFault: the API server does not answer (")


def test_an_api_server_that_falls_silent_before_it_has_said_what_it_offers_is_a_sentence(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SILENCE", 0.1)
    server.silent = True
    for call in (cluster.list, cluster.has):
        with pytest.raises(FaultlineError, match=r"The API server at .* does not answer \("):
            call(HOST)
