# SPDX-License-Identifier: Apache-2.0
"""The library's C code under sanitizers: spoiled pages, any texts, threads, an empty pool."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import PROGRAMS, SETTINGS, TREE, Lab, fixed_addresses, hosted, lacking

SHIM = TREE / "shim"
SANITIZERS = {
    "address, undefined": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-fsanitize=thread", "-Wno-tsan"),
    "coverage": ("--coverage", "-fprofile-update=atomic"),
}
POD = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"
SETTINGS_OF: dict[str, dict[str, str]] = {
    "plain": {},
    "targeted": {"POD_UID": POD, "RANK": "1", "FAULTLINE_COUNT": "1"},
}
SEED = os.environ.get("FAULTLINE_FUZZ_SEED", "1")
SECONDS = os.environ.get("FAULTLINE_FUZZ_SECONDS", "0")


def build(out: Path, name: str) -> Path:
    """Build the program with a sanitizer; a compiler may lack it."""
    flags = ("-O1", "-g", *SANITIZERS[name])
    empty = "int main(void) { return 0; }"
    probe = ["gcc", *flags, "-x", "c", "-o", str(out), "-"]
    if subprocess.run(probe, input=empty, text=True, capture_output=True, check=False).returncode:
        lacking(f"gcc has no {name} sanitizer here")
    command = hosted("gcc", PROGRAMS / "logic.c", out, flags)
    subprocess.run(command, check=True, cwd=out.parent)
    return out


def run(logic: Path, lab: Lab, settings: dict[str, str]) -> None:
    """Run it on a fresh page; it must find nothing wrong."""
    environment = {k: v for k, v in os.environ.items() if k not in SETTINGS} | settings
    environment |= {k: v for k, v in lab.environment().items() if k not in SETTINGS}
    environment |= {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}
    command = [*fixed_addresses(), str(logic), str(lab.page_path), SEED, SECONDS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module", params=["address, undefined", "thread"])
def logic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with each sanitizer."""
    return build(tmp_path_factory.mktemp("logic") / "logic", request.param)


@pytest.mark.parametrize("settings", SETTINGS_OF.values(), ids=SETTINGS_OF)
def test_no_page_and_no_text_makes_the_code_go_wrong(
    logic: Path, lab: Lab, settings: dict[str, str]
) -> None:
    run(logic, lab, settings)


def test_nine_lines_of_ten_of_the_code_are_run(tmp_path: Path) -> None:
    logic = build(tmp_path / "logic", "coverage")
    for name, settings in SETTINGS_OF.items():
        (tmp_path / name).mkdir()
        run(logic, Lab(tmp_path / name), settings)
    command = ["gcov", "--no-output", *map(str, tmp_path.glob("*.gcda"))]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    found = re.findall(r"src/(\w+\.c)'\nLines executed:([0-9.]+)% of (\d+)", said)
    assert {name for name, _, _ in found} == {f.name for f in (SHIM / "src").glob("*.c")}
    lines = sum(int(count) for _, _, count in found)
    covered = sum(float(share) * int(count) for _, share, count in found) / lines
    print(f"coverage of the C code: {covered:.1f} % of {lines} lines")
    assert covered >= 90, found
