# SPDX-License-Identifier: Apache-2.0
"""Everything the shim's tests share: machines, control page, and processes that use the driver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "service"))

from faultline_service import shimstate  # noqa: E402
from faultline_service.page import Entry, Page  # noqa: E402

LIBRARY = TREE / "shim/build/libfaultline.so"
DRIVER = TREE / "lab/driver/build"
# Where old_userland.sh puts its compiler.
os.environ["PATH"] += f":{TREE / 'shim/build/old/bin'}"
PROGRAMS = Path(__file__).with_name("programs")
SETTINGS = ("LD_PRELOAD", "POD_UID", "RANK", "LOCAL_RANK", "FAULTLINE", "FAULTLINE_COUNT")
GPUS = [
    ("GPU-11111111-2222-3333-4444-555555555555", "0000:1a:00.0"),
    ("GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "0000:1b:00.0"),
]
MIG = "MIG-99999999-8888-7777-6666-555555555555"


def listed() -> set[str]:
    """Names of data/cuda_symbols.txt."""
    lines = (TREE / "data/cuda_symbols.txt").read_text().splitlines()
    return {line.split()[0] for line in lines if line and not line.startswith("#")}


@dataclass(frozen=True)
class Machine:
    """A way to build and run programs: compiler, emulator and the builds that go with it."""

    name: str
    compiler: str
    library: Path = LIBRARY
    driver: Path = DRIVER
    runner: tuple[str, ...] = ()

    @cache  # noqa: B019 - there are four of them
    def missing(self) -> str:
        """What this machine lacks to be used, empty when it is all there."""
        tools = [tool for tool in (self.compiler, *self.runner[:1]) if not shutil.which(tool)]
        if tools:
            return f"not installed: {', '.join(tools)}"
        command = [self.compiler, "-x", "c", "-o", os.devnull, "-"]
        program = "int main(void) { return 0; }"
        built = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
        return f"{self.compiler} has no C library" if built.returncode else ""


def output(*command: str) -> str:
    """What a command prints; it must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def lacking(what: str) -> None:
    """Skip a test for what is not installed here; where CI runs, all has to be, and it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@cache
def fixed_addresses() -> tuple[str, ...]:
    """What goes before a command so that it runs without random addresses, where that is allowed.

    Kernels that scatter a process over 32 bits (vm.mmap_rnd_bits, as Ubuntu 24.04's) now and then
    put something where the sanitizers of gcc 12 keep their shadow, and those end the program then
    (google/sanitizers, issues 1614 and 1716).
    """
    command = ("setarch", "-R")
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, check=False)
    except OSError:
        return ()
    return command if allowed.returncode == 0 else ()


def hosted(
    compiler: str, program: Path, out: Path, flags: Sequence[str], without: Sequence[str] = ()
) -> list[str]:
    """The command that builds a program which the shim's C code is part of, less some files.

    The real dlsym is found as on musl, by a walk through the loaded objects.
    """
    shim = TREE / "shim"
    names = ("-Ddlsym=fl_dlsym_entry", "-Ddlvsym=fl_no_dlvsym", "-DFL_HOSTED")
    folders = [f"-I{f}" for f in (shim / "include", shim / "src", TREE / "data", LIBRARY.parent)]
    sources = [f for f in sorted((shim / "src").glob("*.c")) if f.name not in without]
    libraries = [f"-L{DRIVER}", "-l:libcuda.so.1", "-l:libnvidia-ml.so.1", "-pthread", "-ldl"]
    return [
        *(compiler, "-std=gnu11", "-fno-strict-aliasing", "-Wall", *flags, *names, *folders),
        *('-DFAULTLINE_BUILD_ID="hosted"', "-o", str(out), str(program)),
        *(str(PROGRAMS / "hosted.c"), *map(str, sources), *libraries),
    ]


NATIVE = Machine("native", "gcc")
AARCH64 = Machine(
    "aarch64",
    "aarch64-linux-gnu-gcc",
    TREE / "shim/build/aarch64/libfaultline.so",
    DRIVER / "aarch64",
    ("qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"),
)
# One library serves every C library of an architecture.
ARCHITECTURES = [NATIVE, AARCH64]
OLD = Machine("glibc 2.31", "old-gcc", driver=DRIVER / "old")
MACHINES = [*ARCHITECTURES, OLD, Machine("musl", "musl-gcc", driver=DRIVER / "musl")]


class Lab:
    """A folder with a control page and a table of two GPUs, and processes that use them.

    The third device of the table is a MIG instance of the first.
    """

    def __init__(self, folder: Path, machine: Machine = NATIVE) -> None:
        self.folder, self.machine = folder, machine
        self.page_path = folder / "page"
        self.page = Page(self.page_path)
        rows = [f"{i}\t{u}\t{p}\tLab GPU" for i, (u, p) in enumerate(GPUS)]
        rows.append(f"0\t{MIG}\t{GPUS[0][1]}\tLab GPU MIG 1g\t{GPUS[0][0]}")
        (folder / "gpus.tsv").write_text("\n".join(rows) + "\n")

    def entry(self, gpu: int = 0, code: int = 719, **changes: Any) -> Entry:
        """A fault of one GPU."""
        values: dict[str, Any] = {
            "fault_id": "test-fault",
            "xid": 79,
            "gpu_uuid": GPUS[gpu][0],
            "code_live": code,
            "code_new": 999,
            "code_nvml": 15,
            "classes": "SQITN",
            "not_after": 0,
        }
        return Entry(**(values | changes))

    def arm(self, gpu: int = 0, code: int = 719, **changes: Any) -> int:
        """Arm the page with one fault."""
        return self.page.write([self.entry(gpu, code, **changes)])

    def environment(self, **changes: str) -> dict[str, str]:
        """Environment of a process with shim and driver stand-in."""
        base = {
            "LD_PRELOAD": str(self.machine.library),
            "LD_LIBRARY_PATH": str(self.machine.driver),
            "FAULTLINE_CONTROL": str(self.page_path),
            "FAULTLINE_LAB_GPUS": str(self.folder / "gpus.tsv"),
        }
        return {k: v for k, v in os.environ.items() if k not in SETTINGS} | base | changes

    def start(self, *command: str, **changes: str) -> subprocess.Popen[str]:
        """Start a process that talks over pipes."""
        return subprocess.Popen(
            (*self.machine.runner, *command),
            env=self.environment(**changes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a process to its end."""
        return subprocess.run(
            (*self.machine.runner, *command),
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


class Session:
    """A running process that uses one GPU."""

    def __init__(self, lab: Lab, program: str, gpu: int = 0, **changes: str) -> None:
        self.process = lab.start(program, str(gpu), **changes)
        self.codes = self.read()

    def read(self) -> Any:
        """The next answer."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        return json.loads(line)

    def send(self, order: str) -> None:
        """Give an order, and do not wait for its answer."""
        assert self.process.stdin
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def __call__(self, order: str) -> Any:
        self.send(order)
        return self.read()

    def state(self) -> dict[str, Any]:
        """The process's own evidence object, as the agent reads it."""
        return shimstate.facts(bytes.fromhex(self("state")))

    def end(self) -> int:
        """End of orders: the exit status."""
        self.process.communicate(timeout=60)
        return self.process.returncode


def _usable(machine: Machine) -> Machine:
    if machine.missing():
        lacking(machine.missing())
    return machine


@pytest.fixture(params=MACHINES, ids=lambda m: m.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    """Every machine that can be had here."""
    return _usable(request.param)


@pytest.fixture(params=ARCHITECTURES, ids=lambda m: m.name)
def architecture(request: pytest.FixtureRequest) -> Machine:
    """A machine for every build of the library."""
    return _usable(request.param)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A fresh control page."""
    return Lab(tmp_path)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that compiles C source into a program or library, once, and returns its path."""
    folder = tmp_path_factory.mktemp("compiled")

    def build(name: str, source: str | Path, *flags: str, compiler: str = "gcc") -> str:
        out = folder / compiler / name
        if not out.exists():
            out.parent.mkdir(exist_ok=True)
            file = source if isinstance(source, Path) else out.with_suffix(".c")
            if isinstance(source, str):
                file.write_text(source)
            command = [compiler, "-O1", "-g", "-w", "-o", str(out), str(file), *flags]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert not done.returncode, done.stderr
        return str(out)

    return build


@pytest.fixture
def session(lab: Lab, compiled: Callable[..., str]) -> Iterator[Callable[..., Session]]:
    """A function that starts a process with the shim on this machine."""
    yield from _sessions(lab, compiled)


@pytest.fixture
def every_lab(tmp_path: Path, machine: Machine) -> Lab:
    """A fresh control page, for programs of every machine in turn."""
    return Lab(tmp_path, machine)


@pytest.fixture
def every_session(every_lab: Lab, compiled: Callable[..., str]) -> Iterator[Callable[..., Session]]:
    """A function that starts a process with the shim, on every machine in turn."""
    yield from _sessions(every_lab, compiled)


def _sessions(lab: Lab, compiled: Callable[..., str]) -> Iterator[Callable[..., Session]]:
    flags = ("-pthread", "-ldl")
    program = compiled("session", PROGRAMS / "session.c", *flags, compiler=lab.machine.compiler)
    started: list[Session] = []

    def begin(gpu: int = 0, **changes: str) -> Session:
        started.append(Session(lab, program, gpu, **changes))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()
