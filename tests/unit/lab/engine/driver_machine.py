# SPDX-License-Identifier: Apache-2.0
"""The driver stand-in as built, and processes that find it in the place of a driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.gpu.identity import gpus

TREE = Path(__file__).resolve().parents[4]
GPUS = gpus("gpu-node-1", 2)
SELECTORS = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD")


class Machine:
    """A machine with the driver stand-in and two GPUs, as the device plugin leaves it."""

    def __init__(self, libraries: Path, table: Path) -> None:
        self.libraries = libraries
        self.table = table

    def environment(self, **changes: str) -> dict[str, str]:
        """Environment of a process; it sees both GPUs unless `changes` choose among them."""
        own = {
            "LD_LIBRARY_PATH": str(self.libraries),
            "FAULTLINE_LAB_GPUS": str(self.table),
            "PYTHONPATH": f"{TREE}:{Path(__file__).parent}",
        }
        return {k: v for k, v in os.environ.items() if k not in SELECTORS} | own | changes

    def run(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run Python to its end."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=TREE,
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ask(self, code: str, **changes: str) -> Any:
        """What Python code with the engine's `Gpu` and `CudaError` leaves in `answer`."""
        begin = "import ctypes, json\nfrom lab.engine.cuda import PTX, CudaError, Gpu\n"
        done = self.run("-c", f"{begin}{code}\nprint(json.dumps(answer))", **changes)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
