# SPDX-License-Identifier: Apache-2.0
"""The life of a fault when something changes meanwhile: objects, clocks, other nodes, boots."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fault_machine import UUID, FakeKube, Machine
from faultline_service import clock, kernel_line
from faultline_service.page import Entry, Page
from faultline_service.processes import Process, Processes

HOUR = 3600.0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def armed_entry(name: str, seconds: float) -> Entry:
    """An entry that ends in so many seconds."""
    return Entry(name, 79, UUID, 719, 999, 15, "S", clock.boottime() + int(seconds * clock.SECOND))


def another_nodes() -> dict[str, Any]:
    """A fault that the agent of another node has accepted."""
    status = {"phase": "Pending", "endsAt": clock.stamp(time.time() + 60)}
    spec = {"xid": 79, "node": "gpu-node-2"}
    return {"metadata": {"name": "other"}, "spec": spec, "status": status}


def test_a_fault_that_goes_before_it_was_injected_leaves_no_trace(machine: Machine) -> None:
    class Racing(FakeKube):
        """The object goes between the agent's reading and its first writing."""

        def get(self, kind: str, name: str, api_version: str = "") -> dict[str, Any] | None:
            found = super().get(kind, name, api_version)
            self.faults.pop(name, None)
            return found

    machine.kube = machine.agent.kube = Racing()  # type: ignore[assignment]
    with pytest.raises(KeyError):
        machine.fault()
    assert (machine.lines, machine.armed) == ([], [])


def test_a_fault_whose_process_is_not_there_writes_no_line_that_would_cost_the_node(
    machine: Machine,
) -> None:
    assert machine.fault(cuda={"target": {"pid": 4711}})["status"]["reason"] == "ProcessNotFound"
    assert machine.lines == []


def test_a_fault_for_which_the_page_has_no_room_writes_no_line(machine: Machine) -> None:
    machine.page.write([armed_entry(f"e{n}", 60) for n in range(16)])
    assert machine.fault()["status"]["reason"] == "PageFull"
    assert machine.lines == []
    machine.page.write([armed_entry(f"e{n}", -1 if n else 60) for n in range(16)])
    assert machine.fault("later")["status"]["phase"] == "Active"


def test_a_gpu_whose_driver_does_not_say_its_uuid_is_refused_before_the_line(
    machine: Machine,
) -> None:
    facts = machine.folder / "driver/gpus/0000:1a:00.0/information"
    facts.write_text(facts.read_text().replace(UUID, "GPU-????????-????-????-????-????????????"))
    status = machine.fault()["status"]
    assert (status["phase"], status["reason"], machine.lines) == ("Failed", "NotPossible", [])


def test_a_fault_that_fails_after_it_was_armed_is_not_said_to_be_armed(machine: Machine) -> None:
    machine.allow_genuine = True
    machine.agent = machine.start()
    machine.fault(xid=31, cuda={"mode": "genuine"})
    (entry,) = machine.page.entries()
    machine.agent.genuine_refused({entry.serial: (4711, 801)})
    assert machine.kube.faults["f"]["status"]["cuda"]["armed"] is False


def test_two_nodes_that_accept_at_the_same_moment_are_not_both_hurt(machine: Machine) -> None:
    """The watch has not brought the other node's acceptance yet; the API server has it."""
    machine.kube.faults["other"] = another_nodes()
    refused = machine.fault()["status"]
    assert (refused["phase"], refused["reason"]) == ("Failed", "TooManyNodes")
    assert (machine.lines, machine.armed) == ([], [])


def test_an_agent_that_died_between_accepting_and_asking_again_still_asks(
    machine: Machine,
) -> None:
    class Away(FakeKube):
        def list(self, kind: str) -> list[dict[str, Any]]:
            raise ConnectionError

    machine.kube = machine.agent.kube = Away()  # type: ignore[assignment]
    with pytest.raises(ConnectionError):
        machine.fault()
    accepted = machine.kube.faults
    machine.kube = FakeKube()
    machine.kube.faults = accepted | {"other": another_nodes()}
    machine.start().look("f")
    assert accepted["f"]["status"]["reason"] == "TooManyNodes"
    assert (machine.lines, machine.armed) == ([], [])


