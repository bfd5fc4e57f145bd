# SPDX-License-Identifier: Apache-2.0
"""Two independent counts of this process's driver calls: the shim's trampolines, and CUPTI."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Any

from .signatures import TREE

SOURCES = TREE / "tests/gpu/src"
FUNCTIONS = 2048  # as in cupti_count.c


def build(folder: Path) -> Path:
    """Build a shim that counts into `folder`: the same objects, but for the trampolines.

    Raises CalledProcessError when something does not build, ValueError when the trampolines are not
    what count.awk knows.
    """
    make = ["make", "-s", "-C", str(TREE / "shim"), f"BUILD={folder}"]
    subprocess.run(make, check=True)
    plain, names = folder / "trampolines.S", folder / "counted.names"
    program = ["awk", "-v", f"names={names}", "-f", str(SOURCES / "count.awk"), str(plain)]
    counted = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    listed = (TREE / "data/cuda_symbols.txt").read_text().splitlines()
    wanted = {line.split()[0] for line in listed if not line.startswith("#")}
    found = set(names.read_text().split()) if names.exists() else set()
    if lacking := wanted - found:
        raise ValueError(
            f"count.awk found no trampoline of {len(lacking)} functions, "
            f"{min(lacking)} among them: gen.sh writes them in another way now"
        )
    plain.write_text(counted)
    subprocess.run(make, check=True)
    return folder / "libfaultline.so"


def shim(names: Path) -> dict[str, int]:
    """Calls through each trampoline of the counting shim so far."""
    known = names.read_text().split()
    values = (ctypes.c_uint64 * len(known)).in_dll(ctypes.CDLL(None), "fl_counts")
    return {name: value for name, value in zip(known, values, strict=True) if value}


def cupti(library: Path) -> dict[str, Any]:
    """Calls that CUPTI saw, by name of the driver's function, and whether it counted."""
    counter = ctypes.CDLL(str(library))
    state = ctypes.c_int.in_dll(counter, "cupti_state").value
    values = (ctypes.c_uint64 * FUNCTIONS).in_dll(counter, "cupti_counts")
    texts = (ctypes.c_char_p * FUNCTIONS).in_dll(counter, "cupti_names")
    calls: dict[str, int] = {}
    for name, value in zip(texts, values, strict=True):
        if value and name:
            calls[name.decode()] = calls.get(name.decode(), 0) + value
    return {"state": state, "calls": calls}


def snapshot() -> dict[str, Any]:
    """Both counts of this process, CUPTI's first: the shim's may only be ahead."""
    seen = cupti(Path(os.environ["CUDA_INJECTION64_PATH"]))
    return {"cupti": seen, "shim": shim(Path(os.environ["FAULTLINE_COUNTS"]))}


def addresses() -> dict[str, int]:
    """Address of each driver function of the list in the real library: equal ones are aliases."""
    from .signatures import classes

    library, found = ctypes.CDLL("libcuda.so.1"), {}
    for name in classes():
        function = getattr(library, name, None)
        if function is not None:
            found[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
    return found
