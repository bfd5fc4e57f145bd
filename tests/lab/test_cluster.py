# SPDX-License-Identifier: Apache-2.0
"""What a user can rely on of the lab's cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.__main__ import first_process

pytestmark = pytest.mark.lab

TREE = Path(__file__).resolve().parents[2]
STATE = Path("/var/lib/faultline-lab")
LAB = STATE / "lab"


def cluster(*words: str, check: bool = True) -> Any:
    command = [sys.executable, "-m", "lab.cluster", *words]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return json.loads(done.stdout or "{}")


def plan(name: str, net: int) -> str:
    return json.dumps(
        {
            "name": name,
            "state": str(STATE),
            "binaries": "/var/cache/faultline/bin",
            "nodes": 1,
            "gpus_per_node": 1,
            "node_network": f"10.{net}.0.0/24",
            "pod_network": f"10.{net + 1}.0.0/16",
            "service_network": f"10.{net + 2}.0.0/16",
            "version": "v1.34.4",
        }
    )


@pytest.fixture
def second() -> Iterator[Path]:
    """A small cluster beside the lab."""
    folder = STATE / "second"
    yield folder
    cluster("down", f"--folder={folder}")


def last_words(folder: Path) -> str:
    """The ends of what supervisor and node have logged: the cluster is gone after the test."""
    files = [folder / "log/supervisor.log", folder / "log/gpu-node-1.log"]
    files += sorted((folder / "nodes/gpu-node-1/log/lab").glob("*.log"))
    return "\n".join(f"{file}:\n{file.read_text()[-3000:]}" for file in files if file.exists())


def up(folder: Path) -> Any:
    return cluster("up", f"--folder={folder}", f"--plan={plan(folder.name, 243)}", "--timeout=180")


def test_a_second_up_changes_nothing_and_a_down_leaves_nothing(second: Path) -> None:
    assert up(second)["changed"] is True
    begun = time.monotonic()
    assert up(second)["changed"] is False
    assert time.monotonic() - begun < 10
    assert cluster("down", f"--folder={second}")["changed"] is True
    assert cluster("leftovers", f"--folder={second}") == {"leftovers": {}}


def test_a_down_after_a_kill_in_the_middle_of_up_leaves_nothing(second: Path) -> None:
    command = [sys.executable, "-m", "lab.cluster", "up", f"--folder={second}"]
    process = subprocess.Popen([*command, f"--plan={plan('second', 243)}"], cwd=TREE)
    deadline = time.monotonic() + 180
    while not (second / "run/kube-apiserver.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    supervisor = int((second / "run/supervisor.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    cluster("down", f"--folder={second}")
    assert cluster("leftovers", f"--folder={second}") == {"leftovers": {}}


def test_a_node_that_loses_power_comes_back_with_another_boot_id(second: Path) -> None:
    up(second)
    kubectl = ["/var/cache/faultline/bin/kubectl", f"--kubeconfig={second}/kubeconfig"]
    ask = [*kubectl, "get", "node", "gpu-node-1", "-o", "jsonpath={.status.nodeInfo.bootID}"]
    before = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
    # Its first process takes everything in the node along, like a power button.
    os.kill(first_process(second, "gpu-node-1"), signal.SIGKILL)
    deadline = time.monotonic() + 180
    while subprocess.run(ask, check=True, capture_output=True, text=True).stdout == before:
        assert time.monotonic() < deadline, f"the node did not come back\n{last_words(second)}"
        time.sleep(0.2)
    ready = [*kubectl, "wait", "--for=condition=Ready", "node/gpu-node-1", "--timeout=180s"]
    subprocess.run(ready, check=True, capture_output=True)


def test_the_lab_itself_is_left_alone_by_a_cluster_beside_it() -> None:
    status = cluster("status", f"--folder={LAB}")
    assert status["state"] == "running"
