# SPDX-License-Identifier: Apache-2.0
"""A node with one GPU and its agent, for tests of the life of faults."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from faultline_service import clock, kernel_line
from faultline_service.faults import Faults
from faultline_service.page import Page
from faultline_service.target import Node

UUID = "GPU-11111111-2222-3333-4444-555555555555"
POD_UID = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"


class FakeKube:
    """One node and its faults; status and metadata patches are merged as the API server does."""

    def __init__(self) -> None:
        self.faults: dict[str, dict[str, Any]] = {}
        self.labels = {"faultline.dev/drill": "allowed"}
        self.pods = [POD_UID]

    def get(self, kind: str, name: str, api_version: str = "") -> dict[str, Any] | None:
        if kind == "Node":
            return {"metadata": {"name": name, "labels": self.labels}}
        return self.faults.get(name)

    def list(self, kind: str, api_version: str = "", **selectors: str) -> list[dict[str, Any]]:
        if kind == "Pod":
            assert selectors == {"field_selector": "spec.nodeName=gpu-node-1"}
            return [{"metadata": {"uid": uid}} for uid in self.pods]
        return list(self.faults.values())

    def patch(
        self, kind: str, name: str, change: dict[str, Any], status: bool = False
    ) -> dict[str, Any] | None:
        if name in self.faults:
            merge(self.faults[name], change)
        return self.faults.get(name)


def merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict):
            merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


class Machine:
    """A node with one GPU, its agent, and a kernel log that counts what is written."""

    allow_genuine = False

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = folder / "driver/gpus/0000:1a:00.0"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text(
            f"Model: \t NVIDIA H100\nGPU UUID: \t {UUID}\nBus Location: \t 0000:1a:00.0\n"
        )
        self.folder, self.kube, self.lines = folder, FakeKube(), list[str]()
        self.heard: kernel_line.Seen | None = kernel_line.Seen("line", time.time(), "kernel")
        monkeypatch.setattr(kernel_line, "write", self.write)
        monkeypatch.setattr(kernel_line, "wait_in_journal", lambda *_: self.heard)
        self.page = Page(folder / "control/page")
        self.agent = self.start()

    def write(self, line: str, _kmsg: Path) -> int:
        self.lines.append(line)
        return len(self.lines)

    def start(self, boot_id: str = "boot-1") -> Faults:
        """A fresh agent of the same node."""
        driver, proc = self.folder / "driver", self.folder / "proc"
        node = Node("gpu-node-1", driver, proc=proc, allow_genuine=self.allow_genuine)
        agent = Faults(self.kube, node, self.page)  # type: ignore[arg-type]
        agent.boot_id = boot_id
        return agent

    def fault(self, name: str = "f", created: str = "", **spec: Any) -> dict[str, Any]:
        """A fault as the API server has it, after the agent has looked at it."""
        wanted = {
            "xid": 79,
            "node": "gpu-node-1",
            "gpu": {"index": 0},
            "effects": ["kernelLog", "cuda"],
            "durationSeconds": 60,
            "runId": "run-1",
            "ended": False,
        }
        created = created or clock.stamp()
        meta = {"name": name, "generation": 1, "creationTimestamp": created}
        self.kube.faults[name] = {"metadata": meta, "spec": wanted | spec}
        self.agent.look(name)
        return self.kube.faults[name]

    @property
    def armed(self) -> list[str]:
        """Names of the armed faults."""
        return [entry.fault_id for entry in self.page.entries()]
