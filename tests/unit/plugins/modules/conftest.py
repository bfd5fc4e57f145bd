# SPDX-License-Identifier: Apache-2.0
"""Clusters: with two GPU nodes, with a deployment that is up, with the fault service."""

from __future__ import annotations

import pytest
from ansible_collections.faultline.gpu.plugins.modules import dgd, gpu_fault
from fake_api import Api, Run
from fault_stage import Service
from graph_stage import DEFINITION, operate
from nodes_stage import named, node


@pytest.fixture
def plain(api: Api) -> Api:
    """Two GPU nodes and a namespace."""
    for obj in (node("a"), node("b"), named("v1", "Namespace", "default")):
        api.put(obj)
    return api


@pytest.fixture
def deployed(api: Api, run: Run) -> Api:
    """A cluster whose operator brings up what is applied."""
    operate(api)
    result = run(dgd, namespace="drill", definition=DEFINITION)
    assert result["changed"] is True
    api.writes.clear()
    return api


@pytest.fixture
def service(api: Api, monkeypatch: pytest.MonkeyPatch) -> Service:
    found = Service(api)
    monkeypatch.setattr(gpu_fault, "connect", lambda *_: found)
    return found
