# SPDX-License-Identifier: Apache-2.0
"""What the library is as a file: nothing in it that a loader or a process could lack.

A loader that cannot be had here is held to what it knows: glibc 2.17, which `manylinux2014` wheels
are made for, reads GNU hash tables, and no packed relative relocations (those came with 2.36).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import TREE, Machine, listed, output

# A page of the biggest kind that a kernel of the architecture may have.
BIGGEST_PAGE = {"native": 0x1000, "aarch64": 0x10000}
RELOCATIONS = {"RELATIVE", "GLOB_DAT", "JUMP_SLOT", "JUMP_SLO", "64", "ABS64"}


@pytest.fixture
def library(architecture: Machine) -> Path:
    """The library of each architecture."""
    return architecture.library


def test_it_needs_no_library_and_no_version_of_one(library: Path) -> None:
    assert "NEEDED" not in output("readelf", "-d", str(library))
    assert "No version information" in output("readelf", "-V", str(library))


def test_all_it_asks_of_the_process_is_optional(library: Path) -> None:
    lines = output("nm", "-D", "--undefined-only", str(library)).splitlines()
    assert {line.split()[0] for line in lines} == {"w"}
    assert {line.split()[1] for line in lines} <= {
        "dl_iterate_phdr",
        "dladdr",
        "dlerror",
        "dlopen",
        "dlvsym",
        "environ",
    }


def test_it_exports_the_list_and_dlsym_and_its_evidence_and_nothing_else(library: Path) -> None:
    lines = output("nm", "-D", "--defined-only", str(library)).splitlines()
    ours = {"dlsym", "faultline_state", "faultline_calls"}
    assert {line.split()[-1] for line in lines} == listed() | ours


def test_it_has_no_constructor_no_thread_local_storage_and_no_executable_stack(
    library: Path,
) -> None:
    dynamic = output("readelf", "-d", str(library))
    assert "INIT" not in dynamic
    assert "FINI" not in dynamic
    headers = output("readelf", "-lW", str(library))
    assert "TLS" not in headers
    assert "GNU_STACK" in headers
    assert "RWE" not in headers


def test_a_process_keeps_its_control_flow_protection(library: Path) -> None:
    notes = output("readelf", "-nW", str(library))
    wanted = "AArch64 feature: BTI" if "aarch64" in str(library) else "x86 feature: IBT, SHSTK"
    assert wanted in notes


def test_its_code_leaves_vector_registers_alone_but_to_save_arguments(library: Path) -> None:
    arm = "aarch64" in str(library)
    tool = "aarch64-linux-gnu-objdump" if arm else "objdump"
    code = output(tool, "-d", "--no-show-raw-insn", str(library))
    vector = re.compile(r"\b[vqds]\d+\b" if arm else r"%[xyz]mm")
    found, function = set(), ""
    for line in code.splitlines():
        if line.endswith(">:"):
            function = line.split("<")[1][:-2]
        elif ":\t" in line and vector.search(line.split("\t", 1)[1].split("//")[0]):
            found.add(function)
    assert found == ({"fl_slow", "fl_resolve"} if arm else {"save_vectors", "restore_vectors"})


def test_the_fast_path_is_a_load_a_compare_and_a_jump(library: Path) -> None:
    arm = "aarch64" in str(library)
    tool = "aarch64-linux-gnu-objdump" if arm else "objdump"
    code = output(tool, "-d", "--no-show-raw-insn", "--disassemble=cuLaunchKernel", str(library))
    words = [line.split("\t")[1].split()[0] for line in code.splitlines() if ":\t" in line]
    x86 = ["endbr64", "mov", "cmpl", "jne", "jmp"]
    a64 = ["bti", "adrp", "ldr", "ldr", "cbnz", "adrp", "ldr", "br"]
    assert words[: len(a64 if arm else x86)] == (a64 if arm else x86)


def test_what_its_loader_reads_is_of_the_kinds_that_an_old_one_knows(library: Path) -> None:
    dynamic = output("readelf", "-dW", str(library))
    assert "(GNU_HASH)" in dynamic
    assert "RELR" not in dynamic
    assert "UNIX - System V" in output("readelf", "-hW", str(library))


def test_its_relocations_are_of_the_kinds_that_an_old_loader_knows(library: Path) -> None:
    found = re.findall(r" R_(?:X86_64|AARCH64)_(\w+)", output("readelf", "-rW", str(library)))
    assert found
    assert set(found) <= RELOCATIONS


def test_its_segments_begin_at_pages_of_the_biggest_kind(library: Path) -> None:
    name = "aarch64" if "aarch64" in str(library) else "native"
    loads = re.findall(
        r"^  LOAD .* (0x[0-9a-f]+)$", output("readelf", "-lW", str(library)), re.MULTILINE
    )
    assert {int(align, 16) % BIGGEST_PAGE[name] for align in loads} == {0}


def test_the_trampolines_that_a_step_needs_stand_together(library: Path) -> None:
    lines = (TREE / "shim/gen/hot.txt").read_text().splitlines()
    hot = {line for line in lines if not line.startswith("#")}
    lines = output("nm", "-D", "--defined-only", str(library)).splitlines()
    symbols = [line.split() for line in lines]
    at = {name: int(address, 16) for address, _, name in symbols}
    trampolines = sorted(address for name, address in at.items() if name.startswith(("cu", "nvml")))
    places = sorted(at[name] for name in hot)
    assert places == trampolines[: len(hot)]
    assert places[-1] - places[0] < 4096
