# SPDX-License-Identifier: Apache-2.0
"""What a driver and its tools leave on a node: /proc/driver/nvidia, libraries, metadata."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from ..files import draft_of, replace
from .identity import DRIVER, Gpu

# The node's own file system, seen from a pod that shares its process ids.
NODE = Path("/proc/1/root")
LIBRARIES = Path("/opt/faultline/lab/driver/build")
LAB = Path("var/lib/faultline-lab")
METADATA = Path("var/lib/nvsentinel/gpu_metadata.json")


def prepare(node: str, gpus: list[Gpu]) -> None:
    """Write everything; what is there already is replaced by the same."""
    proc = NODE / "proc/driver"
    if not os.access(proc, os.W_OK) or not _is_tmpfs():
        enter = ["nsenter", "--target=1", "--mount"]
        subprocess.run([*enter, "mount", "-t", "tmpfs", "tmpfs", "/proc/driver"], check=True)
    for gpu in gpus:
        folder = proc / "nvidia/gpus" / gpu.pci
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / "information", gpu.information())
    version = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER}  Release Build\n"
    replace(proc / "nvidia/version", version)
    folder = NODE / LAB / "gpus"
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / "gpus.tsv", table(gpus))
    driver = NODE / LAB / "driver"
    driver.mkdir(parents=True, exist_ok=True)
    for library in LIBRARIES.glob("*.so.1"):
        # By a rename: pods that run have the older file mapped.
        draft = draft_of(driver / library.name)
        shutil.copy(library, draft)
        draft.replace(driver / library.name)
    target = NODE / METADATA
    target.parent.mkdir(parents=True, exist_ok=True)
    replace(target, json.dumps(metadata(node, gpus), indent=1))


def _is_tmpfs() -> bool:
    lines = Path("/proc/1/mounts").read_text().splitlines()
    return any(line.split()[1:3] == ["/proc/driver", "tmpfs"] for line in lines)


def table(gpus: list[Gpu]) -> str:
    """What the driver stand-in reads: a line per GPU with minor number, UUID, address and name."""
    return "".join(f"{g.index}\t{g.uuid}\t{g.pci}\t{g.name}\n" for g in gpus)


def metadata(node: str, gpus: list[Gpu]) -> dict[str, object]:
    """The file with which NVSentinel's monitor finds the UUID of a PCI address."""
    return {
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(),
        "node_name": node,
        "driver_version": DRIVER,
        "gpus": [
            {
                "gpu_id": g.index,
                "uuid": g.uuid,
                "pci_address": g.pci,
                "serial_number": f"165042000000{g.index}",
                "device_name": g.name,
                "nvlinks": [],
            }
            for g in gpus
        ],
        "nvswitches": [],
    }
