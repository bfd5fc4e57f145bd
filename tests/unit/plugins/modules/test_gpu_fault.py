# SPDX-License-Identifier: Apache-2.0
"""The module gpu_fault on a cluster in memory; the fault-injection API makes the object."""

from __future__ import annotations

import copy

import pytest
from ansible.plugins.callback import CallbackBase
from ansible_collections.faultline.gpu.plugins.modules import gpu_fault
from fake_api import Api, Run
from fault_stage import ABSENT, ACTIVE, NAME, PRESENT, Object, Service, fault


def pod(name: str, restarts: int = 0) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "drill", "uid": name},
        "spec": {},
        "status": {"containerStatuses": [{"name": "main", "restartCount": restarts}]},
    }


def test_a_fault_is_asked_for_and_its_evidence_waited_for(service: Service, run: Run) -> None:
    result = run(gpu_fault, **PRESENT)
    assert result["changed"] is True
    assert result["fault"]["metadata"]["name"] == NAME
    assert result["fault"]["status"] == ACTIVE
    ((xid, wanted),) = service.asked
    assert xid == 79
    assert wanted == {
        "fault_id": NAME,
        "node_name": "gpu-node-1",
        "gpu_id": 0,
        "run_id": "run-1",
        "duration": 900,
        "effects": ["kernelLog", "cuda"],
    }


def test_a_second_run_changes_nothing(service: Service, run: Run) -> None:
    run(gpu_fault, **PRESENT)
    result = run(gpu_fault, **PRESENT)
    assert result["changed"] is False
    assert result["diff"]["before"] == result["diff"]["after"]
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "other", [{"xid": 48, "name": NAME}, {"gpu_index": 1}, {"duration": 60}, {"effects": ["cuda"]}]
)
def test_another_fault_of_the_same_name_is_refused_before_anything_is_touched(
    service: Service, run: Run, other: Object
) -> None:
    run(gpu_fault, **PRESENT)
    before = copy.deepcopy(service.api.objects)
    for check in (True, False):
        result = run(gpu_fault, check=check, **(PRESENT | other))
        assert result["failed"] is True
        assert result["msg"] == f"There is another fault of the name {NAME}: end it first."
    assert (len(service.asked), service.api.objects) == (1, before)


def test_check_mode_says_what_would_be_injected_and_injects_nothing(
    service: Service, run: Run
) -> None:
    result = run(gpu_fault, check=True, **PRESENT)
    assert result["changed"] is True
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"]["xid"] == 79
    assert result["fault"]["metadata"]["name"] == NAME
    assert (service.asked, service.api.objects) == ([], {})


def test_the_words_of_the_api_that_refuses_are_the_modules(service: Service, run: Run) -> None:
    service.refusal = "node gpu-node-1 is not labelled faultline.dev/drill=allowed"
    result = run(gpu_fault, **PRESENT)
    assert (result["failed"], result["msg"]) == (True, service.refusal)


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        ({}, "phase none"),
        (ACTIVE | {"phase": "Pending"}, "phase Pending"),
        (ACTIVE | {"kernelLog": {"line": "x"}}, "line in the journal: False, armed: True"),
        (ACTIVE | {"cuda": {}}, "line in the journal: True, armed: False"),
    ],
)
def test_a_fault_without_its_evidence_is_no_success(
    service: Service, run: Run, status: Object, seen: str
) -> None:
    service.status = status
    result = run(gpu_fault, **(PRESENT | {"timeout": 0.1}))
    assert result["failed"] is True
    assert seen in result["msg"]


@pytest.mark.parametrize(
    ("effects", "status"),
    [
        (["kernelLog"], ACTIVE | {"cuda": {}}),
        (["cuda"], ACTIVE | {"kernelLog": {}}),
    ],
)
def test_only_the_effects_asked_for_need_evidence(
    service: Service, run: Run, effects: list[str], status: Object
) -> None:
    service.status = status
    assert run(gpu_fault, **PRESENT, effects=effects)["changed"] is True


@pytest.mark.parametrize("phase", ["Failed", "Recovered"])
def test_a_fault_that_failed_or_is_over_ends_the_wait_with_the_agents_words(
    service: Service, run: Run, phase: str
) -> None:
    service.status = {"phase": phase, "message": "there is no GPU 7"}
    result = run(gpu_fault, **(PRESENT | {"timeout": 20}))
    assert result["msg"] == "The agent could not inject the fault: there is no GPU 7"


def restart_while_injecting(service: Service) -> None:
    """Let a pod restart at the moment of the injection."""
    service.api.put(pod("w1"))
    inject = service.inject

    def and_restart(xid: int, wanted: Object) -> Object:
        service.api.put(pod("w1", restarts=1))
        return inject(xid, wanted)

    service.inject = and_restart  # type: ignore[method-assign]


def test_a_pod_that_restarts_before_calls_fail_spoils_the_injection(
    service: Service, run: Run
) -> None:
    service.status = {"phase": "Pending"}
    restart_while_injecting(service)
    result = run(gpu_fault, **(PRESENT | {"timeout": 20}), namespace="drill")
    assert result["failed"] is True
    assert "were restarted or replaced before CUDA calls failed: w1" in result["msg"]


