# SPDX-License-Identifier: Apache-2.0
"""Waits that began before a fault came."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PROGRAMS, Lab, Session


@pytest.fixture
def waiter(every_lab: Lab, compiled: Callable) -> Iterator[Callable[[], Session]]:
    """A function that starts a process which waits for the GPU, twice."""
    cc = every_lab.machine.compiler
    flags = ("-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
    library = compiled("waiting.so", PROGRAMS / "waiting_driver.c", *flags, compiler=cc)
    folder = Path(library).parent / "waiting"
    folder.mkdir(exist_ok=True)
    shutil.copy(library, folder / "libcuda.so.1")
    bind = (f"-L{folder}", "-l:libcuda.so.1")
    program = compiled("waiter", PROGRAMS / "waiter.c", *bind, compiler=cc)
    started = []

    def begin() -> Session:
        process = every_lab.start(program, LD_LIBRARY_PATH=str(folder))
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


ALL_ONES = "GPU-" + "1" * 8 + "-1111-1111-1111-" + "1" * 12


@pytest.mark.parametrize("other_fault", [False, True], ids=["idle before", "armed before"])
def test_a_wait_that_began_before_the_fault_gets_its_code_when_it_wakes(
    every_lab: Lab, waiter: Callable, other_fault: bool
) -> None:
    if other_fault:
        every_lab.arm(1)
    process = waiter()
    assert process.stdout.readline() == "in\n"
    new = every_lab.entry(gpu_uuid=ALL_ONES, code=214)
    every_lab.page.write([*every_lab.page.entries(), new])
    process.stdin.write("x")
    process.stdin.flush()
    assert process.stdout.readline() == "214\n"
    assert process.stdout.readline() == "214\n", "the next wait does not reach the driver"


def test_a_wait_counts_once_however_long_it_is(every_lab: Lab, waiter: Callable) -> None:
    every_lab.arm(gpu_uuid=ALL_ONES, after_calls=1)
    process = waiter()
    assert process.stdout.readline() == "in\n"
    process.stdin.write("x")
    process.stdin.flush()
    assert process.stdout.readline() == "0\n", "the first call passes as a whole"
    assert process.stdout.readline() == "719\n"
