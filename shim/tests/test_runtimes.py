# SPDX-License-Identifier: Apache-2.0
"""The real libcudart of CUDA 12 and 13, shared and linked in, on the driver's stand-in.

The stand-in has none of the driver's export tables, so libcudart ends its start with an error once
it has asked for all its functions. How it fails later, in a running process, is seen on a GPU.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import NATIVE, PROGRAMS, TREE, Lab, Machine, Session

WANTED = Path(__file__).with_name("cuda_runtimes.txt")
KEPT = TREE / "shim/build/runtimes"
# The empty name is libcudart's own probe; the others are not in data/cuda_symbols.txt.
UNKNOWN = {"", "cuSubgridCreate", "cuSubgridWorkerGridCreate", "cuSubgridWorksetCreate"}
# Functions that one start asks for, as 12.9.79 and 13.5.37 do it.
REQUESTS = {
    "12": {"native": 420, "aarch64": 421},
    "13": {"native": 483, "aarch64": 484},
}
NAMES = {46: "cudaErrorDevicesUnavailable", 999: "cudaErrorUnknown"}


@cache
def runtimes(architecture: str) -> Path:
    """The wheels' contents for an architecture, fetched once for each state of the list."""
    state = hashlib.sha256(WANTED.read_bytes()).hexdigest()[:16]
    folder = KEPT / f"{state}-{architecture}"
    if folder.exists():
        return folder
    fresh = folder.with_name(f"{folder.name}.new")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", str(fresh)]
    where = f"--platform=manylinux2014_{architecture}"
    command = [sys.executable, "-m", "pip", "download", "-q", *options, where, "-r", str(WANTED)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"PyPI did not give the wheels of {WANTED.name}: {done.stderr.strip()}")
    for wheel in fresh.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(fresh)
        wheel.unlink()
    return fresh.rename(folder)


@pytest.fixture
def runtime_lab(architecture: Machine, tmp_path: Path) -> Lab:
    """A fresh control page on each machine that libcudart is made for."""
    return Lab(tmp_path, architecture)


@pytest.fixture(params=["12", "13"])
def version(request: pytest.FixtureRequest) -> str:
    """Major version of CUDA."""
    return str(request.param)


@pytest.fixture(params=["shared", "static"])
def runtime(
    request: pytest.FixtureRequest, runtime_lab: Lab, version: str, compiled: Callable[..., str]
) -> Iterator[Callable[..., Session]]:
    """A function that starts a program with that libcudart and reads what it says first."""
    machine = runtime_lab.machine
    kind = platform.machine() if machine is NATIVE else machine.name
    library = next(runtimes(kind).rglob(f"libcudart.so.{version}"))
    linked = {
        "shared": (str(library), f"-Wl,-rpath,{library.parent}", "-ldl"),
        "static": (str(library.with_name("libcudart_static.a")), "-ldl", "-lrt", "-lpthread"),
    }[request.param]
    name = f"runtime-{version}-{request.param}"
    flags = ("-rdynamic", *linked)
    program = compiled(name, PROGRAMS / "runtime.c", *flags, compiler=machine.compiler)
    driver = {"FAULTLINE_LAB_CUDA_VERSION": f"{version}090", "CUDA_VISIBLE_DEVICES": "0"}
    started: list[Session] = []

    def begin(**changes: str) -> Session:
        started.append(Session(runtime_lab, program, **driver, **changes))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_every_function_that_libcudart_gets_lies_in_the_shim(
    runtime_lab: Lab, runtime: Callable[..., Session], version: str
) -> None:
    said: dict[str, Any] = runtime().codes
    assert said["asked"] == REQUESTS[version][runtime_lab.machine.name]
    assert said["got"] == said["asked"] - len(said["unknown"])
    assert said["outside"] == []
    assert set(said["unknown"]) <= UNKNOWN


def test_without_the_shim_every_one_lies_outside(runtime: Callable[..., Session]) -> None:
    said = runtime(LD_PRELOAD="").codes
    assert len(said["outside"]) == said["got"]


def test_idle_libcudart_says_what_it_says_without_the_shim(
    runtime: Callable[..., Session],
) -> None:
    with_shim, without = runtime().codes, runtime(LD_PRELOAD="").codes
    assert with_shim | {"outside": []} == without | {"outside": []}


@pytest.mark.parametrize("code", NAMES)
def test_a_fault_at_the_start_comes_out_of_libcudart_and_stays_after_it_is_over(
    runtime_lab: Lab, runtime: Callable[..., Session], code: int
) -> None:
    runtime_lab.arm(code_new=code, at_init=True)
    one = runtime()
    first = (set(one.codes["codes"]), one.codes["name"])
    runtime_lab.page.write([])
    later = one("again")
    assert first == (set(later["codes"]), later["name"]) == ({code}, NAMES[code])
