# SPDX-License-Identifier: Apache-2.0
"""Writer of the control page: the file that arms the shim in every process of a node.

The file is made once and never truncated or replaced: processes have it mapped.
"""

from __future__ import annotations

import mmap
import os
import struct
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .layout import constants, fields, number, text

STICKY = 1
CLASSES = "PSQITN"
NO_GPU = b"\0" * 16


@dataclass(frozen=True)
class Entry:
    """One armed fault: whom it hits, with what codes, until when.

    `gpu_uuid` is `GPU-…`; `classes` letters of `PSQITN`; codes are CUresult and nvmlReturn_t
    numbers, 0 for none; `not_after` nanoseconds of CLOCK_BOOTTIME, 0 for no end.
    """

    fault_id: str
    xid: int
    gpu_uuid: str
    code_live: int
    code_new: int
    code_nvml: int
    classes: str
    not_after: int


def uuid_bytes(gpu_uuid: str) -> bytes:
    """The 16 bytes of `GPU-xxxxxxxx-…`; raises ValueError when it is none."""
    return uuid.UUID(gpu_uuid.removeprefix("GPU-")).bytes


def pack(entry: Entry) -> bytes:
    """An entry as it stands in the page."""
    raw = bytearray(constants()["ENTRY_SIZE"])
    at = fields("entry")
    numbers = {
        "state": 1,
        "xid": entry.xid,
        "mode": STICKY,
        "class_mask": sum(1 << CLASSES.index(letter) for letter in set(entry.classes)),
        "code_live": entry.code_live,
        "code_new": entry.code_new,
        "code_nvml": entry.code_nvml,
        "not_after": entry.not_after,
    }
    for name, value in numbers.items():
        where = at[name]
        raw[where] = value.to_bytes(where.stop - where.start, "little")
    raw[at["uuid"]] = uuid_bytes(entry.gpu_uuid)
    name_bytes = entry.fault_id.encode()[: at["fault_id"].stop - at["fault_id"].start - 1]
    raw[at["fault_id"].start : at["fault_id"].start + len(name_bytes)] = name_bytes
    return bytes(raw)


def unpack(raw: memoryview | bytes) -> Entry | None:
    """An entry of the page, None of a free one."""
    if not number(raw, "entry", "state"):
        return None
    mask = number(raw, "entry", "class_mask")
    key = bytes(raw[fields("entry")["uuid"]])
    return Entry(
        fault_id=text(raw, "entry", "fault_id"),
        xid=number(raw, "entry", "xid"),
        gpu_uuid=f"GPU-{uuid.UUID(bytes=key)}",
        code_live=number(raw, "entry", "code_live"),
        code_new=number(raw, "entry", "code_new"),
        code_nvml=number(raw, "entry", "code_nvml"),
        classes="".join(letter for i, letter in enumerate(CLASSES) if mask >> i & 1),
        not_after=number(raw, "entry", "not_after"),
    )


class Page:
    """The control page of a node, mapped for writing. One writer at a time: the node's agent."""

    def __init__(self, path: Path) -> None:
        """Open the page, making it if there is none.

        Raises ValueError when the file is no control page: it is left alone then.
        """
        self.path, c = path, constants()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if not path.exists():
            self._create()
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(handle).st_size != c["PAGE_SIZE"]:
                raise ValueError(f"{path} is no control page: not {c['PAGE_SIZE']} bytes long")
            self.map = mmap.mmap(handle, c["PAGE_SIZE"], mmap.MAP_SHARED)
        finally:
            os.close(handle)
        if number(self.map, "page", "magic") != c["PAGE_MAGIC"]:
            raise ValueError(f"{path} is no control page: wrong magic")
        if number(self.map, "page", "version") != c["PAGE_VERSION"]:
            raise ValueError(f"{path} has another version than this agent's: stop what uses it")

    def _create(self) -> None:
        """Write a whole page under another name first, so that nobody maps half of one."""
        c, raw, at = constants(), bytearray(constants()["PAGE_SIZE"]), fields("page")
        for name, value in {
            "magic": c["PAGE_MAGIC"],
            "version": c["PAGE_VERSION"],
            "size": c["PAGE_SIZE"],
        }.items():
            raw[at[name]] = value.to_bytes(at[name].stop - at[name].start, "little")
        draft = self.path.with_name(f".{self.path.name}.new")
        draft.write_bytes(raw)
        draft.chmod(0o644)
        draft.replace(self.path)

    def entries(self) -> list[Entry]:
        """Armed entries, in the order of the page."""
        found = (unpack(self._raw(i)) for i in range(constants()["PAGE_ENTRIES"]))
        return [entry for entry in found if entry]

    @property
    def generation(self) -> int:
        """Number of times the page was written."""
        return number(self.map, "page", "generation")

    def write(self, entries: Iterable[Entry]) -> int:
        """Make `entries` the only armed ones and return the new generation.

        Raises ValueError when there are more than the page holds; it is unchanged then.
        """
        wanted: Sequence[Entry] = list(entries)
        c = constants()
        if len(wanted) > c["PAGE_ENTRIES"]:
            raise ValueError(f"a page holds {c['PAGE_ENTRIES']} faults, not {len(wanted)}")
        packed = [pack(entry) for entry in wanted]
        sequence = number(self.map, "page", "sequence") | 1
        if not wanted:
            self._put("armed", 0)
        self._put("sequence", sequence)
        for i in range(c["PAGE_ENTRIES"]):
            where = self._where(i)
            self.map[where] = packed[i] if i < len(packed) else b"\0" * c["ENTRY_SIZE"]
        generation = self.generation + 1 & 0xFFFFFFFF
        self._put("generation", generation)
        self._put("sequence", sequence + 1 & 0xFFFFFFFF)
        # Last: who sees the word set sees the entries behind it.
        self._put("armed", len(wanted))
        return generation

    def _where(self, index: int) -> slice:
        c = constants()
        start = c["PAGE_FIRST_ENTRY"] + index * c["ENTRY_SIZE"]
        return slice(start, start + c["ENTRY_SIZE"])

    def _raw(self, index: int) -> bytes:
        return bytes(self.map[self._where(index)])

    def _put(self, name: str, value: int) -> None:
        """Store a 32-bit field with one store instruction: readers look at any time."""
        struct.pack_into("<I", self.map, fields("page")[name].start, value)