@pytest.mark.parametrize("how", ["ended", "deadline", "gone"])
def test_a_fault_that_is_over_when_its_line_is_seen_arms_nothing_not_even_for_a_moment(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def slow_journal(*_: Any) -> kernel_line.Seen:
        fault = machine.kube.faults["f"]
        fault["spec"]["ended"] = how == "ended"
        if how == "deadline":
            fault["status"]["endsAt"] = clock.stamp(time.time() - 1)
        if how == "gone":
            del machine.kube.faults["f"]
        return kernel_line.Seen("line", time.time(), "kernel")

    monkeypatch.setattr(kernel_line, "wait_in_journal", slow_journal)
    before = machine.page.generation
    if how == "gone":
        with pytest.raises(KeyError):
            machine.fault()
    else:
        fault = machine.fault()
        machine.agent.look(machine.agent.waiting.get_nowait())
        assert fault["status"]["phase"] == "Recovered"
    assert machine.page.generation == before


def test_a_fault_that_was_asked_for_long_ago_hurts_nobody_any_more(machine: Machine) -> None:
    def asked(name: str, ago: float) -> dict[str, Any]:
        machine.kube.faults.pop(name, None)
        created = clock.stamp(time.time() - ago)
        return machine.fault(name, created=created)["status"]

    late = asked("late", HOUR)
    assert (late["phase"], late["reason"], machine.lines) == ("Failed", "TooLate", [])
    assert asked("recent", 30.0)["phase"] == "Active"


def test_a_clock_that_is_set_back_does_not_lengthen_a_fault(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = machine.fault()
    (before,) = machine.page.entries()
    wall, boot = time.time, clock.boottime
    monkeypatch.setattr(time, "time", lambda: wall() - HOUR)
    machine.page.write([])
    machine.start().look("f")
    (after,) = machine.page.entries()
    assert abs(after.not_after - before.not_after) < clock.SECOND
    monkeypatch.setattr(clock, "boottime", lambda: boot() + 61 * clock.SECOND)
    machine.agent.look("f")
    assert (fault["status"]["reason"], machine.armed) == ("Deadline", [])


def test_a_reboot_is_known_at_once_though_the_kubelet_still_names_the_old_boot(
    machine: Machine,
) -> None:
    kernel = machine.folder / "proc/1/root/proc/sys/kernel/random/boot_id"
    kernel.parent.mkdir(parents=True)
    kernel.write_text("boot-2\n")
    fault = machine.fault()
    agent = machine.start("boot-1")
    agent.booted("boot-1")
    agent.look("f")
    assert (fault["status"]["reason"], machine.armed) == ("NodeRebooted", [])


def test_a_page_from_before_a_reboot_arms_nothing_for_the_uptime_that_was(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    page.write([armed_entry("month-of-uptime", 30 * 24 * HOUR), armed_entry("of-now", 600)])
    later = Page(tmp_path / "page")
    later.forget_earlier_boots()
    assert [e.fault_id for e in later.entries()] == ["of-now"]


def test_faults_may_come_while_those_that_are_there_are_looked_through(machine: Machine) -> None:
    there = machine.agent.cache.objects

    class Coming(dict[str, Any]):
        """A fault during whose reading the watch brings another one."""

        def __getitem__(self, key: str) -> Any:
            there[f"new-{len(there)}"] = {"spec": {"node": "n"}, "metadata": {"name": "n"}}
            return super().__getitem__(key)

    there["u"] = Coming(spec={"node": "gpu-node-1"}, metadata={"name": "f"})
    assert machine.agent.names() == {"f"}
    assert machine.agent.mine()


def test_a_process_names_itself_as_it_likes_and_the_log_still_gets_one_line(
    machine: Machine,
) -> None:
    folder = machine.folder / "proc/4711"
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/pid").touch()
    (folder / "status").write_text("Name:\tx\nNSpid:\t4711\t1\n")
    (folder / "cgroup").write_text("0::/\n")
    (folder / "comm").write_bytes(b"a\n<0>NVRM\xff\x1b\n")
    machine.fault(cuda={"target": {"pid": 4711}})
    assert "name=a?<0>NVRM??," in machine.lines[0]
    users = Processes(lambda *_: None, machine.folder / "proc")
    users.alive[4711] = Process(4711, ("", "", 0), "", "", "", [UUID])
    assert users.user_of(UUID) is not None


@pytest.mark.parametrize("how", ["ended", "deleted"])
def test_calls_work_again_at_once_though_the_agent_waits_for_another_faults_line(
    machine: Machine, how: str
) -> None:
    fault = machine.fault()
    machine.fault("other", effects=["cuda"])
    fault["spec"]["ended"] = how == "ended"
    if how == "deleted":
        fault["metadata"]["deletionTimestamp"] = clock.stamp()
    machine.agent.cache._seen("MODIFIED", fault | {"metadata": fault["metadata"] | {"uid": "u"}})
    assert machine.armed == ["other"]
    machine.agent.look(machine.agent.waiting.get_nowait())
    assert fault["status"]["phase"] == "Recovered"
