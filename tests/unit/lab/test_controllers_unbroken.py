# SPDX-License-Identifier: Apache-2.0
"""What the lab's controllers share: no call waits for ever, no key is looked at ever more often."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from lab import kube
from lab.kube import Kube, Work
from lab.operator import kube as operator_kube

sys.path.append(str(Path(__file__).parents[1] / "service"))
from cluster_stage import GROUP, Server

FAULT = (GROUP, "GPUFault")
LIMIT = 5.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An API server that KUBECONFIG names."""
    found = Server()
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{found.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield found
    found.end()


def ends(call: Callable[[], Any]) -> bool:
    """Whether a call ends in time, as one that got no answer does."""
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(HTTPError):
            call()
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    return ended.wait(LIMIT)


def test_a_call_that_is_never_answered_comes_to_an_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "SILENCE", 0.1, raising=False)
    monkeypatch.setattr(operator_kube, "PATIENCE", (1, 0.1), raising=False)
    client = Kube()
    assert client.get(*FAULT, "f") is None
    server.silent = True
    assert ends(lambda: client.get(*FAULT, "f"))
    assert ends(lambda: operator_kube.Kube(client.dynamic).get("Pod", "drill", "a"))


def test_a_cache_sees_what_happened_after_its_watch_has_died(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "SILENCE", 0.1, raising=False)
    seen = threading.Event()
    cache = Kube().follow(*FAULT, lambda _op, _found: seen.set())
    # Told to nobody: no watch of this server says a word.
    server.faults["f"] = {"apiVersion": GROUP, "kind": "GPUFault", "metadata": {"name": "f"}}
    assert seen.wait(LIMIT)
    cache.end()


def test_a_key_that_is_added_while_it_waits_is_not_looked_at_more_often_from_then_on() -> None:
    looks: list[str] = []
    looked = threading.Event()

    def look(key: str) -> float:
        looks.append(key)
        looked.set()
        return 0.2

    work = Work(look)
    threading.Thread(target=work.run, daemon=True).start()
    for _ in range(10):
        looked.clear()
        work.add("busy")
        assert looked.wait(LIMIT)
        threading.Event().wait(0.02)
    looks.clear()
    threading.Event().wait(0.9)
    assert 1 <= len(looks) <= 5
