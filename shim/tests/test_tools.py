# SPDX-License-Identifier: Apache-2.0
"""The host's tool and the container's self-test, on real processes with the shim."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GPUS, LIBRARY, Lab, Machine, Session
from faultline_service import shimctl

POD = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"


class Host:
    """A host with two GPUs and a tool for its page."""

    def __init__(self, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
        self.lab, self.capsys = lab, capsys
        self.driver = lab.folder / "driver"
        for uuid, pci in GPUS:
            folder = self.driver / "gpus" / pci
            folder.mkdir(parents=True)
            (folder / "information").write_text(f"GPU UUID: {uuid}\nBus Location: {pci}\n")

    @property
    def where(self) -> tuple[str, ...]:
        return "--page", str(self.lab.page_path), "--driver", str(self.driver)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of the tool."""
        code = shimctl.main([*self.where, *words])
        return (code, *self.capsys.readouterr())


@pytest.fixture
def host(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(lab, capsys)


@pytest.mark.parametrize("gpu", ["0", GPUS[0][0], GPUS[0][1]])
def test_a_fault_armed_by_hand_hits_running_processes_and_is_ended_by_hand(
    host: Host, session: Callable[..., Session], gpu: str
) -> None:
    one, other = session(0), session(1)
    code, name, _ = host("arm", "--gpu", gpu, "--xid", "79", "--seconds", "60")
    assert code == 0
    assert (one("sync"), other("sync")) == (719, 0)
    assert host("disarm", name.strip())[0] == 0
    assert session(0)("sync") == 0


def test_a_fault_armed_by_hand_has_a_deadline_and_what_else_was_said(host: Host) -> None:
    words = "--mode once --after-calls 2 --probability 0.5 --seed 9 --rank 1 --classes S"
    host("arm", "--gpu", "1", "--xid", "94", "--seconds", "30", *words.split())
    (entry,) = host.lab.page.entries()
    assert (entry.gpu_uuid, entry.mode, entry.after_calls) == (GPUS[1][0], "once", 2)
    assert (entry.probability, entry.seed, entry.rank, entry.classes) == (0.5, 9, 1, "S")
    assert entry.not_after > 0


def test_one_process_of_the_host_is_named_by_its_number(
    host: Host, session: Callable[..., Session]
) -> None:
    one, other = session(), session()
    pid = str(one.process.pid)
    assert host("arm", "--gpu", "0", "--xid", "79", "--seconds", "60", "--pid", pid)[0] == 0
    assert (one("sync"), other("sync")) == (719, 0)


def test_status_says_what_is_armed_and_what_each_process_has_seen(
    host: Host, session: Callable[..., Session]
) -> None:
    one = session()
    host("arm", "--gpu", "0", "--xid", "79", "--seconds", "60", "--id", "mine")
    one("sync")
    found = json.loads(host("status", "--json")[1])
    assert [e["fault_id"] for e in found["entries"]] == ["mine"]
    (process,) = [p for p in found["processes"] if p["pid"] == one.process.pid]
    shim = process["shim"]
    assert (shim["hits"], shim["faultId"]) == (1, "mine")
    assert shim["firstHitFunction"] == shim["lastHitFunction"] == "cuCtxSynchronize"
    assert shim["pageInode"] == found["inode"]
    assert shim["firstHitAt"] <= shim["lastHitAt"]
    text = host("status")[1]
    assert "mine: XID 79" in text
    assert f"{one.process.pid} session" in text


def test_status_tells_a_process_that_has_another_page(
    host: Host, session: Callable[..., Session]
) -> None:
    one = session()
    host.lab.page_path.unlink()
    assert host("status")[0] == 1, "it makes no page of its own"
    host("arm", "--gpu", "0", "--xid", "79", "--seconds", "60")
    assert one("sync") == 0
    (line,) = [x for x in host("status")[1].splitlines() if f" {one.process.pid} " in x]
    assert "ANOTHER PAGE" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("arm --gpu 7 --xid 79 --seconds 5", "no GPU with index 7"),
        ("arm --gpu 0 --xid 63 --seconds 5", "does nothing to CUDA calls"),
        ("arm --gpu 0 --xid 31 --seconds 5 --mode genuine", "--allow-genuine"),
        ("arm --gpu 0 --xid 79 --seconds 5 --pid 4194303", "no process 4194303"),
        ("arm --gpu first --xid 79 --seconds 5", "'first' names no GPU"),
        ("arm --gpu MIG-1 --xid 79 --seconds 5", "'MIG-1' is no UUID of a GPU"),
        ("arm --gpu zz:00:00 --xid 79 --seconds 5", "no GPU with pciAddress zz:00:00"),
        ("disarm nobody", "no fault nobody is armed"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_changes_nothing(
    host: Host, words: str, said: str
) -> None:
    code, _, error = host(*words.split())
    assert code == 1
    assert said in error
    assert host.lab.page.generation == 0


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        ("--xid", "abc", "a whole number from 1 to 1000, not 'abc'"),
        ("--after-calls", "4294967296", "from 0 to 4294967295, not '4294967296'"),
        ("--pod-uid", "", "no UID of a pod"),
        ("--pod-uid", "mine", "'mine' is no UID of a pod"),
        ("--classes", "SX", "not 'X'"),
        ("--classes", "P", "class P pass always"),
        ("--classes", "", "it is empty"),
        ("--id", "x" * 64, "at most 63 bytes"),
    ],
)
def test_a_word_that_means_nothing_is_refused_with_what_it_may_be(
    host: Host, word: str, value: str, said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        host("arm", "--gpu", "0", "--xid", "79", "--seconds", "5", word, value)
    assert stopped.value.code == 2
    error = host.capsys.readouterr().err
    assert f"argument {word}: " in error
    assert said in error
    assert host.lab.page.generation == 0


def test_the_page_keeps_its_file_whatever_the_tool_does(host: Host) -> None:
    before = host.lab.page_path.stat()
    host("arm", "--gpu", "0", "--xid", "79", "--seconds", "60")
    host("status")
    host("disarm", "--all")
    after = host.lab.page_path.stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)
    assert host.lab.page.entries() == []


