# SPDX-License-Identifier: Apache-2.0
"""The script for real GPUs, on the driver stand-in: it passes when the driver is right only."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from driver_machine import GPUS, TREE, Machine

SCRIPT = str(TREE / "tests/gpu/engine_step.py")
# Isolated from the environment and without installed packages, as on a bare GPU host.
BARE = ("-I", "-S")


def test_it_reports_the_gpu_and_the_time_of_a_step(machine: Machine) -> None:
    done = machine.run(*BARE, SCRIPT, NVIDIA_VISIBLE_DEVICES=GPUS[1].uuid)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["device"], result["uuid"]) == (GPUS[1].name, GPUS[1].uuid)
    assert result["driver_version"] == "570.148.08"
    assert result["steps"] == 1000
    assert result["seconds"] > 0
    assert result["microseconds_per_step"] == pytest.approx(result["seconds"] * 1000, rel=0.01)


def test_it_does_without_nvml(machine: Machine, tmp_path: Path) -> None:
    shutil.copy(machine.libraries / "libcuda.so.1", tmp_path)
    done = machine.run(*BARE, SCRIPT, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["driver_version"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, "CUDA error 100 (CUDA_ERROR_NO_DEVICE)"),
        ({"LD_LIBRARY_PATH": "/nowhere"}, "libcuda.so.1"),
    ],
)
def test_a_machine_without_gpu_or_driver_is_a_failure_with_a_sentence(
    machine: Machine, changes: dict[str, str], said: str
) -> None:
    done = machine.run(*BARE, SCRIPT, **changes)
    assert done.returncode == 1
    assert done.stderr.startswith("The GPU did not do 1000 steps: ")
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("change", "wrong"), [("(in[i] ^ key) + 1", 1000), ("in[i] ^ key ^ (in[i] == 0)", 1)]
)
def test_a_gpu_that_computes_wrongly_is_a_failure_even_for_one_token(
    machine: Machine, tmp_path: Path, change: str, wrong: int
) -> None:
    shutil.copytree(TREE / "lab/driver/src", tmp_path / "src")
    source = tmp_path / "src/cuda_run.c"
    right = source.read_text()
    assert "= in[i] ^ key;" in right
    source.write_text(right.replace("= in[i] ^ key;", f"= {change};"))
    shutil.copy(TREE / "lab/driver/Makefile", tmp_path)
    symbols = f"SYMBOLS={TREE}/data/cuda_symbols.txt"
    command = ["make", "-s", "-C", str(tmp_path), symbols, "build/libcuda.so.1"]
    subprocess.run(command, check=True)
    done = machine.run(*BARE, SCRIPT, LD_LIBRARY_PATH=str(tmp_path / "build"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{wrong} of 1000 tokens are wrong, the first: ")
    assert done.stdout == ""
