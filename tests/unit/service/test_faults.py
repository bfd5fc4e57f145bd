# SPDX-License-Identifier: Apache-2.0
"""The life of a fault on its node: once injected, never twice, and over when it has to be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from faultline_service import clock, kernel_line
from faultline_service.faults import Faults, Node
from faultline_service.page import Page

UUID = "GPU-11111111-2222-3333-4444-555555555555"


class FakeKube:
    """One node and its faults; status and metadata patches are merged as the API server does."""

    def __init__(self) -> None:
        self.faults: dict[str, dict[str, Any]] = {}
        self.labels = {"faultline.dev/drill": "allowed"}

    def get(self, kind: str, name: str, api_version: str = "") -> dict[str, Any] | None:
        if kind == "Node":
            return {"metadata": {"name": name, "labels": self.labels}}
        return self.faults.get(name)

    def patch(self, kind: str, name: str, change: dict[str, Any], status: bool = False) -> None:
        merge(self.faults[name], change)


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

    def fault(self, name: str = "f", **spec: Any) -> dict[str, Any]:
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
        meta = {"name": name, "generation": 1}
        self.kube.faults[name] = {"metadata": meta, "spec": wanted | spec}
        self.agent.look(name)
        return self.kube.faults[name]

    @property
    def armed(self) -> list[str]:
        """Names of the armed faults."""
        return [entry.fault_id for entry in self.page.entries()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_an_injected_fault_is_in_the_kernel_log_and_on_the_page_until_its_deadline(
    machine: Machine,
) -> None:
    status = machine.fault()["status"]
    assert (status["phase"], status["cuda"]["code"]) == ("Active", 719)
    assert status["kernelLog"]["journal"]["seen"]
    assert len(machine.lines) == 1
    assert "(PCI:0000:1a:00): 79," in machine.lines[0]
    (entry,) = machine.page.entries()
    assert (entry.gpu_uuid, entry.code_live, entry.code_new) == (UUID, 719, 999)
    assert abs(entry.not_after - clock.to_boottime(clock.seconds(status["endsAt"]))) < 1e8


def test_an_agent_that_starts_anew_writes_no_second_line_and_arms_again(machine: Machine) -> None:
    machine.fault()
    machine.page.write([])
    machine.start().look("f")
    assert (len(machine.lines), machine.armed) == (1, ["f"])


def test_an_agent_that_died_before_the_line_was_seen_only_looks_for_it(machine: Machine) -> None:
    fault = machine.fault()
    fault["status"]["phase"] = "Pending"
    del fault["status"]["kernelLog"]["journal"]
    machine.start().look("f")
    assert len(machine.lines) == 1
    assert fault["status"]["kernelLog"]["journal"]["seen"]


def test_a_fault_ends_when_it_is_told_to(machine: Machine) -> None:
    fault = machine.fault()
    fault["spec"]["ended"] = True
    machine.agent.look("f")
    assert (fault["status"]["phase"], fault["status"]["reason"]) == ("Recovered", "Ended")
    assert machine.armed == []


def test_a_fault_ends_at_its_deadline_by_itself(machine: Machine) -> None:
    fault = machine.fault()
    fault["status"]["endsAt"] = clock.stamp(time.time() - 1)
    machine.agent.look("f")
    assert (fault["status"]["phase"], fault["status"]["reason"]) == ("Recovered", "Deadline")
    assert machine.armed == []


def test_a_reboot_of_the_node_ends_its_faults(machine: Machine) -> None:
    fault = machine.fault()
    machine.start("boot-2").look("f")
    assert fault["status"]["reason"] == "NodeRebooted"
    assert machine.armed == []


def test_a_deleted_fault_goes_only_after_the_page_is_clear(machine: Machine) -> None:
    fault = machine.fault()
    assert fault["metadata"]["finalizers"] == ["faultline.dev/agent"]
    fault["metadata"]["deletionTimestamp"] = clock.stamp()
    machine.agent.look("f")
    assert fault["metadata"]["finalizers"] == []
    assert machine.armed == []


def test_ending_one_fault_leaves_the_other_armed(machine: Machine) -> None:
    first = machine.fault("first", effects=["cuda"])
    machine.fault("second", effects=["cuda"], xid=48)
    first["spec"]["ended"] = True
    machine.agent.look("first")
    assert machine.armed == ["second"]


def test_a_line_that_never_reaches_the_journal_is_a_failure_and_arms_nothing(
    machine: Machine,
) -> None:
    machine.heard = None
    status = machine.fault()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "JournalSilent")
    assert machine.armed == []


def test_a_node_that_is_not_marked_and_a_gpu_that_is_not_there_are_refused(
    machine: Machine,
) -> None:
    assert machine.fault(gpu={"index": 9})["status"]["reason"] == "GpuNotFound"
    machine.kube.labels = {}
    assert machine.fault()["status"]["reason"] == "NodeNotAllowed"
    assert (machine.lines, machine.armed) == ([], [])


def test_an_xid_that_programs_do_not_notice_arms_nothing_and_says_so(machine: Machine) -> None:
    status = machine.fault(xid=63)["status"]
    assert (status["phase"], status["cuda"]) == ("Active", {"armed": False})
    assert "no effect on CUDA" in status["message"]


def test_a_fault_that_was_written_past_the_api_is_refused_while_another_node_is_hurt(
    machine: Machine,
) -> None:
    elsewhere = {"xid": 79, "node": "gpu-node-2"}
    status = {"phase": "Active", "endsAt": clock.stamp(time.time() + 60)}
    machine.agent.cache.objects["u"] = {"spec": elsewhere, "status": status}
    refused = machine.fault()["status"]
    assert refused["reason"] == "TooManyNodes"
    assert "gpu-node-2" in refused["message"]
    assert (machine.lines, machine.armed) == ([], [])
    status["phase"] = "Recovered"
    assert machine.fault("later")["status"]["phase"] == "Active"


POD = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"


def process(machine: Machine, pid: int, inside: int, pod: str = POD) -> int:
    """A process of a pod as /proc shows it; returns the inode of its PID namespace."""
    folder = machine.folder / "proc" / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/pid").touch()
    (folder / "status").write_text(f"Name:\tpython3\nNSpid:\t{pid}\t{inside}\n")
    (folder / "cgroup").write_text(f"0::/kubepods/burstable/pod{pod}/{'c' * 64}\n")
    (folder / "comm").write_text("python3\n")
    return (folder / "ns/pid").stat().st_ino


def test_spec_cuda_comes_to_the_page_with_the_target_as_it_sees_itself(machine: Machine) -> None:
    namespace = process(machine, 4711, 17)
    cuda = {
        "mode": "once",
        "classes": "SQ",
        "afterCalls": 3,
        "probability": 0.5,
        "seed": 7,
        "notBeforeSeconds": 20,
        "target": {"podUID": POD, "pid": 4711, "rank": 0},
    }
    status = machine.fault(cuda=cuda)["status"]
    (entry,) = machine.page.entries()
    assert (entry.mode, entry.classes, entry.after_calls) == ("once", "SQ", 3)
    assert (entry.probability, entry.seed, entry.rank) == (0.5, 7, 0)
    assert (entry.pod_uid, entry.pid, entry.pid_namespace) == (POD, 17, namespace)
    begins = clock.to_boottime(clock.seconds(status["injectedAt"]) + 20)
    assert abs(entry.not_before - begins) < 1e8
    assert "pid=4711, name=python3" in machine.lines[0]
    assert status["cuda"]["mode"] == "once"


def test_a_process_that_is_not_there_or_of_another_pod_is_refused(machine: Machine) -> None:
    nobody = machine.fault("a", cuda={"target": {"pid": 4711}})["status"]
    assert (nobody["reason"], machine.armed) == ("ProcessNotFound", [])
    process(machine, 4712, 1, pod=POD.replace("9d", "00"))
    theirs = machine.fault("b", cuda={"target": {"pid": 4712, "podUID": POD}})["status"]
    assert (theirs["reason"], machine.armed) == ("ProcessNotFound", [])
    assert POD in theirs["message"]


def test_a_mig_instance_is_what_the_entry_names_and_its_gpu_what_the_line_names(
    machine: Machine,
) -> None:
    instance = "MIG-99999999-8888-7777-6666-555555555555"
    machine.fault(cuda={"target": {"migUUID": instance}})
    (entry,) = machine.page.entries()
    assert entry.gpu_uuid == instance
    assert "(PCI:0000:1a:00): 79," in machine.lines[0]


def test_an_xid_that_hangs_in_reality_hangs_and_may_be_told_not_to(machine: Machine) -> None:
    machine.fault("a", xid=119)
    machine.fault("b", xid=119, cuda={"mode": "sticky"})
    machine.fault("c", xid=119, cuda={"mode": "hang", "delayMicroseconds": 0})
    first, second, third = machine.page.entries()
    assert (first.mode, first.delay_us, first.at_init) == ("hang", 6_000_000, True)
    assert (second.mode, second.delay_us) == ("sticky", 0)
    assert (third.mode, third.delay_us) == ("hang", 0)


def test_the_line_and_the_code_are_those_of_the_drivers_generation(machine: Machine) -> None:
    version = machine.folder / "driver/version"
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  R\n")
    machine.fault("a", xid=94)
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  R\n")
    machine.fault("b", xid=94)
    machine.fault("c", xid=43)
    assert [e.code_live for e in machine.page.entries()] == [214, 226, 719]
    assert "channel 0x00000008" in machine.lines[2]


def test_a_genuine_fault_needs_consent_and_an_xid_that_a_kernel_can_bring_about(
    machine: Machine,
) -> None:
    refused = machine.fault("a", xid=31, cuda={"mode": "genuine"})["status"]
    assert refused["reason"] == "GenuineNotAllowed"
    machine.allow_genuine = True
    machine.agent = machine.start()
    assert machine.fault("b", cuda={"mode": "genuine"})["status"]["reason"] == "NotPossible"
    assert machine.fault("c", xid=31, cuda={"mode": "genuine"})["status"]["phase"] == "Active"
    assert machine.armed == ["c"]


def test_what_the_api_would_have_refused_the_agent_refuses_as_well(machine: Machine) -> None:
    status = machine.fault(cuda={"mode": "slow"})["status"]
    assert (status["phase"], status["reason"], machine.armed) == ("Failed", "NotPossible", [])
    assert "mode slow needs a delay" in status["message"]
    assert machine.lines == []


def test_a_driver_that_refuses_the_faulting_kernel_ends_the_fault_with_a_sentence(
    machine: Machine,
) -> None:
    machine.allow_genuine = True
    machine.agent = machine.start()
    machine.fault(xid=31, cuda={"mode": "genuine"})
    (entry,) = machine.page.entries()
    machine.agent.genuine_refused({entry.serial + 1: (4711, 801)})
    assert machine.armed == ["f"], "another arming's refusal is not this one's"
    machine.agent.genuine_refused({entry.serial: (4711, 801)})
    status = machine.kube.faults["f"]["status"]
    assert (status["phase"], status["reason"], machine.armed) == ("Failed", "GenuineRefused", [])
    assert "4711" in status["message"]
    assert "801" in status["message"]
