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
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from . import clock
from .entry import CLASSES, MODES, Entry, pack, unpack
from .layout import constants, fields, number

__all__ = ["CLASSES", "MODES", "Entry", "Page", "pack", "unpack"]

# Seconds: a writer has the page for less than a thousandth of that.
LONGEST_WRITE = 5.0
# Seconds that a fault lasts at most, whoever makes it, and some more.
LONGEST_FAULT = 7200 + 60
FUTEX_WAKE, EVERYBODY = 1, 0x7FFFFFFF
LIBC = ctypes.CDLL(None)
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}


class Page:
    """The control page of a node, mapped for writing.

    Its writers, the node's agent and the host's tool, change it by edit(), one at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open the page, making it if there is none.

        Raises ValueError when the file is no control page or is of a newer version: it is left
        alone then.
        """
        self.path, self.inode = path, 0
        self.threads = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._alone(folder):
                self._find()
        finally:
            os.close(folder)
        with self._alone(self.file.fileno()):
            self._mend()

    def _find(self) -> None:
        """Map the page, or a new one where there is none or an older one."""
        known = constants()["PAGE_VERSION"]
        if not self.path.exists():
            self._create()
        self._open()
        version = number(self.map, "page", "version")
        if version < known:
            # Who still has the old file mapped keeps it, disarmed, until it starts anew.
            self._put("armed", 0)
            self._create()
            self._open()
        elif version > known:
            raise ValueError(
                f"{self.path} is of version {version}, this writer knows {known}: "
                "stop what uses it, or use the newer release"
            )

    def _open(self) -> None:
        size = constants()["PAGE_SIZE"]
        # It stays open: by it writers lock each other out, also when its name is gone.
        self.file = self.path.open("r+b", buffering=0)
        facts = os.fstat(self.file.fileno())
        if facts.st_size != size:
            raise ValueError(f"{self.path} is no control page: not {size} bytes long")
        # By it the evidence of a process says which file it has mapped.
        self.inode = facts.st_ino
        self.map = mmap.mmap(self.file.fileno(), size, mmap.MAP_SHARED)
        if number(self.map, "page", "magic") != constants()["PAGE_MAGIC"]:
            raise ValueError(f"{self.path} is no control page: wrong magic")

    def _mend(self) -> None:
        """Put right what a writer left that was killed: until then no process reads the page."""
        there = self.entries()
        odd = number(self.map, "page", "sequence") & 1
        if odd or number(self.map, "page", "armed") != len(there):
            self.write(e for e in there if e.mode in MODES)

    def forget_earlier_boots(self) -> None:
        """Disarm what would last longer than any fault: it was armed in an earlier boot.

        The file outlives its boot, and the clock of its times begins anew in the next one.
        """
        latest = clock.boottime() + LONGEST_FAULT * clock.SECOND
        if any(e.not_after > latest for e in self.entries()):
            self.edit(lambda there: [e for e in there if e.not_after <= latest])

    @contextmanager
    def _alone(self, handle: int) -> Iterator[None]:
        """Be the only one who has the lock of an open file.

        Whoever may read it can take it and keep it. That is no writer, and must not keep faults
        from being ended.
        """
        begun = time.monotonic()
        with self.threads:
            while time.monotonic() - begun < LONGEST_WRITE:
                with suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.01)  # flock has no time limit of its own
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

    def _create(self) -> None:
        """Write a whole page under another name first, so that nobody maps half of one."""
        c, raw, at = constants(), bytearray(constants()["PAGE_SIZE"]), fields("page")
        for name, value in {
            "magic": c["PAGE_MAGIC"],
            "version": c["PAGE_VERSION"],
            "size": c["PAGE_SIZE"],
        }.items():
            raw[at[name]] = value.to_bytes(at[name].stop - at[name].start, "little")
        handle, draft = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        with open(handle, "wb") as file:
            file.write(raw)
            os.fchmod(handle, 0o644)
        os.replace(draft, self.path)

    def entries(self) -> list[Entry]:
        """Armed entries, in the order of the page."""
        return [entry for entry in self._places() if entry]

    def _not_over(self) -> list[Entry]:
        """Armed entries whose time is not over."""
        now = clock.boottime()
        return [e for e in self.entries() if not e.not_after or e.not_after > now]

    def place_of(self, fault_id: str) -> int | None:
        """Number of the entry of a fault, None when it has none."""
        ids = [entry and entry.fault_id for entry in self._places()]
        return ids.index(fault_id) if fault_id in ids else None

    def has_room(self, fault_id: str) -> bool:
        """Whether a fault may be armed: it has a place already, or one is free or over."""
        others = [e for e in self._not_over() if e.fault_id != fault_id]
        return len(others) < constants()["PAGE_ENTRIES"]

    @property
    def generation(self) -> int:
        """Number of times the page was written."""
        return number(self.map, "page", "generation")

    def allow_genuine(self, allowed: bool) -> None:
        """Say whether entries of mode `genuine` may take effect."""
        self._put("flags", constants()["GENUINE_ALLOWED"] if allowed else 0)

    def edit(self, change: Callable[[list[Entry]], Iterable[Entry]]) -> int:
        """Arm what `change` makes of the armed entries, while no other writer can; as write().

        Those whose time is over are not among them: they count as disarmed, and leave the page.
        """
        with self._alone(self.file.fileno()):
            return self.write(change(self._not_over()))

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
        changed = [(i, raw) for i, raw in enumerate(packed) if self._raw(i) != raw]
        sequence = number(self.map, "page", "sequence") | 1
        if not wanted:
            self._put("armed", 0)
        self._put("sequence", sequence)
        for i, raw in changed:
            self._fill(self._where(i), raw)
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

    def _fill(self, where: slice, raw: bytes) -> None:
        """Write an entry. It is free until all of it is there, even if this process is killed."""
        state = fields("entry")["state"]
        self._store(where.start + state.start, 0)
        self.map[where.start + state.stop : where.stop] = raw[state.stop :]
        self._store(where.start + state.start, number(raw, "entry", "state"))

    def _put(self, name: str, value: int) -> None:
        """Store a field of the page."""
        self._store(fields("page")[name].start, value)

    def _store(self, offset: int, value: int) -> None:
        """Store 32 bits in one piece and in order: readers look at any time.

        Native format: the portable ones are written byte by byte. A call that lets go of the
        interpreter's lock and takes it again is what Python has for a memory barrier; one that
        lets go of the processor would keep readers waiting in the middle of a write.
        """
        LIBC.getppid()
        struct.pack_into("@I", self.map, offset, value)
        LIBC.getppid()

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
