# SPDX-License-Identifier: Apache-2.0
"""The life of a fault on its node: once injected, never twice, and over when it has to be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fault_machine import POD_UID as POD
from fault_machine import UUID, Machine
from faultline_service import clock


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
    # Its agent may have gone with its node, and nobody says that it is over.
    over = {"phase": "Active", "endsAt": clock.stamp(time.time() - 120)}
    machine.agent.cache.objects["u"] = {"spec": elsewhere, "status": over}
    assert machine.fault("last")["status"]["phase"] == "Active"


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


def test_a_pod_that_the_node_does_not_have_is_refused_before_the_line(machine: Machine) -> None:
    machine.kube.pods = []
    status = machine.fault(cuda={"target": {"podUID": POD}})["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "PodNotFound")
    assert (machine.lines, machine.armed) == ([], [])
    assert f"gpu-node-1 has no pod with the UID {POD}" in status["message"]


def test_a_fault_stays_armed_when_its_pod_goes(machine: Machine) -> None:
    machine.fault(cuda={"target": {"podUID": POD}})
    machine.kube.pods = []
    machine.start().look("f")
    assert machine.armed == ["f"]


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
