# SPDX-License-Identifier: Apache-2.0
"""Makes the GPU measurements importable, and gives them the stand-in for the driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gpu"))

from gpu_stage import GPU, TREE


@pytest.fixture(scope="session")
def built() -> None:
    """Shim and driver stand-in, built."""
    for folder in ("shim", "lab/driver"):
        subprocess.run(["make", "-s", "-C", str(TREE / folder)], check=True)


@pytest.fixture
def lab(built: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Environment in which processes find the driver stand-in with one GPU; a folder for files."""
    table = tmp_path / "gpus.tsv"
    table.write_text(f"0\t{GPU}\t0000:1a:00.0\tLab GPU\n")
    monkeypatch.setenv("FAULTLINE_LAB_GPUS", str(table))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(TREE / "lab/driver/build"))
    path = f"{TREE / 'tests/gpu'}{os.pathsep}{TREE / 'service'}"
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    return tmp_path
