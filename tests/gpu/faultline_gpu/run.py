# SPDX-License-Identifier: Apache-2.0
"""Runs every part with a limit of its own and writes what became of each.

Usage: run OUT_DIR [PART…]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import machine, results
from .signatures import TREE

# Part, seconds it may take. Their sum stays below nine minutes.
PARTS = {
    "golden": 80,
    "times": 140,
    "inert": 65,
    "armed": 80,
    "missed": 40,
    "toggle": 75,
    "modes": 40,
    "engine_step": 15,
}
SPARE_S = 4  # a part that gets its limit as an argument has this much to end by itself


def build() -> str | None:
    """Build the shim; what went wrong, None when it is built."""
    done = subprocess.run(
        ["make", "-C", str(TREE / "shim")], capture_output=True, text=True, check=False
    )
    return done.stderr[-2000:] if done.returncode else None


def command(part: str, out: Path, limit: int) -> list[str]:
    """How a part is started."""
    if part == "engine_step":
        return [sys.executable, str(TREE / "tests/gpu/engine_step.py")]
    return [sys.executable, "-m", f"faultline_gpu.{part}", str(out), str(limit - SPARE_S)]


def run(part: str, out: Path, limit: int) -> dict[str, Any]:
    """Run a part; its status, seconds and the end of what it said. It is killed at its limit."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command(part, out, limit),
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        errors="replace",
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    return {
        "status": process.returncode,
        "seconds": round(time.monotonic() - begun, 1),
        "limit": limit,
        "file": out.name if out.exists() else None,
        "said": said[-3000:],
    }


def warm() -> list[subprocess.Popen[bytes]]:
    """Have the big libraries read from disk while nothing is timed; no GPU is touched."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", f"import {name}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("torch, transformers", "cupy", "jax")
    ]


def main() -> None:
    """Facts, build, parts; machine.json is written again after each."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[2:] or list(PARTS)
    table: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "build_error": build(),
        "parts": {},
    }
    readers = warm()
    table["machine"] = machine.facts()
    out = folder / "machine.json"
    results.write(out, table)
    for part in wanted:
        table["parts"][part] = run(part, folder / f"{part}.json", PARTS[part])
        table["kernel_lines"] = machine.kernel_lines()[-400:]
        results.write(out, table)
        print(
            part, table["parts"][part]["status"], table["parts"][part]["seconds"], "s", flush=True
        )
        print(table["parts"][part]["said"][-900:], flush=True)
    for reader in readers:
        reader.kill()
    results.write(out, table)
    for draft in folder.glob(".*.new"):  # of a part that was killed while it wrote
        draft.unlink()


if __name__ == "__main__":
    main()
