# SPDX-License-Identifier: Apache-2.0
"""A deployment for the time of a test: what it runs, and that it is always undone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _driver

from tests.utils.hw_fault_helpers import HWFaultConfig
from tests.utils.managed_deployment import DeploymentSpec, FaultlineError, ManagedDeployment

TREE = Path(__file__).parents[3]
EXAMPLE = TREE / "tests/data/deployments/vllm/agg_router.yaml"
RESULTS: dict[str, Any] = {
    "dgd": {"seen": "DGD successful", "pods": [{"worker": True}, {"worker": False}]},
    "drill_target": {"node": "gpu-node-1", "gpu_uuid": "GPU-1", "pod": "p"},
    "drill_report": {"report": {"verdict": "passed", "reason": None}},
    "node_quarantine": {"seen": "empty"},
}


class FakeRoles:
    """Notes what is run; an entry point in `broken` fails with that sentence."""

    kubeconfig = None

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.variables: dict[str, dict[str, Any]] = {}
        self.broken: dict[str, str] = {}

    async def roles(self, parts: list[tuple[str, str, dict[str, Any]]]) -> dict[str, Any]:
        for name, entry, variables in parts:
            self.run(f"{name}/{entry}", variables)
        return RESULTS

    async def role(self, name: str, entry: str = "main", **variables: Any) -> dict[str, Any]:
        return await self.roles([(name, entry, variables)])

    async def way_back(self, **variables: Any) -> dict[str, Any]:
        self.run("cleanup", variables)
        return RESULTS

    async def playbook(self, name: str, **variables: Any) -> dict[str, Any]:
        self.run(name, variables)
        return RESULTS

    def run(self, what: str, variables: dict[str, Any]) -> None:
        self.ran.append(what)
        self.variables[what] = variables
        if "evidence_run" in variables:
            (Path(variables["evidence_run"]) / "before.json").write_text("{}")
        if what in self.broken:
            raise FaultlineError(self.broken[what])


class FakeCluster:
    """Answers for one namespace, one node, and pods."""

    address = "https://k8s"

    def __init__(self) -> None:
        self.owner: str | None = None
        self.pods: list[dict[str, Any]] = []
        self.cordoned = False

    def get(self, kind: Any, name: str, _namespace: str | None = None) -> dict[str, Any] | None:
        if kind.kind == "Namespace":
            labels = {"faultline.dev/run": self.owner}
            return {"metadata": {"name": name, "labels": labels}} if self.owner else None
        return {"spec": {"unschedulable": self.cordoned}} if name == "gpu-node-1" else None

    def list(self, _kind: Any) -> list[dict[str, Any]]:
        return self.pods


Make = Callable[..., ManagedDeployment]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(**options: Any) -> ManagedDeployment:
        spec = DeploymentSpec(EXAMPLE)
        given = {"skip_service_restart": True} | options
        found = ManagedDeployment("ns", spec, log_dir=tmp_path, **given)
        found.roles = found.faults.roles = FakeRoles()  # type: ignore[assignment]
        found.faults._cluster = FakeCluster()  # type: ignore[assignment]
        return found

    return made


def ran(deployment: ManagedDeployment) -> list[str]:
    fake: Any = deployment.roles
    return list(fake.ran)


def notes(deployment: ManagedDeployment) -> list[tuple[int, str, str | None]]:
    lines = (deployment.folder / "progress.jsonl").read_text().splitlines()
    return [(n["number"], n["status"], n["evidence"]) for n in map(json.loads, lines)]


async def body(deployment: ManagedDeployment, error: BaseException | None = None) -> None:
    async with deployment:
        if error:
            raise error


def test_it_is_deployed_behind_all_preflights_and_undone_by_the_cleanup_playbook(
    make: Make,
) -> None:
    deployment = make(enable_hw_faults=True)
    asyncio.run(body(deployment))
    assert ran(deployment) == [
        "evidence/preflight",
        "xid_inject/preflight",
        "platform/preflight",
        "platform/namespace",
        "dgd/main",
        "xid_inject/preflight",
        "recovery/preflight",
        "nvsentinel_wait/preflight",
        "cleanup",
    ]
    fake: Any = deployment.roles
    assert fake.variables["dgd/main"]["dgd_definition"]["metadata"]["namespace"] == "ns"
    assert fake.variables["cleanup"]["drill_run_id"] == deployment.run_id
    assert deployment.report == {"verdict": "passed", "reason": None}
    assert notes(deployment)[-1][1:] == ("passed", "DGD successful; target gpu-node-1")


def test_nats_and_etcd_restart_unless_that_is_skipped_and_the_record_says_so(make: Make) -> None:
    deployment = make(skip_service_restart=False)
    asyncio.run(body(deployment))
    assert ran(deployment)[2:4] == ["platform/restart_services", "platform/namespace"]
    assert json.loads((deployment.folder / "run.json").read_text())["services_restarted"] is True


def test_the_record_is_there_before_anything_is_run(make: Make) -> None:
    deployment = make()
    fake: Any = deployment.roles
    fake.broken["evidence/preflight"] = "The API server does not answer."
    with pytest.raises(FaultlineError, match="does not answer"):
        asyncio.run(body(deployment))
    record = json.loads((deployment.folder / "run.json").read_text())
    assert record["namespace"] == "ns"
    assert record["driver"] == _driver.describe(os.getpid())
    assert notes(deployment)[-1][:2] == (1, "refused")
    assert ran(deployment)[-1] == "cleanup"


@pytest.mark.parametrize("error", [AssertionError("3 == 4"), KeyboardInterrupt(), SystemExit(3)])
def test_it_is_undone_whatever_ends_the_test(make: Make, error: BaseException) -> None:
    deployment = make()
    with pytest.raises(type(error)):
        asyncio.run(body(deployment, error))
    assert ran(deployment)[-1] == "cleanup"


def test_it_is_undone_when_the_test_is_cancelled(make: Make) -> None:
    deployment = make()

    async def late() -> None:
        async with asyncio.timeout(None) as limit, deployment:
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(late())
    assert ran(deployment)[-1] == "cleanup"


def test_a_way_back_that_fails_does_not_hide_what_went_wrong_in_the_test(make: Make) -> None:
    deployment = make()
    fake: Any = deployment.roles
    fake.broken["cleanup"] = "Namespace ns is stuck."
    with pytest.raises(AssertionError) as caught:
        asyncio.run(body(deployment, AssertionError("3 == 4")))
    assert caught.value.__notes__ == ["The way back failed as well: Namespace ns is stuck."]
    with pytest.raises(FaultlineError, match="is stuck"):
        asyncio.run(body(deployment))


def test_a_phase_that_fails_is_noted_with_its_reason(make: Make) -> None:
    deployment = make()

    async def fails() -> None:
        async with deployment, deployment.phase(3):
            raise AssertionError("only 50 % good")

    with pytest.raises(AssertionError):
        asyncio.run(fails())
    assert notes(deployment)[-1] == (3, "failed", "only 50 % good")


def interrupted(
    folder: Path, run_id: str, pid: int, host: str | None = None, cluster: str = "https://k8s"
) -> None:
    (folder / run_id).mkdir(parents=True)
    driver = _driver.describe(pid) | ({"host": host} if host else {})
    record = {"run_id": run_id, "driver": driver, "cluster": cluster}
    (folder / run_id / "run.json").write_text(json.dumps(record))


@pytest.fixture
def dead() -> int:
    """Number of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_whose_process_was_killed_is_undone_first(
    make: Make, tmp_path: Path, dead: int
) -> None:
    interrupted(tmp_path, "run-0", dead)
    deployment = make()
    asyncio.run(body(deployment))
    assert ran(deployment)[0] == "cleanup"
    assert ran(deployment).count("cleanup") == 2


