# SPDX-License-Identifier: Apache-2.0
"""Everything the shim's tests share: library, driver stand-in, control page, and a way to run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "service"))

from faultline_service.page import Entry, Page  # noqa: E402

LIBRARY = TREE / "shim/build/libfaultline.so"
DRIVER = TREE / "lab/driver/build"
GPUS = [
    ("GPU-11111111-2222-3333-4444-555555555555", "0000:1a:00.0"),
    ("GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "0000:1b:00.0"),
]


class Lab:
    """A folder with a control page and a table of two GPUs, and processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page_path = folder / "page"
        self.page = Page(self.page_path)
        rows = [f"{i}\t{u}\t{p}\tLab GPU" for i, (u, p) in enumerate(GPUS)]
        (folder / "gpus.tsv").write_text("\n".join(rows) + "\n")

    def arm(self, gpu: int = 0, code: int = 719, **changes: object) -> None:
        """Arm the page for one GPU."""
        values: dict[str, object] = {
            "fault_id": "test-fault",
            "xid": 79,
            "gpu_uuid": GPUS[gpu][0],
            "code_live": code,
            "code_new": 999,
            "code_nvml": 15,
            "classes": "SQITN",
            "not_after": 0,
        }
        self.page.write([Entry(**(values | changes))])  # type: ignore[arg-type]

    def environment(self, **changes: str) -> dict[str, str]:
        """Environment of a process with shim and driver stand-in."""
        base = {
            "LD_PRELOAD": str(LIBRARY),
            "LD_LIBRARY_PATH": str(DRIVER),
            "FAULTLINE_CONTROL": str(self.page_path),
            "FAULTLINE_LAB_GPUS": str(self.folder / "gpus.tsv"),
        }
        return {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"} | base | changes

    def start(self, *command: str, **changes: str) -> subprocess.Popen[str]:
        """Start a process that talks over pipes."""
        return subprocess.Popen(
            command,
            env=self.environment(**changes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a process to its end."""
        return subprocess.run(
            command,
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A fresh control page."""
    return Lab(tmp_path)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A function that compiles C source into a program or library and returns its path."""
    folder = tmp_path_factory.mktemp("compiled")

    def build(name: str, source: str, *flags: str) -> str:
        file, out = folder / f"{name}.c", folder / name
        file.write_text(source)
        command = ["gcc", "-O1", "-g", "-o", str(out), str(file), *flags]
        subprocess.run(command, check=True, capture_output=True)
        return str(out)

    return build