def test_two_writers_do_not_lose_each_others_faults(host: Host) -> None:
    command = [sys.executable, "-m", "faultline_service.shimctl", *host.where]
    command += ["arm", "--gpu", "0", "--xid", "79", "--seconds", "60"]
    environment = os.environ | {"PYTHONPATH": str(Path(shimctl.__file__).parents[1])}
    running = [
        subprocess.Popen([*command, "--id", f"f{i}"], env=environment, stdout=subprocess.DEVNULL)
        for i in range(4)
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    assert {e.fault_id for e in host.lab.page.entries()} == {"f0", "f1", "f2", "f3"}


def selftest(lab: Lab, **changes: str) -> subprocess.CompletedProcess[str]:
    return lab.run(str(lab.machine.library.with_name("selftest")), **changes)


def test_the_selftest_finds_everything_in_place(every_lab: Lab) -> None:
    done = selftest(every_lab)
    assert done.returncode == 0, done.stdout
    assert f"{every_lab.machine.library} is the shim" in done.stdout
    assert f"inode {every_lab.page.inode}" in done.stdout
    assert "inert" in done.stdout


def test_the_selftest_tells_what_is_armed_and_for_whom(every_lab: Lab) -> None:
    theirs = every_lab.entry(fault_id="theirs", pod_uid=POD)
    every_lab.page.write([every_lab.entry(fault_id="ours"), theirs])
    said = selftest(every_lab).stdout
    assert "fault ours, XID 79, GPU 11111111-2222-3333-4444-555555555555, may mean this" in said
    assert "fault theirs, XID 79, GPU 11111111-2222-3333-4444-555555555555, means others" in said
    mine = selftest(every_lab, POD_UID=POD).stdout
    assert "fault theirs" in mine
    assert "means others" not in mine


def test_the_selftest_tells_what_processes_have_seen(
    lab: Lab, session: Callable[..., Session]
) -> None:
    one = session()
    lab.arm()
    one("sync")
    (line,) = [x for x in selftest(lab).stdout.splitlines() if f"process {one.process.pid} " in x]
    assert f"page inode {lab.page.inode}" in line
    assert "hits 1, stays failed with 719" in line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LD_PRELOAD": ""}, "LD_PRELOAD does not name libfaultline.so"),
        ({"LD_PRELOAD": "/nowhere/libfaultline.so"}, "is not there or no library"),
        ({"FAULTLINE_CONTROL": "/nowhere/page"}, "is not there or may not be read"),
        ({"FAULTLINE_CONTROL": str(LIBRARY)}, "is no control page"),
        ({"FAULTLINE": "off"}, "every call passes"),
    ],
)
def test_the_selftest_fails_when_something_is_missing(
    lab: Lab, changes: dict[str, str], said: str
) -> None:
    done = selftest(lab, **changes)
    assert done.returncode == 1
    assert said in done.stdout


def test_the_selftest_names_other_preloads_and_a_shim_of_another_machine(lab: Lab) -> None:
    said = selftest(lab, LD_PRELOAD=f"/usr/lib/libother.so:{LIBRARY}").stdout
    assert "preloaded too: /usr/lib/libother.so" in said
    foreign = LIBRARY.parent / "aarch64/libfaultline.so"
    if shutil.which("aarch64-linux-gnu-gcc"):
        assert "no library for this machine" in selftest(lab, LD_PRELOAD=str(foreign)).stdout


def install(machine: Machine, prefix: Path) -> None:
    command = ["make", "-s", "-C", str(LIBRARY.parents[1]), f"CC={machine.compiler}"]
    build = f"BUILD={machine.library.parent}"
    subprocess.run([*command, build, "install", f"PREFIX={prefix}"], check=True)


def test_the_tool_runs_the_selftest_of_the_newest_build(host: Host, tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    assert host("--shims", str(shims), "selftest")[0] == 1
    install(host.lab.machine, shims)
    assert host("--shims", str(shims), "selftest")[0] == 0


def test_an_installed_build_is_complete(architecture: Machine, tmp_path: Path) -> None:
    install(architecture, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert {f.name for f in folder.iterdir()} == {"libfaultline.so", "selftest"}
