# SPDX-License-Identifier: Apache-2.0
"""The same drill through the other doors: pytest's command line, and the classes for tests."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TREE, cleanup, environment, kubectl, left

from tests.utils.managed_deployment import DeploymentSpec

pytestmark = pytest.mark.drill
DOOR = "tests/fault_tolerance/deploy/test_hw_faults.py"
BASIC = ["--enable-hw-faults", "--namespace=hw-fault-test", "-v", "-s"]
BACKEND = [
    "--enable-hw-faults",
    "--hw-fault-backend=vllm",
    "--namespace=hw-fault-test",
    "-v",
    "-s",
]
FAST = ["--enable-hw-faults", "--skip-service-restart", "-v", "-s"]
LONG = pytest.mark.long
# Command lines as the documentation has them, and what is added to reach every backend and version.
WAYS = [
    pytest.param(FAST, ["--hw-fault-backend=trtllm", "--deployment=v1beta1/agg"], id="fast-trtllm"),
    pytest.param(BASIC, [], id="basic-vllm", marks=LONG),
    pytest.param(BACKEND, ["--deployment=v1beta1/disagg_router"], id="vllm-disagg", marks=LONG),
    pytest.param(FAST, ["--hw-fault-backend=sglang"], id="fast-sglang", marks=LONG),
    pytest.param(
        BASIC, ["--hw-fault-backend=sglang", "--deployment=disagg"], id="sglang-disagg", marks=LONG
    ),
    pytest.param(
        FAST, ["--hw-fault-backend=trtllm", "--deployment=disagg"], id="trtllm-disagg", marks=LONG
    ),
]


class Door:
    """One pytest process at work on the lab, with a folder of results of its own."""

    def __init__(self, results: Path, *options: str) -> None:
        self.results, self.output = results, ""
        # A shell ignores SIGINT for what it runs in the background, and so would all below it.
        python = ["env", "--default-signal=INT", sys.executable]
        self.process = subprocess.Popen(
            [*python, "-m", "pytest", DOOR, *options, f"--log-dir={results}"],
            cwd=TREE,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def phase(self) -> int:
        """Number of the newest phase that has begun, 0 before the first."""
        try:
            lines = (self.results / "latest/progress.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return 0
        return max((json.loads(line)["number"] for line in lines), default=0)

    def end(self, seconds: float = 900) -> str:
        """Wait for the end; returns what it printed."""
        self.output, _ = self.process.communicate(timeout=seconds)
        print(self.output)
        return self.output

    def report(self) -> dict[str, Any]:
        """Report of the newest run."""
        found: dict[str, Any] = json.loads((self.results / "latest/report.json").read_text())
        return found


def undo(results: Path) -> None:
    """The way back from a fresh process."""
    done = cleanup(results)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Path]:
    """A folder for results; what a test leaves unfinished there is undone."""
    yield tmp_path
    if (tmp_path / "latest").exists() and left():
        undo(tmp_path)


@pytest.mark.parametrize(("command", "more"), WAYS)
def test_a_command_line_of_the_documentation_runs_the_drill(
    results: Path, command: list[str], more: list[str]
) -> None:
    junit = results / "hw-fault-tests.xml"
    door = Door(results, *command, *more, f"--junit-xml={junit}")
    said = door.end()
    assert door.process.returncode == 0
    assert "1 passed" in said
    assert [p["status"] for p in door.report()["phases"]] == ["passed"] * 10
    assert door.report()["before_after"]["equal"] is True
    suite = ET.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "0")
    assert left() == ""


def test_without_being_asked_for_nothing_is_touched(results: Path) -> None:
    door = Door(results)
    assert "hardware faults are off: give --enable-hw-faults" in door.end(60)
    assert door.process.returncode == 0
    assert list(results.iterdir()) == []


@LONG
def test_a_node_that_may_not_be_hurt_is_refused_in_a_sentence(results: Path) -> None:
    door = Door(results, *FAST, "--hw-fault-target-node=nowhere")
    said = door.end()
    assert door.process.returncode == 1
    assert door.report()["verdict"] == "refused"
    assert "nowhere" in door.report()["reason"]
    assert "FaultlineError" in said
    assert left() == ""


KILLS = [pytest.param(0)] + [pytest.param(n, marks=LONG) for n in range(1, 10)]


@pytest.mark.parametrize("number", KILLS)
def test_a_pytest_process_killed_at_a_random_moment_leaves_nothing_behind(
    results: Path, number: int
) -> None:
    door = Door(results, *FAST)
    phase, wait = random.randint(1, 10), random.uniform(0, 5)
    deadline = time.monotonic() + 400
    while door.phase() < phase and door.process.poll() is None:
        assert time.monotonic() < deadline, f"phase {phase} was not reached"
        time.sleep(0.05)
    time.sleep(wait)
    print(f"killed {wait:.1f} s into phase {phase}")
    door.process.send_signal(signal.SIGKILL)
    door.end(60)
    undo(results)
    # Before the first look at the cluster nothing is made that could be undone.
    touched = (results / "latest/before.json").exists()
    assert door.report()["before_after"]["equal"] is (True if touched else None)
    assert left() == ""


@LONG
def test_ctrl_c_undoes_everything_before_pytest_ends(results: Path) -> None:
    door = Door(results, *FAST)
    deadline = time.monotonic() + 300
    while door.phase() < 3 and door.process.poll() is None:
        assert time.monotonic() < deadline, "phase 3 was not reached"
        time.sleep(0.05)
    door.process.send_signal(signal.SIGINT)
    door.end()
    assert door.process.returncode == 2
    assert door.report()["before_after"]["equal"] is True
    assert left() == ""


USAGE = """
import asyncio, sys
from tests.utils.managed_deployment import ManagedDeployment, DeploymentSpec

