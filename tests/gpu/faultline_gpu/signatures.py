# SPDX-License-Identifier: Apache-2.0
"""The driver's functions: class of each, and types and names of its parameters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TREE = Path(__file__).resolve().parents[3]
SYMBOLS = TREE / "data/cuda_symbols.txt"
SIGNATURES = TREE / "tests/gpu/signatures.tsv"


@dataclass(frozen=True)
class Parameter:
    """One parameter as cuda.h declares it; `type` is `CUstream`, `const CUDA_MEMCPY3D*`, …"""

    type: str
    name: str

    @property
    def pointer(self) -> bool:
        """Whether it is declared as a pointer."""
        return self.type.endswith("*")

    @property
    def pointee(self) -> str:
        """What it points to, without const."""
        return self.type[:-1].removeprefix("const ")


@cache
def signatures() -> dict[str, tuple[Parameter, ...]]:
    """Parameters of each function, by exported name."""
    found = {}
    for line in SIGNATURES.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, *rest = line.split("\t")
        found[name] = tuple(Parameter(*one.rsplit(":", 1)) for one in rest)
    return found


@cache
def classes() -> dict[str, str]:
    """Class letter of each driver function, in the order of the list."""
    rows = [line.split() for line in SYMBOLS.read_text().splitlines() if not line.startswith("#")]
    return {name: letter for name, letter, _ in rows if name.startswith("cu")}


@cache
def digest() -> str:
    """Sixteen hex digits that stand for the driver functions of the list, their classes and what
    they set to zero."""
    lines = [line for line in SYMBOLS.read_text().splitlines() if line.startswith("cu")]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def base_name(name: str) -> str:
    """Name without the suffix of its per-thread twin."""
    return name.removesuffix("_ptsz").removesuffix("_ptds")
