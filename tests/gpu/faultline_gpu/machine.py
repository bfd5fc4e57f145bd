# SPDX-License-Identifier: Apache-2.0
"""Facts about the machine: GPU, driver, libraries, and names of theirs that the list lacks."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from .signatures import SYMBOLS, TREE

PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "jax",
    "jaxlib",
    "numpy",
    "nvidia-nccl-cu13",
    "nvidia-cublas",
    "nvidia-cudnn-cu13",
    "nvidia-cuda-cupti",
    "nvidia-cuda-runtime",
)
FOLDERS = (
    Path(sys.prefix) / "lib",
    Path("/usr/local/cuda/lib64"),
    Path("/usr/local/cuda/targets/x86_64-linux/lib"),
    Path("/usr/local/cuda/extras/CUPTI/lib64"),
)


@cache
def library(*names: str) -> str:
    """Path of the first of these shared libraries, PyTorch's own copies first.

    Raises FileNotFoundError when there is none.
    """
    site = sorted(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/*/lib"))
    site += sorted(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/*/lib64"))
    for name in names:
        for folder in (*site, *FOLDERS):
            if (folder / name).exists():
                return str(folder / name)
    raise FileNotFoundError(f"none of {', '.join(names)} beside {sys.prefix} or in /usr/local/cuda")


def said(*command: str, seconds: float = 20) -> str:
    """What a command prints, or why it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({error})"
    return (done.stdout or done.stderr).strip()


def versions() -> dict[str, str]:
    """Versions of the packages that the workloads use, without importing them."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def driver_version() -> int | None:
    """CUDA version that the driver supports, 13000 for 13.0."""
    number = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except OSError:
        return None
    return number.value


def exports(name: str, prefix: str) -> dict[str, Any]:
    """Names a driver library exports, and those that the shim's list lacks."""
    path = re.search(rf"{re.escape(name)} \(libc6,x86-64\) => (\S+)", said("ldconfig", "-p"))
    if not path:
        return {"library": None}
    lines = said("nm", "-D", "--defined-only", path[1]).splitlines()
    names = {line.split()[-1].split("@")[0] for line in lines}
    names = {name for name in names if re.match(rf"{prefix}[A-Z]", name)}
    listed = {line.split()[0] for line in SYMBOLS.read_text().splitlines() if line[0] != "#"}
    return {
        "library": os.path.realpath(path[1]),
        "exported": len(names),
        "unlisted": sorted(names - listed),
    }


def gpus() -> list[dict[str, str]]:
    """GPUs as nvidia-smi lists them."""
    fields = "name,uuid,pci.bus_id,driver_version,memory.total,mig.mode.current,persistence_mode"
    text = said("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")
    rows = [line.split(", ") for line in text.splitlines()]
    return [
        dict(zip(fields.split(","), row, strict=True))
        for row in rows
        if len(row) == len(fields.split(","))
    ]


def kernel_lines() -> list[str]:
    """Lines of the kernel log that the GPU driver wrote about XIDs."""
    return [line for line in said("dmesg").splitlines() if "NVRM: Xid" in line]


def facts() -> dict[str, Any]:
    """All of it."""
    headers = Path(f"/usr/include/python{sys.version_info[0]}.{sys.version_info[1]}/Python.h")
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "gpus": gpus(),
        "driver_cuda": driver_version(),
        "toolkit": said("nvcc", "--version").splitlines()[-1:],
        "compiler": said("gcc", "--version").splitlines()[:1],
        "kernel": platform.release(),
        "libc": "-".join(platform.libc_ver()),
        "cpu": model[1] if model else "",
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "python_headers": headers.exists(),
        "packages": versions(),
        "shim_build": said(
            "make", "-s", "--no-print-directory", "-C", str(TREE / "shim"), "print-build-id"
        ),
        "commit": said("git", "-C", str(TREE), "rev-parse", "HEAD"),
        "exports": {
            "cuda": exports("libcuda.so.1", "cu"),
            "nvml": exports("libnvidia-ml.so.1", "nvml"),
        },
        "tools": {name: bool(shutil.which(name)) for name in ("nvcc", "cuda-gdb", "gdb", "perf")},
        "uprobes": Path("/sys/kernel/tracing/uprobe_events").exists()
        or Path("/sys/bus/event_source/devices/uprobe").exists(),
        "preload_before": os.environ.get("LD_PRELOAD", ""),
    }
