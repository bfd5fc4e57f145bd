# SPDX-License-Identifier: Apache-2.0
"""What a call is made of, as the driver finds it: registers of every kind and width, the stack."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import AARCH64, NATIVE, PROGRAMS, Lab, Machine, lacking

PASSED = [0, 0]
# What a fault of the calling GPU makes of each: fails, passes, or is called and then fails.
FAILED = {
    "cuDriverGetVersion": PASSED,
    "cuLaunchKernel": [719, 719],
    "cuStreamSynchronize": [719, 719],
    "cuDevicePrimaryCtxRetain": PASSED,
    "cuMemFree_v2": [719, 719],
    "cuFutureCall": [719, 719],
}
# Machine, and bytes of a vector register that a call uses; of those that it lacks, fewer.
USES = {
    "xmm": (NATIVE, 16),
    "ymm": (NATIVE, 32),
    "zmm": (NATIVE, 64),
    "aarch64 q": (AARCH64, 16),
}


@pytest.fixture(params=USES.values(), ids=USES)
def use(request: pytest.FixtureRequest) -> tuple[Machine, int]:
    """Machine and width."""
    found: tuple[Machine, int] = request.param
    return found


@pytest.fixture
def registers_lab(use: tuple[Machine, int], tmp_path: Path, compiled: Callable[..., str]) -> Lab:
    """A control page, and beside it the driver that puts registers down."""
    machine = use[0]
    if machine.missing():
        lacking(machine.missing())
    source = PROGRAMS / "registers_driver.c"
    flags = ("-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", assembly(machine))
    driver = compiled("registers-driver", source, *flags, compiler=machine.compiler)
    (tmp_path / "libcuda.so.1").symlink_to(driver)
    return Lab(tmp_path, machine)


def assembly(machine: Machine) -> str:
    kind = platform.machine() if machine is NATIVE else machine.name
    return str(PROGRAMS / f"registers_{kind}.S")


@pytest.fixture
def tried(
    use: tuple[Machine, int], registers_lab: Lab, compiled: Callable[..., str]
) -> Callable[..., dict]:
    """A function that runs the program and gives what it says by function."""
    machine, width = use
    driver = str(registers_lab.folder / "libcuda.so.1")
    flags = ("-DCALLER", "-Wl,-z,now", assembly(machine), driver, "-ldl")
    program = compiled("registers", PROGRAMS / "registers.c", *flags, compiler=machine.compiler)

    def run(**changes: str) -> dict:
        folder = str(registers_lab.folder)
        done = registers_lab.run(program, str(width), LD_LIBRARY_PATH=folder, **changes)
        assert done.returncode == 0, done
        said = json.loads(done.stdout)
        print("bytes of a vector register:", said.pop("width"))
        return dict(said)

    return run


@pytest.mark.parametrize("state", ["absent", "idle", "counting", "armed for another GPU"])
def test_a_call_that_passes_arrives_as_it_was_made(
    registers_lab: Lab, tried: Callable[..., dict], state: str
) -> None:
    if state.startswith("armed"):
        registers_lab.arm(gpu=1)
    changes = {"absent": {"LD_PRELOAD": ""}, "counting": {"FAULTLINE_COUNT": "1"}}
    said = tried(**changes.get(state, {}))
    assert said == {name: {"wrong": [], "codes": PASSED} for name in FAILED}


def test_a_call_that_fails_keeps_what_a_function_has_to_keep(
    registers_lab: Lab, tried: Callable[..., dict]
) -> None:
    registers_lab.arm()
    said = tried()
    assert said == {name: {"wrong": [], "codes": codes} for name, codes in FAILED.items()}
