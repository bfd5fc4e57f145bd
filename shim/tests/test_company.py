# SPDX-License-Identifier: Apache-2.0
"""What else lives in a process: other preloads, other rights, threads, children; pages that go."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DRIVER, LIBRARY, PROGRAMS, Lab, Session, lacking, listed
from faultline_service import shimstate
from faultline_service.processes import Processes

NOBODY = 65534
JEMALLOC = next(iter(sorted(Path("/usr/lib").glob("*/libjemalloc.so.2"))), None)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give rights away")


def evidence_of(pid: int) -> dict[str, Any]:
    """The evidence of a running process, as the agent shows it."""
    where = shimstate.address(Path(f"/proc/{pid}"))
    assert where is not None
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        return shimstate.evidence(shimstate.read(memory.fileno(), where))


FOLLOWED = ("environ", "stat", "cmdline", "maps", "mem", "root", "map_files")
LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).getpid()
print("ready", flush=True)
os.read(0, 1)
os.execv(sys.argv[1], [sys.argv[1], "0"])
"""


def test_the_agent_follows_a_process_into_the_program_that_it_becomes(
    lab: Lab, compiled: Callable[..., str], tmp_path: Path
) -> None:
    program = compiled("session", PROGRAMS / "session.c", "-pthread", "-ldl")
    process = lab.start(sys.executable, "-c", LAUNCHER, program)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    shown = tmp_path / "proc" / str(process.pid)
    shown.mkdir(parents=True)
    for name in FOLLOWED:
        (shown / name).symlink_to(f"/proc/{process.pid}/{name}")
    pod = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"
    (shown / "cgroup").write_text(f"0::/kubepods/pod{pod}/{'c' * 64}\n")
    agent = Processes(lambda *_: None, shown.parent)
    agent.scan()
    assert [p["shim"]["mapped"] for p in agent.as_status()] == [True], "the launcher has the shim"
    process.stdin.write("x")
    process.stdin.flush()
    assert process.stdout.readline() == "[0,0,0,0]\n"
    lab.arm()
    process.stdin.write("sync\n")
    process.stdin.flush()
    assert process.stdout.readline() == "719\n"
    agent.scan()
    assert [p["shim"]["hits"] for p in agent.as_status()] == [1]
    process.kill()
    process.communicate()


def maps(one: Session) -> str:
    return Path(f"/proc/{one.process.pid}/maps").read_text()


