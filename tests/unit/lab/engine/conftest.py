# SPDX-License-Identifier: Apache-2.0
"""The driver stand-in as built from the tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from driver_machine import GPUS, TREE, Machine

from lab.gpu import node_files


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the built driver stand-in."""
    folder = tmp_path_factory.mktemp("driver")
    subprocess.run(["make", "-s", "-C", str(TREE / "lab/driver"), f"BUILD={folder}"], check=True)
    return folder


@pytest.fixture
def machine(built: Path, tmp_path: Path) -> Machine:
    """A machine with two GPUs."""
    (tmp_path / "gpus.tsv").write_text(node_files.table(GPUS))
    return Machine(built, tmp_path / "gpus.tsv")