@pytest.mark.parametrize(
    "whose", ["a living process", "another machine", "another cluster", "a finished run"]
)
def test_runs_of_others_are_left_alone(make: Make, tmp_path: Path, dead: int, whose: str) -> None:
    host = "elsewhere" if whose == "another machine" else None
    cluster = "https://other" if whose == "another cluster" else "https://k8s"
    pid = os.getpid() if whose == "a living process" else dead
    interrupted(tmp_path, "run-0", pid, host, cluster)
    if whose == "a finished run":
        (tmp_path / "run-0/report.json").write_text("{}")
    deployment = make()
    asyncio.run(body(deployment))
    assert ran(deployment).count("cleanup") == 1


def test_a_namespace_of_another_run_is_refused_before_anything_is_run(make: Make) -> None:
    deployment = make()
    cluster: Any = deployment.cluster
    cluster.owner = "run-0"
    with pytest.raises(FaultlineError, match="belongs to run run-0"):
        asyncio.run(body(deployment))
    assert ran(deployment) == []


def test_a_namespace_that_was_made_for_this_run_is_taken(make: Make) -> None:
    deployment = make(run_id="drill-1")
    cluster: Any = deployment.cluster
    cluster.owner = "drill-1"
    asyncio.run(body(deployment))
    assert (deployment.run_id, deployment.folder.name) == ("drill-1", "drill-1")
    assert "platform/namespace" in ran(deployment)


