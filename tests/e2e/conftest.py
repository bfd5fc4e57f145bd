# SPDX-License-Identifier: Apache-2.0
"""A drill as a process that a test can watch and disturb, and the lab it runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).resolve().parents[2]
LAB = Path("/var/lib/faultline-lab/lab")
PLAY = ["ansible-playbook", "-i", "inventories/lab"]


def kubectl(*words: str) -> str:
    """Run kubectl on the lab; raises CalledProcessError."""
    command = ["kubectl", f"--kubeconfig={LAB}/kubeconfig", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def environment() -> dict[str, str]:
    """Where the lab is, and its programs."""
    path = f"{Path(sys.executable).parent}:/var/cache/faultline/bin:{os.environ['PATH']}"
    return os.environ | {"KUBECONFIG": str(LAB / "kubeconfig"), "PATH": path}


def left() -> str:
    """What is there of any run."""
    return kubectl("get", "gpufaults,namespaces,dgd", "-A", "-l", "faultline.dev/run", "-o", "name")


def cleanup(results: Path) -> subprocess.CompletedProcess[str]:
    """Run the way back of the newest run in a folder of results, from a fresh process."""
    settings = json.dumps({"drill_results_dir": str(results)})
    return subprocess.run(
        [*PLAY, "playbooks/cleanup.yml", "-e", settings],
        cwd=TREE,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def released(node: str) -> None:
    """Wait until a node is back in service after NVSentinel's own path, GPUs included."""
    module = ["-m", "faultline.gpu.node_quarantine", "-a", f"state=released node={node}"]
    subprocess.run(
        ["ansible", "localhost", "-i", "inventories/lab", *module],
        check=True,
        cwd=TREE,
        env=environment(),
        capture_output=True,
    )
    gpus = "--for=jsonpath={.status.allocatable.nvidia\\.com/gpu}=2"
    kubectl("wait", f"node/{node}", gpus, "--timeout=180s")


class Drill:
    """One running drill; its folder of results is its own."""

    def __init__(self, results: Path, *options: str) -> None:
        self.results = results
        settings = json.dumps({"drill_results_dir": str(results)})
        self.process = subprocess.Popen(
            [*PLAY, "playbooks/drill.yml", "-e", settings, *options],
            cwd=TREE,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.results / "latest"

    def progress(self) -> list[dict[str, Any]]:
        """Notes of phases so far."""
        try:
            lines = (self.folder / "progress.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def wait_for(self, number: int, status: str, seconds: float = 180) -> None:
        """Wait until a phase has come so far; fails when the drill ends before."""
        self.until(
            lambda: any(p["number"] == number and p["status"] == status for p in self.progress()),
            f"phase {number} {status}",
            seconds,
        )

    def until(self, seen: Callable[[], bool], what: str, seconds: float = 180) -> None:
        """Wait until a test sees something; fails when the drill ends before."""
        deadline = time.monotonic() + seconds
        while not seen():
            assert self.process.poll() is None, (
                f"ended before {what}:\n{self.process.stdout.read()}"
            )
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.02)

    def end(self, seconds: float = 600) -> dict[str, Any]:
        """Wait for the end and return the report."""
        self.output, _ = self.process.communicate(timeout=seconds)
        print(self.output)
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report

    def cleanup(self) -> subprocess.CompletedProcess[str]:
        """Run the way back from a fresh process."""
        return cleanup(self.results)


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Callable[..., Drill]]:
    """Starts drills; whatever a test leaves running is ended and undone."""
    begun: list[Drill] = []

    def start(*options: str) -> Drill:
        begun.append(Drill(tmp_path, *options))
        return begun[-1]

    yield start
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
            one.cleanup()