# Load deployment spec
spec = DeploymentSpec("tests/data/deployments/vllm/disagg_router.yaml")
spec.name = "my-test"
spec.set_model("Qwen/Qwen3-0.6B")
spec.set_image("registry.example/ai-dynamo/vllm-runtime:1.6.1")
spec.set_logging(enable_jsonl=True, log_level="debug")
spec.remove_env_from_secret()

async def main():
    # Run test with ephemeral deployment
    async with ManagedDeployment(
        namespace="test-namespace",
        deployment_spec=spec,
        log_dir=sys.argv[1],
        enable_hw_faults=True,
        hw_fault_config={"xid_type": 79},
        skip_service_restart=True,
    ) as deployment:
        # Setup CUDA passthrough (pods restart once)
        await deployment.setup_cuda_passthrough(xid_type=79)
        await deployment.wait_for_all_pods_ready(timeout=300)
        target_node = deployment.get_hw_fault_target_node()

        # Deployment is ready here
        pods = deployment.get_pods()
        pf = deployment.port_forward(pods["Frontend"][0], 8000)
        import urllib.request
        assert b"Qwen/Qwen3-0.6B" in urllib.request.urlopen(f"{pf.url}/v1/models").read()

        # Enable faults (no restart)
        await deployment.toggle_cuda_faults(enable=True)

        # Inject XID for NVSentinel
        fault_id = await deployment.inject_hw_fault(fault_type="xid", xid_type=79)
        print("fault", fault_id)

        # Wait for NVSentinel to cordon node
        deployment.wait_for_node_cordon(timeout=180)
        assert deployment.is_node_cordoned(target_node)

        # Cleanup and recover
        await deployment.cleanup_cuda_spec_without_restart()
        await deployment.wait_for_pods_on_healthy_nodes(exclude_node=target_node)
    print("left with", deployment.report["before_after"])

asyncio.run(main())
"""


def in_its_own_process(code: str, results: Path) -> str:
    """Run code of the documentation, with the folder of results as argument; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(results)],
        cwd=TREE,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@LONG
def test_the_classes_work_as_the_documentation_uses_them(results: Path) -> None:
    said = in_its_own_process(USAGE, results)
    assert "left with {'equal': True, 'differences': []}" in said
    assert left() == ""


MANAGER = """
import asyncio, sys
from tests.utils.hw_fault_helpers import HWFaultManager, HWFaultConfig

async def main():
    manager = HWFaultManager(
        namespace="manager-test",
        deployment_name="my-deployment",
        config=HWFaultConfig(xid_type=79),
        results_dir=sys.argv[1],
    )

    await manager.setup()
    await manager.setup_cuda_passthrough(xid_type=79)
    await manager.toggle_cuda_faults(enable=True)
    fault_id = await manager.inject_xid_fault(xid_type=79)
    assert fault_id.startswith(manager.run_id)
    manager.wait_for_node_cordon(timeout=180)
    assert manager.is_node_cordoned()
    await manager.cleanup()
    assert not manager.is_node_cordoned()

asyncio.run(main())
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[str]:
    """A deployment that is somebody's own, with two GPUs per worker; the namespace it is in."""
    space = "manager-test"
    spec = DeploymentSpec(TREE / "tests/data/deployments/vllm/agg.yaml")
    spec.name = "my-deployment"
    spec.set_model("Qwen/Qwen3-0.6B")
    spec.set_image("registry.example/ai-dynamo/vllm-runtime:1.6.1")
    spec.set_tensor_parallel(2)
    spec.set_logging(enable_jsonl=True, log_level="debug")
    spec.remove_env_from_secret()
    spec.save(tmp_path / "deployment.yaml")
    kubectl("create", "namespace", space)
    kubectl("label", "namespace", space, "faultline.dev/drill=allowed")
    kubectl("apply", "--server-side", "-n", space, "-f", str(tmp_path / "deployment.yaml"))
    good = "--for=jsonpath={.status.state}=successful"
    kubectl("wait", "-n", space, "dgd/my-deployment", good, "--timeout=180s")
    yield space
    kubectl("delete", "namespace", space, "--timeout=180s")


@LONG
def test_faults_of_a_deployment_of_ones_own_are_managed_as_the_documentation_says(
    deployment: str, results: Path
) -> None:
    before = kubectl("get", "dgd", "-n", deployment, "-o", "jsonpath={.items[0].spec}")
    in_its_own_process(MANAGER, results)
    assert kubectl("get", "dgd", "-n", deployment, "-o", "jsonpath={.items[0].spec}") == before
    assert kubectl("get", "gpufaults", "-o", "name") == ""