def test_without_hardware_faults_none_can_be_injected(make: Make) -> None:
    deployment = make()
    with pytest.raises(FaultlineError, match="enable_hw_faults=True"):
        asyncio.run(deployment.inject_hw_fault())
    with pytest.raises(FaultlineError, match="enable_hw_faults=True"):
        deployment.wait_for_node_cordon()


def test_cuda_faults_need_the_shim_and_each_effect_has_a_fault_of_its_own(make: Make) -> None:
    deployment = make(enable_hw_faults=True)
    fake: Any = deployment.roles

    async def scenario() -> str:
        with pytest.raises(FaultlineError, match="setup_cuda_passthrough first"):
            await deployment.toggle_cuda_faults()
        await deployment.setup_cuda_passthrough(xid_type=48)
        assert await deployment.toggle_cuda_faults(enable=True)
        armed = fake.variables["xid_inject/main"]
        assert (armed["xid_inject_effects"], armed["xid_inject_gpu_uuid"]) == (["cuda"], "GPU-1")
        assert armed["xid_inject_xid"] == 48
        fault = await deployment.inject_hw_fault(fault_type="xid")
        assert fake.variables["xid_inject/main"]["xid_inject_effects"] == ["kernelLog"]
        await deployment.toggle_cuda_faults(enable=False)
        assert fake.variables["xid_inject/remove"]["xid_inject_name"].endswith("-cuda")
        return fault

    assert asyncio.run(scenario()) == f"{deployment.run_id}-kernellog"
    assert ran(deployment)[:3] == ["shim_hosts", "cuda_shim/main", "xid_inject/target"]


def test_how_calls_fail_is_for_the_cuda_fault_alone_and_stands_in_the_record(make: Make) -> None:
    cuda = {"mode": "hang", "delay_microseconds": 500_000}
    deployment = make(enable_hw_faults=True, hw_fault_config={"cuda": cuda})
    fake: Any = deployment.roles

    async def scenario() -> None:
        await deployment.setup_cuda_passthrough(xid_type=48)
        await deployment.toggle_cuda_faults(enable=True)
        assert fake.variables["xid_inject/main"]["xid_inject_cuda"] == cuda
        await deployment.inject_hw_fault(fault_type="xid")
        assert fake.variables["xid_inject/main"]["xid_inject_cuda"] == {}

    asyncio.run(scenario())
    assert json.loads((deployment.folder / "run.json").read_text())["cuda_mode"] == "hang"


def test_another_node_or_kind_of_fault_is_refused(make: Make) -> None:
    deployment = make(enable_hw_faults=True, hw_fault_config={"target_node": "gpu-node-1"})
    with pytest.raises(FaultlineError, match="only 'xid'"):
        asyncio.run(deployment.inject_hw_fault(fault_type="network"))
    with pytest.raises(FaultlineError, match="is gpu-node-1, not gpu-node-9"):
        asyncio.run(deployment.faults.inject_xid_fault(node="gpu-node-9"))


