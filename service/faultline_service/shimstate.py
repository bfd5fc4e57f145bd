# SPDX-License-Identifier: Apache-2.0
"""Reads the shim's evidence object out of another process."""

from __future__ import annotations

import os
import re
import stat
import struct
import uuid
from pathlib import Path
from typing import Any

from .clock import from_boottime, stamp
from .layout import constants, fields, number, text
from .page import CLASSES

LIBRARY = "libfaultline.so"
SYMBOL = b"faultline_state"
SHT_DYNSYM = 11
LARGEST = 8 << 20  # bytes of a library that may be the shim
MOST_KNOWN = 64
TEXTS = ("first_function", "last_function", "fault_id", "build_id", "preloads", "missed_name")

# What files have been looked at: device, inode, size and time of the last change to the result.
_known: dict[tuple[int, int, int, int], int | None] = {}


def symbol_offset(image: bytes, name: bytes = SYMBOL) -> int | None:
    """Where a dynamic symbol of a 64-bit little-endian ELF image lies, relative to its base.

    None when it has none, or is a broken image: any process may map any file.
    """
    if image[:6] != b"\x7fELF\x02\x01":
        return None
    try:
        return _search(image, name)
    except (struct.error, IndexError, ValueError, OverflowError):
        return None


def _search(image: bytes, name: bytes) -> int | None:
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


def _offset_of(path: str) -> int | None:
    """Where the evidence lies in a file that a process has mapped; None when it is not the shim.

    The file is the process's: what is behind its name may have become a pipe, or of any size.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
            return None
        key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if key not in _known:
            if len(_known) >= MOST_KNOWN:
                _known.clear()
            _known[key] = symbol_offset(file.read(LARGEST))
        return _known[key]


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
        value = _offset_of(file)
        return None if value is None else int(span.split("-")[0], 16) + value
    return None


def read(memory: int, where: int) -> bytes | None:
    """The object at an address of an opened `/proc/<pid>/mem`; None when it is none.

    One of version 1 is shorter: what it does not have reads as zero.
    """
    c = constants()
    try:
        raw = os.pread(memory, c["STATE_SIZE"], where)
    except OSError:
        return None
    if len(raw) < c["STATE_SIZE_1"] or number(raw, "state", "magic") != c["STATE_MAGIC"]:
        return None
    known = c["STATE_SIZE"] if number(raw, "state", "version") > 1 else c["STATE_SIZE_1"]
    return raw[:known].ljust(c["STATE_SIZE"], b"\0")


def facts(raw: bytes) -> dict[str, Any]:
    """Every field of the object by its name: numbers, texts, hits by class letter, pod UID."""
    found: dict[str, Any] = {name: number(raw, "state", name) for name in fields("state")}
    for name in TEXTS:
        found[name] = text(raw, "state", name)
    counts = struct.unpack(f"<{len(CLASSES)}Q", raw[fields("state")["hits_by_class"]])
    found["hits_by_class"] = {c: n for c, n in zip(CLASSES, counts) if n}
    pod = raw[fields("state")["pod_uid"]]
    found["pod_uid"] = str(uuid.UUID(bytes=pod)) if any(pod) else ""
    return found


def other_preloads(preloads: str) -> list[str]:
    """What else than the shim a value of LD_PRELOAD names."""
    return [p for p in re.split("[ :]+", preloads) if p and os.path.basename(p) != LIBRARY]


def evidence(raw: bytes | None) -> dict[str, Any]:
    """The object as it stands in status.processes[].shim of GPUHost, without times."""
    if raw is None:
        return {"mapped": False}
    seen = facts(raw)
    found: dict[str, Any] = {
        "mapped": True,
        "buildId": seen["build_id"],
        "pageMapped": bool(seen["page_mapped"]),
        "generation": seen["generation"],
        "hits": seen["hits"],
        "hitsByClass": seen["hits_by_class"],
        "missed": seen["missed"],
        "latchedCode": seen["latched_code"],
    }
    if seen["hits"]:
        found["firstHitFunction"] = seen["first_function"]
        found["lastHitFunction"] = seen["last_function"]
        found["faultId"] = seen["fault_id"]
    seldom = {
        "pageInode": seen["page_inode"],
        "pagesRefused": seen["pages_refused"],
        "missedFunction": seen["missed_name"],
        "blocked": seen["blocked"],
        "blockedCalls": seen["hung"],
        "delayedCalls": seen["delayed"],
        "genuineLaunched": seen["genuine_launched"],
        "genuineRefused": seen["genuine_refused"],
        "otherPreloads": other_preloads(seen["preloads"]),
    }
    return found | {name: value for name, value in seldom.items() if value}


def first_hit(raw: bytes | None) -> str | None:
    """Wall-clock time of the first hit, None when there was none."""
    return _moment(raw, "first_hit")


def last_hit(raw: bytes | None) -> str | None:
    """Wall-clock time of the last hit, None when there was none."""
    return _moment(raw, "last_hit")


def _moment(raw: bytes | None, name: str) -> str | None:
    moment = number(raw, "state", name) if raw else 0
    return stamp(from_boottime(moment)) if moment else None
