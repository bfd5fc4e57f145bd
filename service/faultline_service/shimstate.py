# SPDX-License-Identifier: Apache-2.0
"""Reads the shim's evidence object out of another process."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from .clock import from_boottime, stamp
from .layout import constants, fields, number, text
from .page import CLASSES

LIBRARY = "libfaultline.so"
SYMBOL = b"faultline_state"
SHT_DYNSYM = 11


def symbol_offset(image: bytes, name: bytes = SYMBOL) -> int | None:
    """Where a dynamic symbol of a 64-bit little-endian ELF image lies, relative to its base."""
    if image[:6] != b"\x7fELF\x02\x01":
        return None
    table, size, count = *struct.unpack_from("<Q", image, 40), *struct.unpack_from("<HH", image, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, table + i * size) for i in range(count)]
    for _, kind, _, _, offset, length, link, _, _, entry in headers:
        if kind != SHT_DYNSYM:
            continue
        names = headers[link][4]
        for at in range(offset, offset + length, entry):
            name_at, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, at)
            start = names + name_at
            if image[start : start + len(name) + 1] == name + b"\0":
                return int(value)
    return None


@lru_cache(maxsize=64)
def _offset_of(_device: int, _inode: int, path: str) -> int | None:
    return symbol_offset(Path(path).read_bytes())


def address(process: Path) -> int | None:
    """Address of the evidence object in a process (`/proc/<pid>`), None when it has no shim.

    Raises OSError when the process is gone or may not be looked at.
    """
    for line in (process / "maps").read_text(errors="replace").splitlines():
        if LIBRARY not in line:
            continue
        span, _, offset, _, _, path = line.split(maxsplit=5)
        if int(offset, 16) or os.path.basename(path.removesuffix(" (deleted)")) != LIBRARY:
            continue
        file = f"{process}/root{path}"
        if path.endswith(" (deleted)"):
            file = f"{process}/map_files/{span}"
        facts = os.stat(file)
        value = _offset_of(facts.st_dev, facts.st_ino, file)
        return None if value is None else int(span.split("-")[0], 16) + value
    return None


def read(memory: int, where: int) -> bytes | None:
    """The object at an address of an opened `/proc/<pid>/mem`; None when it is none."""
    try:
        raw = os.pread(memory, constants()["STATE_SIZE"], where)
    except OSError:
        return None
    if len(raw) != constants()["STATE_SIZE"]:
        return None
    return raw if number(raw, "state", "magic") == constants()["STATE_MAGIC"] else None


def evidence(raw: bytes | None) -> dict[str, Any]:
    """The object as it stands in status.processes[].shim of GPUHost, without times."""
    if raw is None:
        return {"mapped": False}
    classes = raw[fields("state")["hits_by_class"]]
    counts = struct.unpack(f"<{constants()['CLASSES']}Q", classes)
    found: dict[str, Any] = {
        "mapped": True,
        "buildId": text(raw, "state", "build_id"),
        "pageMapped": bool(number(raw, "state", "page_mapped")),
        "generation": number(raw, "state", "generation"),
        "hits": number(raw, "state", "hits"),
        "hitsByClass": {name: n for name, n in zip(CLASSES, counts, strict=True) if n},
        "missed": number(raw, "state", "missed"),
        "latchedCode": number(raw, "state", "latched_code"),
    }
    if found["hits"]:
        found["firstHitFunction"] = text(raw, "state", "first_function")
        found["faultId"] = text(raw, "state", "fault_id")
    return found


def first_hit(raw: bytes | None) -> str | None:
    """Wall-clock time of the first hit, None when there was none."""
    moment = number(raw, "state", "first_hit") if raw else 0
    return stamp(from_boottime(moment)) if moment else None
