# SPDX-License-Identifier: Apache-2.0
"""A fuzzer that learns from coverage, at the code that reads what others write: page and names."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DRIVER, PROGRAMS, SETTINGS, TREE, Lab, fixed_addresses, hosted, lacking, listed
from faultline_service.page import MODES

SECONDS = float(os.environ.get("FUZZ_SECONDS", "6"))
FINDINGS = TREE / "shim/build/fuzz"
CALLS = 8
FLAGS = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
TEXTS = ["cuInit", "cudnnCreate", "nvmlInit_v2", "cuMemAlloc", "curl_easy_init", "cuGetProcAddress"]
POD = "/pods/9d249f14-4b37-4b66-a3d1-6515ff5199fe/containers/x"


def fuzzer(folder: Path, name: str, without: tuple[str, ...] = ()) -> Path:
    """The program, with the shim's C code but for what it includes itself."""
    out = folder / name
    probe = ["clang", *FLAGS, "-x", "c", "-o", str(out), "-"]
    target = "int LLVMFuzzerTestOneInput(const char *d, long n) { return 0; }"
    try:
        subprocess.run(probe, input=target, text=True, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        lacking(f"clang has no libFuzzer here: {problem}")
    command = hosted("clang", PROGRAMS / f"{name}.c", out, FLAGS, without)
    subprocess.run(command, check=True, capture_output=True)
    return out


def page_seeds(lab: Lab) -> list[bytes]:
    """A page of each mode, behind calls of every class."""
    names = sorted(listed())
    wanted = ["cuMemAlloc_v2", "cuCtxSynchronize", "cuInit", "cuMemFree_v2", "cuCtxCreate_v2"]
    wanted += ["nvmlDeviceGetName", "nvmlDeviceGetHandleByIndex_v2", "cuDeviceGet"]
    assert len(wanted) == CALLS
    calls = b"".join(names.index(name).to_bytes(2, "little") + b"\0\0" for name in wanted)
    seeds = []
    for mode in MODES:
        lab.arm(mode=mode, at_init=True, delay_us=5, rank=1, after_calls=1, probability=0.5)
        seeds.append(b"\1\1" + calls + lab.page_path.read_bytes())
    return seeds


def name_seeds(_lab: Lab) -> list[bytes]:
    """Names of ours and of others, and UIDs."""
    return [b"\0" + text.encode() for text in [*TEXTS, POD, "GPU-" + POD[6:42]]]


@pytest.mark.parametrize(
    ("name", "without", "seeds", "longest"),
    [
        ("fuzz_page", ("page.c", "fault.c"), page_seeds, 2 + 4 * CALLS + 4096),
        ("fuzz_names", (), name_seeds, 200),
    ],
    ids=["the page", "names and texts"],
)
def test_nothing_is_found_wrong_with_the_code_that_reads(
    lab: Lab,
    tmp_path: Path,
    name: str,
    without: tuple[str, ...],
    seeds: Callable[[Lab], list[bytes]],
    longest: int,
) -> None:
    program = fuzzer(tmp_path, name, without)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(lab)):
        (corpus / f"seed-{number}").write_bytes(seed)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in SETTINGS}
    environment |= {k: v for k, v in lab.environment().items() if k not in SETTINGS}
    environment |= {"LD_LIBRARY_PATH": str(DRIVER), "ASAN_OPTIONS": "detect_leaks=0"}
    options = [f"-max_total_time={max(1, round(SECONDS / 2))}", f"-max_len={longest}"]
    options += ["-print_final_stats=1", "-timeout=10", f"-artifact_prefix={FINDINGS}/{name}-"]
    done = subprocess.run(
        [*fixed_addresses(), str(program), *options, str(corpus)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    runs = int(re.findall(r"stat::number_of_executed_units: (\d+)", done.stderr)[-1])
    edges = re.findall(r"cov: (\d+)", done.stderr)[-1]
    print(f"{name}: {runs} inputs, {edges} edges covered, nothing found")
    assert runs > 100 * SECONDS