def test_whether_a_node_is_cordoned_is_read_and_an_unknown_one_is_an_error(make: Make) -> None:
    deployment = make()
    cluster: Any = deployment.cluster
    assert deployment.is_node_cordoned("gpu-node-1") is False
    cluster.cordoned = True
    assert deployment.is_node_cordoned("gpu-node-1") is True
    with pytest.raises(FaultlineError, match="There is no node gone"):
        deployment.is_node_cordoned("gone")


@pytest.mark.parametrize("name", ["vllm/agg_router.yaml", "vllm/v1beta1/agg_router.yaml"])
def test_pods_are_found_by_service_in_both_versions(tmp_path: Path, name: str) -> None:
    spec = DeploymentSpec(TREE / "tests/data/deployments" / name)
    deployment = ManagedDeployment("ns", spec, log_dir=tmp_path)
    cluster: Any = FakeCluster()
    deployment.faults._cluster = cluster
    worker = spec.worker_services()[0].name
    for number, component in enumerate((worker.lower(), worker.lower(), "frontend", "other")):
        meta = {"name": f"p{number}", "labels": {"nvidia.com/dynamo-component": component}}
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        cluster.pods.append({"metadata": meta, "spec": {"nodeName": "n"}, "status": status})
    found = deployment.get_pods()
    assert [p.name for p in found[worker]] == ["p0", "p1"]
    assert [p.name for p in found[spec.frontend_service.name]] == ["p2"]
    assert deployment.get_pods([worker]).keys() == {worker}
    with pytest.raises(FaultlineError):
        deployment.get_pods(["nobody"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"xid_type": 0}, "xid_type is 0, wanted is a whole number from 1 to 1000"),
        ({"xid_type": "79"}, "xid_type is '79', wanted is a whole number from 1 to 1000"),
        ({"backend": "tgi"}, "wanted is one of vllm, sglang, trtllm"),
        ({"fault_timeout": 0}, "fault_timeout is 0, wanted is a number of seconds above 0"),
        ({"setup_timeout": "5"}, "setup_timeout is '5', wanted is a number of seconds"),
        ([79], r"hw_fault_config is \[79\], wanted is a HWFaultConfig or a mapping"),
        ({"xid": 79}, "hw_fault_config has no xid; it has allow_nonfatal, api_url"),
        ({"cuda": "mode=hang"}, "cuda is 'mode=hang', wanted is a mapping"),
        ({"cuda": {"mode": "slow"}}, "cuda.mode slow needs cuda.delay_microseconds"),
        ({"cuda": {"mode": "genuine"}}, "none brings XID 79 about"),
        ({"cuda": {"colour": "red"}}, "Supported parameters include"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_at_once(given: Any, said: str) -> None:
    with pytest.raises(FaultlineError, match=said):
        HWFaultConfig.of(given)


@pytest.mark.parametrize(
    ("namespace", "spec", "said"),
    [
        ("ns", "agg.yaml", "deployment_spec is 'agg.yaml', wanted is a DeploymentSpec: load the"),
        ("My NS", DeploymentSpec(EXAMPLE), "A namespace must be at most 63 small letters"),
    ],
)
def test_what_is_no_deployment_or_no_namespace_is_refused_at_once(
    namespace: str, spec: Any, said: str
) -> None:
    with pytest.raises(FaultlineError, match=said):
        ManagedDeployment(namespace, spec)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--deployment=nope", "--deployment nope is no example of vllm, which has agg, agg_router"),
        ("--deployment=/nowhere/x.yaml", "Cannot read /nowhere/x.yaml: No such file or directory."),
        ("--hw-fault-xid=5000", "xid_type is 5000, wanted is a whole number from 1 to 1000."),
    ],
)
def test_an_option_of_pytest_that_cannot_be_is_one_sentence(options: str, said: str) -> None:
    test = "tests/fault_tolerance/deploy/test_hw_faults.py"
    command = [sys.executable, "-m", "pytest", test, "--enable-hw-faults", options]
    told = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False).stdout
    assert said in told
    assert "During handling of the above exception" not in told
    assert "Traceback" not in told