def test_a_pod_may_restart_once_calls_fail_by_another_fault_of_the_run(
    service: Service, run: Run
) -> None:
    service.api.put(fault("run-1-cuda", {"xid": 79}, ACTIVE))
    service.status = ACTIVE | {"cuda": {}}
    restart_while_injecting(service)
    only = {"effects": ["kernelLog"], "name": "run-1-kernellog", "namespace": "drill"}
    assert run(gpu_fault, **PRESENT, **only)["changed"] is True


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpu_index": None}, "any of the following are missing: gpu_index, gpu_uuid, pci_address"),
        ({"gpu_uuid": "GPU-1"}, "mutually exclusive"),
        ({"xid": None}, "missing: xid"),
        ({"node": None}, "missing: node"),
        ({"run_id": None}, "missing required arguments: run_id"),
        ({"effects": ["smoke"]}, "effects must be one or more of: kernelLog, cuda"),
    ],
)
def test_options_that_name_no_fault_are_refused(
    service: Service, run: Run, options: Object, said: str
) -> None:
    result = run(gpu_fault, **(PRESENT | options))
    assert result["failed"] is True
    assert said in result["msg"]
    assert (service.asked, service.api.lists) == ([], [])


@pytest.fixture
def three(api: Api) -> Api:
    """Two faults of this run and one of another."""
    for name, run_id in (("a", "run-1"), ("b", "run-1"), ("c", "run-2")):
        api.put(fault(name, {"xid": 79}, ACTIVE, run_id))
    return api


def test_all_faults_of_the_run_are_ended_and_those_of_others_are_not(three: Api, run: Run) -> None:
    result = run(gpu_fault, **ABSENT)
    assert (result["changed"], result["removed"]) == (True, ["a", "b"])
    assert result["diff"] == {"before": {"faults": ["a", "b"]}, "after": {"faults": []}}
    assert [f["metadata"]["name"] for f in three.all("GPUFault")] == ["c"]
    assert run(gpu_fault, **ABSENT) | {"invocation": None} == {
        "changed": False,
        "removed": [],
        "diff": {"before": {"faults": []}, "after": {"faults": []}},
        "invocation": None,
    }


def test_one_fault_is_ended_by_name_but_never_another_runs(three: Api, run: Run) -> None:
    assert run(gpu_fault, **ABSENT, name="a")["removed"] == ["a"]
    assert run(gpu_fault, **ABSENT, name="c")["removed"] == []
    assert len(three.all("GPUFault")) == 2


def test_check_mode_says_which_faults_would_end_and_ends_none(three: Api, run: Run) -> None:
    result = run(gpu_fault, check=True, **ABSENT)
    assert (result["changed"], result["removed"]) == (True, ["a", "b"])
    assert (len(three.all("GPUFault")), three.writes) == (3, [])


def test_a_fault_that_the_agent_does_not_let_go_is_named(three: Api, run: Run) -> None:
    three.deletes = lambda _fault: None
    result = run(gpu_fault, **(ABSENT | {"timeout": 0.1}))
    assert result["failed"] is True
    assert "the agent has not ended a, b yet" in result["msg"]


def test_without_the_fault_service_there_is_no_fault_to_end(api: Api, run: Run) -> None:
    api.unknown.add("GPUFault")
    assert run(gpu_fault, **ABSENT)["changed"] is False


@pytest.mark.parametrize(
    "node",
    ["ip-10-0-1-17.eu-central-1.compute.internal", "gke-" + "a" * 50 + "-x7f2", "n" * 253],
)
def test_a_fault_gets_a_name_that_it_may_have_on_any_node(
    service: Service, run: Run, node: str
) -> None:
    first = run(gpu_fault, **(PRESENT | {"node": node}))
    assert first["changed"] is True, first["msg"]
    again = run(gpu_fault, **(PRESENT | {"node": node}))
    assert (again["changed"], len(service.asked)) == (False, 1)
    other = run(gpu_fault, check=True, **(PRESENT | {"node": f"m{node[1:]}"}))
    assert other["fault"]["metadata"]["name"] != first["fault"]["metadata"]["name"]


def test_what_the_api_server_added_to_a_fault_is_no_difference(service: Service, run: Run) -> None:
    run(gpu_fault, **PRESENT)
    (there,) = service.api.all("GPUFault")
    service.api.put(there | {"spec": there["spec"] | {"ended": False}})
    result = run(gpu_fault, **PRESENT)
    assert (result["changed"], result["diff"]["before"]) == (False, result["diff"]["after"])


def test_ansible_can_show_the_difference_of_faults_that_are_ended(three: Api, run: Run) -> None:
    shown = CallbackBase()._get_diff(run(gpu_fault, check=True, **ABSENT)["diff"])
    assert '"a"' in shown


def test_an_xid_that_cuda_does_not_notice_is_said_at_once_and_not_after_the_timeout(
    service: Service, run: Run
) -> None:
    said = "XID 63 by itself has no effect on CUDA programs"
    service.status = ACTIVE | {"cuda": {"armed": False}, "message": said}
    result = run(gpu_fault, **(PRESENT | {"xid": 63, "timeout": 20}))
    assert result["failed"] is True
    assert said in result["msg"]
    assert "cuda.classes" in result["msg"]
    assert "seconds" not in result


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("phase", ["Recovered", "Failed"])
def test_a_fault_of_that_name_that_is_over_is_no_fault_that_is_there(
    service: Service, run: Run, phase: str, check: bool
) -> None:
    run(gpu_fault, **PRESENT)
    (there,) = service.api.all("GPUFault")
    status = {"phase": phase, "reason": "Deadline", "message": "the fault is over"}
    service.api.put(there | {"status": status})
    result = run(gpu_fault, check=check, **PRESENT)
    assert result["failed"] is True
    assert f"{NAME} is over already (Deadline" in result["msg"]
    assert "state=absent" in result["msg"]
