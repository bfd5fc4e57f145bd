# SPDX-License-Identifier: Apache-2.0
"""Faults whose node has left the cluster: no agent will ever let them go."""

from __future__ import annotations

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _client
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from ansible_collections.faultline.gpu.plugins.modules import gpu_fault
from fake_api import Api, Run
from fault_stage import ABSENT, ACTIVE, Object, fault

AGENT, OTHERS = "faultline.dev/agent", "example.com/other"


@pytest.fixture
def held(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A cluster that keeps an object until nobody holds it, with faults of two nodes."""
    put = api.put

    def kept(obj: Object) -> Object:
        meta = obj["metadata"]
        there = put(obj)
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            api.remove(there)
        return there

    def deletes(obj: Object) -> None:
        kept(obj | {"metadata": obj["metadata"] | {"deletionTimestamp": "2026-11-24T08:00:00Z"}})

    monkeypatch.setattr(api, "put", kept)
    api.deletes = deletes
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "there"}})
    for name, node in (("a", "there"), ("b", "vanished")):
        made = fault(name, {"xid": 79, "node": node}, ACTIVE)
        made["metadata"]["finalizers"] = [AGENT]
        api.put(made)
    return api


def test_a_fault_of_a_node_that_has_left_the_cluster_can_be_ended(held: Api, run: Run) -> None:
    result = run(gpu_fault, **ABSENT, name="b")
    assert (result.get("changed"), result.get("removed")) == (True, ["b"]), result["msg"]
    assert [f["metadata"]["name"] for f in held.all("GPUFault")] == ["a"]


def test_a_fault_of_a_node_that_is_there_waits_for_its_agent(held: Api, run: Run) -> None:
    result = run(gpu_fault, **(ABSENT | {"timeout": 0.2}), name="a")
    assert "the agent has not ended a yet" in result["msg"]
    (left,) = [f for f in held.all("GPUFault") if f["metadata"]["name"] == "a"]
    assert left["metadata"]["finalizers"] == [AGENT]


def test_the_faults_of_all_runs_end_at_once(held: Api, run: Run) -> None:
    held.put(fault("c", {"xid": 48, "node": "vanished"}, ACTIVE, run="run-2"))
    every = ABSENT | {"run_id": None, "delete_all": True, "timeout": 0.2}
    assert run(gpu_fault, check=True, **every)["removed"] == ["a", "b", "c"]
    assert "the agent has not ended a yet" in run(gpu_fault, **every)["msg"]
    (left,) = held.all("GPUFault")
    held.put(left | {"metadata": left["metadata"] | {"finalizers": []}})
    assert run(gpu_fault, **every)["changed"] is False
    assert held.all("GPUFault") == []


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_a_run_nothing_is_made_or_ended(held: Api, run: Run, state: str) -> None:
    result = run(gpu_fault, state=state, xid=79, node="there", gpu_index=0)
    assert "run_id" in result["msg"]
    all_of = run(gpu_fault, state="present", delete_all=True, xid=79, node="there", gpu_index=0)
    assert all_of["msg"] == "delete_all ends faults: it goes with state=absent."
    assert [f["metadata"]["name"] for f in held.all("GPUFault")] == ["a", "b"]


@pytest.mark.parametrize("also", [{"run_id": "run-1"}, {"name": "b"}])
def test_the_faults_of_all_runs_do_not_end_where_some_are_named(
    held: Api, run: Run, also: Object
) -> None:
    result = run(gpu_fault, state="absent", delete_all=True, timeout=0.2, **also)
    assert result["msg"].startswith("delete_all ends the faults of all runs: leave out run_id")
    assert held.writes == []


def test_only_what_the_agent_holds_is_let_go(held: Api, run: Run) -> None:
    (made,) = [f for f in held.all("GPUFault") if f["metadata"]["name"] == "b"]
    made["metadata"]["finalizers"] = [OTHERS, AGENT]
    held.put(made)
    run(gpu_fault, **(ABSENT | {"timeout": 0.2}), name="b")
    (left,) = [f for f in held.all("GPUFault") if f["metadata"]["name"] == "b"]
    assert left["metadata"]["finalizers"] == [OTHERS]


def test_who_may_not_look_at_nodes_may_end_faults_all_the_same(
    held: Api, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = _client.Cluster.get

    def refusing(self: _client.Cluster, kind: _client.Kind, *rest: str) -> Object | None:
        if kind.kind == "Node":
            raise FaultlineError("nodes is forbidden")
        return get(self, kind, *rest)

    monkeypatch.setattr(_client.Cluster, "get", refusing)
    result = run(gpu_fault, **(ABSENT | {"timeout": 0.2}), name="a")
    assert "the agent has not ended a yet" in result["msg"]
