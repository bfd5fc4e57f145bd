# SPDX-License-Identifier: Apache-2.0
"""Writer of the control page: the file that arms the shim in every process of a node.

The file is made once and never truncated or replaced: processes have it mapped. One exception: a
page of an older version, which the shims of this release do not read, is disarmed and makes way.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .layout import constants, fields, number, text

CLASSES = "PSQITN"
MODES = ("sticky", "once", "transient", "hang", "slow", "genuine")
NOBODY = b"\0" * 16
FUTEX_WAKE, EVERYBODY = 1, 0x7FFFFFFF
LIBC = ctypes.CDLL(None)
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}


@dataclass(frozen=True)
class Entry:
    """One armed fault: whom it hits, with what codes, how, and until when.

    `gpu_uuid` is `GPU-…` or `MIG-…`; codes are CUresult and nvmlReturn_t numbers, 0 for none;
    `classes` letters of `PSQITN`; times nanoseconds of CLOCK_BOOTTIME, 0 for none. Whatever of
    `pod_uid`, `pid` (in the PID namespace with inode `pid_namespace`) and `rank` is given must be
    true of a process. The first `after_calls` calls of each process pass; of the others each is hit
    with `probability`, by `seed` the same ones in every run. `delay_us` is what `slow` adds to a
    call and the longest that `hang` blocks one, 0 for as long as the fault lasts. `at_init`: new
    processes see `code_new` in cuInit already. `serial` tells one arming from the next.
    """

    fault_id: str
    xid: int
    gpu_uuid: str
    code_live: int
    code_new: int
    code_nvml: int
    classes: str
    not_after: int
    mode: str = "sticky"
    not_before: int = 0
    pod_uid: str = ""
    pid: int = 0
    pid_namespace: int = 0
    rank: int | None = None
    after_calls: int = 0
    probability: float = 1.0
    seed: int = 0
    delay_us: int = 0
    at_init: bool = False
    serial: int = field(default=0, compare=False)


def uuid_bytes(gpu_uuid: str) -> bytes:
    """The 16 bytes of `GPU-xxxxxxxx-…` or `MIG-…`; raises ValueError when it is none."""
    kind, _, digits = gpu_uuid.partition("-")
    if kind not in ("GPU", "MIG"):
        raise ValueError(f"{gpu_uuid!r} is no UUID of a GPU: it begins with GPU- or MIG-")
    return uuid.UUID(digits).bytes


def _chance(probability: float) -> int:
    """A probability in units of 2^-32, 0 for certainty; raises ValueError outside (0, 1]."""
    if not 0 < probability <= 1:
        raise ValueError(f"a probability is above 0 and at most 1, not {probability}")
    return 0 if probability == 1 else min(max(round(probability * 2**32), 1), 2**32 - 1)


def pack(entry: Entry) -> bytes:
    """An entry as it stands in the page; raises ValueError or OverflowError for what fits not."""
    raw = bytearray(constants()["ENTRY_SIZE"])
    at = fields("entry")
    if entry.mode not in MODES:
        raise ValueError(f"a mode is one of {', '.join(MODES)}, not {entry.mode!r}")
    numbers = {
        "state": 1,
        "xid": entry.xid,
        "mode": constants()[f"MODE_{entry.mode.upper()}"],
        "class_mask": sum(1 << CLASSES.index(letter) for letter in set(entry.classes)),
        "code_live": entry.code_live,
        "code_new": entry.code_new,
        "code_nvml": entry.code_nvml,
        "flags": constants()["AT_INIT"] if entry.at_init else 0,
        "not_after": entry.not_after,
        "not_before": entry.not_before,
        "pid_namespace": entry.pid_namespace,
        "pid": entry.pid,
        "rank": 0 if entry.rank is None else entry.rank + 1,
        "after_calls": entry.after_calls,
        "probability": _chance(entry.probability),
        "seed": entry.seed,
        "delay": entry.delay_us,
        "serial": entry.serial,
    }
    for name, value in numbers.items():
        where = at[name]
        raw[where] = value.to_bytes(where.stop - where.start, "little")
    raw[at["uuid"]] = uuid_bytes(entry.gpu_uuid)
    raw[at["pod_uid"]] = uuid.UUID(entry.pod_uid).bytes if entry.pod_uid else NOBODY
    name_bytes = entry.fault_id.encode()[: at["fault_id"].stop - at["fault_id"].start - 1]
    raw[at["fault_id"].start : at["fault_id"].start + len(name_bytes)] = name_bytes
    return bytes(raw)


def unpack(raw: memoryview | bytes) -> Entry | None:
    """An entry of the page, None of a free one."""
    n = {name: number(raw, "entry", name) for name in fields("entry")}
    if not n["state"]:
        return None
    key, pod = bytes(raw[fields("entry")["uuid"]]), bytes(raw[fields("entry")["pod_uid"]])
    names = {constants()[f"MODE_{mode.upper()}"]: mode for mode in MODES}
    return Entry(
        fault_id=text(raw, "entry", "fault_id"),
        xid=n["xid"],
        gpu_uuid=f"GPU-{uuid.UUID(bytes=key)}",
        code_live=n["code_live"],
        code_new=n["code_new"],
        code_nvml=n["code_nvml"],
        classes="".join(letter for i, letter in enumerate(CLASSES) if n["class_mask"] >> i & 1),
        not_after=n["not_after"],
        mode=names.get(n["mode"], "unknown"),
        not_before=n["not_before"],
        pod_uid=str(uuid.UUID(bytes=pod)) if pod != NOBODY else "",
        pid=n["pid"],
        pid_namespace=n["pid_namespace"],
        rank=n["rank"] - 1 if n["rank"] else None,
        after_calls=n["after_calls"],
        probability=n["probability"] / 2**32 if n["probability"] else 1.0,
        seed=n["seed"],
        delay_us=n["delay"],
        at_init=bool(n["flags"] & constants()["AT_INIT"]),
        serial=n["serial"],
    )


class Page:
    """The control page of a node, mapped for writing.

    Its writers, the node's agent and the host's tool, change it by edit(), one at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open the page, making it if there is none.

        Raises ValueError when the file is no control page or is of a newer version: it is left
        alone then.
        """
        self.path, c = path, constants()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if not path.exists():
            self._create()
        self.map = self._open()
        version = number(self.map, "page", "version")
        if version < c["PAGE_VERSION"]:
            # Who still has the old file mapped keeps it, disarmed, until it starts anew.
            self._put("armed", 0)
            self._create()
            self.map = self._open()
        elif version > c["PAGE_VERSION"]:
            raise ValueError(
                f"{path} is of version {version}, this writer knows {c['PAGE_VERSION']}: "
                "stop what uses it, or use the newer release"
            )

    def _open(self) -> mmap.mmap:
        size = constants()["PAGE_SIZE"]
        handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            facts = os.fstat(handle)
            if facts.st_size != size:
                raise ValueError(f"{self.path} is no control page: not {size} bytes long")
            # By it the evidence of a process says which file it has mapped.
            self.inode = facts.st_ino
            found = mmap.mmap(handle, size, mmap.MAP_SHARED)
        finally:
            os.close(handle)
        if number(found, "page", "magic") != constants()["PAGE_MAGIC"]:
            raise ValueError(f"{self.path} is no control page: wrong magic")
        return found

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
        return [entry for entry in self._places() if entry]

    def place_of(self, fault_id: str) -> int | None:
        """Number of the entry of a fault, None when it has none."""
        ids = [entry and entry.fault_id for entry in self._places()]
        return ids.index(fault_id) if fault_id in ids else None

    @property
    def generation(self) -> int:
        """Number of times the page was written."""
        return number(self.map, "page", "generation")

    def allow_genuine(self, allowed: bool) -> None:
        """Say whether entries of mode `genuine` may take effect."""
        self._put("flags", constants()["GENUINE_ALLOWED"] if allowed else 0)

    def edit(self, change: Callable[[list[Entry]], Iterable[Entry]]) -> int:
        """Arm what `change` makes of the armed entries, while no other writer can; as write()."""
        with self.path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self.write(change(self.entries()))

    def write(self, entries: Iterable[Entry]) -> int:
        """Make `entries` the only armed ones and return the new generation.

        An entry that is armed already keeps its place and its serial. Raises ValueError when there
        are more than the page holds; it is unchanged then.
        """
        wanted: Sequence[Entry] = list(entries)
        c = constants()
        if len(wanted) > c["PAGE_ENTRIES"]:
            raise ValueError(f"a page holds {c['PAGE_ENTRIES']} faults, not {len(wanted)}")
        generation = self.generation + 1 & 0xFFFFFFFF
        packed = self._arrange(wanted, generation)
        sequence = number(self.map, "page", "sequence") | 1
        if not wanted:
            self._put("armed", 0)
        self._put("sequence", sequence)
        for i, raw in enumerate(packed):
            if self._raw(i) != raw:
                self.map[self._where(i)] = raw
        self._put("generation", generation)
        self._put("sequence", sequence + 1 & 0xFFFFFFFF)
        # Last: who sees the word set sees the entries behind it.
        self._put("armed", len(wanted))
        self._wake()
        return generation

    def _arrange(self, wanted: Sequence[Entry], generation: int) -> list[bytes]:
        """Every place of the page as it shall be."""
        free = b"\0" * constants()["ENTRY_SIZE"]
        armed = [pack(e if e.serial else replace(e, serial=generation)) for e in wanted]
        now = [self._raw(i) for i in range(constants()["PAGE_ENTRIES"])]
        kept = [raw if raw in armed else free for raw in now]
        new = iter([raw for raw in armed if raw not in kept])
        return [raw if raw != free else next(new, free) for raw in kept]

    def _places(self) -> list[Entry | None]:
        return [unpack(self._raw(i)) for i in range(constants()["PAGE_ENTRIES"])]

    def _where(self, index: int) -> slice:
        c = constants()
        start = c["PAGE_FIRST_ENTRY"] + index * c["ENTRY_SIZE"]
        return slice(start, start + c["ENTRY_SIZE"])

    def _raw(self, index: int) -> bytes:
        return bytes(self.map[self._where(index)])

    def _put(self, name: str, value: int) -> None:
        """Store a 32-bit field in one piece and in order: readers look at any time.

        Native format: the portable ones are written byte by byte. A call that lets go of the
        interpreter's lock and takes it again is what Python has for a memory barrier.
        """
        LIBC.sched_yield()
        struct.pack_into("@I", self.map, fields("page")[name].start, value)
        LIBC.sched_yield()

    def _wake(self) -> None:
        """Wake every call that sleeps on the generation, in whatever process of the node."""
        word = ctypes.c_uint32.from_buffer(self.map, fields("page")["generation"].start)
        LIBC.syscall(
            ctypes.c_long(SYS_FUTEX[platform.machine()]),
            ctypes.byref(word),
            FUTEX_WAKE,
            EVERYBODY,
            None,
            None,
            0,
        )
