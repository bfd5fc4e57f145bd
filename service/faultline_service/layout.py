# SPDX-License-Identifier: Apache-2.0
"""The layout of the control page and of the evidence object, read from data/page_layout.def."""

from __future__ import annotations

import mmap
import os
import re
from functools import cache
from pathlib import Path

CONST = re.compile(r"^FL_CONST\((\w+), (\w+)\)", re.MULTILINE)
FIELD = re.compile(r"^FL_FIELD\((\w+), (\w+), (\d+), (\d+)\)", re.MULTILINE)


def data_folder() -> Path:
    """Folder of the data files: FAULTLINE_DATA, else `data` beside the service's source."""
    default = Path(__file__).resolve().parents[2] / "data"
    return Path(os.environ.get("FAULTLINE_DATA", default))


@cache
def constants() -> dict[str, int]:
    """Numbers of the layout by name."""
    text = (data_folder() / "page_layout.def").read_text()
    return {name: int(value, 0) for name, value in CONST.findall(text)}


@cache
def fields(structure: str) -> dict[str, slice]:
    """Where the fields of a structure are: name to slice of its bytes."""
    text = (data_folder() / "page_layout.def").read_text()
    return {
        name: slice(int(offset), int(offset) + int(size))
        for kind, name, offset, size in FIELD.findall(text)
        if kind == structure
    }


def number(view: bytes | bytearray | memoryview | mmap.mmap, structure: str, name: str) -> int:
    """Value of an integer field."""
    return int.from_bytes(view[fields(structure)[name]], "little")


def text(view: bytes | bytearray | memoryview, structure: str, name: str) -> str:
    """Value of a text field."""
    return bytes(view[fields(structure)[name]]).split(b"\0", 1)[0].decode(errors="replace")