@pytest.mark.parametrize("first", [True, False], ids=["shim first", "jemalloc first"])
def test_another_allocator_may_be_preloaded_too(
    lab: Lab, session: Callable[..., Session], first: bool
) -> None:
    if not JEMALLOC:
        lacking("libjemalloc2 is not installed")
    both = [str(LIBRARY), str(JEMALLOC)]
    one = session(LD_PRELOAD=":".join(both if first else both[::-1]))
    assert one("sync") == 0
    assert str(JEMALLOC) in maps(one)
    lab.arm()
    assert (one("sync"), one("gpasync")) == (719, 719)
    assert one.end() == 0


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same library under another path: a second shim."""
    folder = tmp_path / "other"
    folder.mkdir()
    return Path(shutil.copy(LIBRARY, folder / "libfaultline.so"))


def test_two_shims_one_behind_the_other_work_as_one(
    every_lab: Lab, every_session: Callable[..., Session], tmp_path: Path
) -> None:
    other = shutil.copy(every_lab.machine.library, tmp_path / "libfaultline.so")
    one = every_session(LD_PRELOAD=f"{every_lab.machine.library}:{other}")
    alone = every_session()
    assert str(other) in maps(one)
    assert one("alloc")[0] == alone("alloc")[0] == 0
    assert [one(order) for order in ("sync", "gpasync", "nvml")] == [0, 0, 0]
    every_lab.arm()
    orders = ("sync", "gpasync", "nvml", "free")
    assert [one(order) for order in orders] == [alone(order) for order in orders]
    every_lab.page.write([])
    assert one("sync") == 719
    assert one.end() == 0


def test_behind_another_shim_every_function_still_has_its_own_place(
    session: Callable[..., Session], other: Path
) -> None:
    one = session(LD_PRELOAD=f"{LIBRARY}:{other}")
    names = [name for name in sorted(listed()) if name.startswith("cu")]
    assert {one(f"gpa {name}")[0] for name in names} == {0}
    seen = one.state()
    assert (seen["missed"], seen["pooled"]) == (0, 0)


def test_programs_linked_to_the_driver_work_behind_two_shims(
    lab: Lab, compiled: Callable[..., str], other: Path
) -> None:
    program = crowd(compiled)
    assert lab.run(program, LD_PRELOAD=f"{LIBRARY}:{other}").stdout == "0"


@pytest.fixture
def open_lab() -> Iterator[Lab]:
    """A lab in a folder that everybody may read."""
    with tempfile.TemporaryDirectory(prefix="faultline-") as name:
        Path(name).chmod(0o755)
        yield Lab(Path(name))


@needs_root
def test_a_program_that_gave_up_its_rights_is_left_alone(
    open_lab: Lab, compiled: Callable[..., str]
) -> None:
    program = compiled("rights", PROGRAMS / "rights.c", "-ldl")
    open_lab.arm(code_new=999)
    assert open_lab.run(program).stdout == "1 999"
    assert open_lab.run(program, "drop").stdout == "1 0"


@needs_root
def test_a_set_user_id_program_runs_as_without_the_shim(
    lab: Lab, compiled: Callable[..., str], tmp_path: Path
) -> None:
    program = shutil.copy(compiled("rights", PROGRAMS / "rights.c", "-ldl"), tmp_path / "suid")
    os.chown(program, NOBODY, NOBODY)
    Path(program).chmod(0o4755)
    lab.arm()
    with_shim, without = lab.run(str(program)), lab.run(str(program), LD_PRELOAD="")
    assert with_shim.stdout[:1] == "0", "the loader keeps the shim out"
    assert (with_shim.returncode, with_shim.stdout) == (without.returncode, without.stdout)


def crowd(compiled: Callable[..., str]) -> str:
    flags = ("-pthread", "-ldl", f"-L{DRIVER}", "-l:libcuda.so.1")
    return compiled("crowd", PROGRAMS / "crowd.c", *flags)


@pytest.mark.parametrize("code", [0, 719])
def test_threads_and_children_that_come_first_together_all_get_the_same(
    lab: Lab, compiled: Callable[..., str], code: int
) -> None:
    if code:
        lab.arm(code=code, code_new=0)
    done = lab.run(crowd(compiled), str(code))
    assert (done.stdout, done.returncode) == ("0", 0), done.stderr


def test_a_page_that_is_removed_while_mapped_still_counts(
    lab: Lab, session: Callable[..., Session]
) -> None:
    one = session()
    lab.page_path.unlink()
    assert one("sync") == 0
    lab.arm()
    assert one("sync") == 719


def test_a_page_that_takes_its_place_is_for_those_who_come_later(
    lab: Lab, session: Callable[..., Session]
) -> None:
    one = session()
    before = one.state()["page_inode"]
    lab.page_path.rename(lab.folder / "old")
    late = Lab(lab.folder)
    late.arm()
    assert one("sync") == 0
    assert session().codes[2] == 999
    assert one.state()["page_inode"] == before != late.page.inode


@pytest.mark.parametrize(
    ("deep", "codes"), [("0", [719, 719, 719]), ("1", [719, 0, 0])], ids=["plain", "deep"]
)
def test_a_library_loaded_with_rtld_deepbind_is_a_blind_spot_and_the_evidence_does_not_tell(
    lab: Lab, compiled: Callable[..., str], deep: str, codes: list[int]
) -> None:
    source, driver = PROGRAMS / "deepbind.c", (f"-L{DRIVER}", "-l:libcuda.so.1", "-ldl")
    library = compiled("libdeep.so", source, "-DLIBRARY", "-shared", "-fPIC", *driver)
    process = lab.start(compiled("deepbind", source, *driver), library, deep)
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == "[]\n"
    lab.arm()
    process.stdin.write("\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == codes
    seen = evidence_of(process.pid)
    process.communicate("\n", timeout=60)
    assert seen["hits"] == codes.count(719)
    assert seen["missed"] == 0
    assert "otherPreloads" not in seen
