# SPDX-License-Identifier: Apache-2.0
"""An old C library: glibc 2.31 of Debian 11, where libdl is a library of its own.

That is the oldest one that runs here. For those before it, down to glibc 2.17, which all wheels of
`manylinux2014` are made for, test_elf.py reads of the file what their loaders need to find.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import OLD, PROGRAMS, Lab, lacking

VERSION = """
#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    char line[512];
    int there = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof(line), maps))
        there |= strstr(line, "/libfaultline.so") != NULL;
    printf("%s %d", gnu_get_libc_version(), there);
}
"""
MODULES = "module FAULTLINE// INTERNAL plugin 1\nmodule INTERNAL FAULTLINE// plugin 1\n"


@pytest.fixture
def old_lab(tmp_path: Path) -> Lab:
    """A fresh control page for programs that run on the old C library."""
    if OLD.missing():
        lacking(OLD.missing())
    return Lab(tmp_path, OLD)


@pytest.fixture
def build(compiled: Callable[..., str]) -> Callable[..., str]:
    """A function that compiles for the old C library; it links libdl only where it is asked to."""

    def for_old(name: str, source: str | Path, *flags: str) -> str:
        return compiled(name, source, *flags, compiler=OLD.compiler)

    return for_old


def test_programs_of_the_old_c_library_run_with_the_shim(
    old_lab: Lab, build: Callable[..., str]
) -> None:
    assert old_lab.run(build("version", VERSION)).stdout == "2.31 1"


@pytest.mark.parametrize(("armed", "codes"), [(False, "0 0"), (True, "719 719")])
def test_a_process_without_libdl_is_reached(
    old_lab: Lab, build: Callable[..., str], armed: bool, codes: str
) -> None:
    flags = ("-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
    driver = build("plain-driver", PROGRAMS / "plain_driver.c", *flags)
    shutil.copy(driver, old_lab.folder / "libcuda.so.1")
    program = build("without-dl", PROGRAMS / "late_dl.c", str(old_lab.folder / "libcuda.so.1"))
    if armed:
        old_lab.arm()
    assert old_lab.run(program, LD_LIBRARY_PATH=str(old_lab.folder)).stdout == codes


@pytest.mark.parametrize(("armed", "code"), [(False, "0"), (True, "719")])
def test_a_process_that_gets_libdl_late_is_reached(
    old_lab: Lab, build: Callable[..., str], armed: bool, code: str
) -> None:
    source = PROGRAMS / "late_dl.c"
    plugin = build("plugin.so", source, "-DPLUGIN", "-shared", "-fPIC", "-ldl")
    shutil.copy(plugin, old_lab.folder / "plugin.so")
    (old_lab.folder / "gconv-modules").write_text(MODULES)
    if armed:
        old_lab.arm(code_new=0)
    done = old_lab.run(build("late", source, "-DLATE"), GCONV_PATH=str(old_lab.folder))
    assert done.stdout == code, done
