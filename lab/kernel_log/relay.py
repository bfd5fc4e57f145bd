# SPDX-License-Identifier: Apache-2.0
"""From the machine's /dev/kmsg to a node's: which records, and how they are written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from ..gpu.identity import Gpu

SEED = "Linux version of a faultline lab node"


def marks_of(gpus: Iterable[Gpu]) -> list[bytes]:
    """What names a GPU in a kernel line: its address as the driver logs it, and its UUID."""
    return [mark.lower().encode() for gpu in gpus for mark in (gpu.pci_key, gpu.uuid)]


def belongs(record: bytes, marks: Iterable[bytes]) -> bool:
    """Whether a record names one of the node's GPUs, by PCI address or UUID."""
    text = record.partition(b";")[2].lower()
    return any(mark in text for mark in marks)


def rewrite(record: bytes, sequence: int) -> bytes:
    """A record as this node's kernel would have written it: own sequence, first line only.

    journald drops records with a number that it has seen and complains about gaps.
    """
    head, _, text = record.partition(b";")
    priority, _sequence, microseconds = head.split(b",")[:3]
    line = text.split(b"\n", 1)[0]
    return b"%s,%d,%s,-;%s\n" % (priority, sequence, microseconds, line)


def open_fifo(path: Path) -> int:
    """A FIFO that behaves like /dev/kmsg: one write is one read. Returns the writing end.

    Opened for both directions, so that it never has no reader, and then set to packet mode.
    """
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(handle, fcntl.F_SETFL, os.O_RDWR | os.O_DIRECT)
    return handle


def relay(source: int, target: int, marks: list[bytes]) -> None:
    """Pass on the node's records; begins with one record of an ordinary boot.

    The first kernel record of an empty journal is swallowed by NVSentinel's monitor, which only
    takes its position from it (seen in recordings of the real one). Never returns; raises OSError,
    and EOFError when the source ends, which a kernel log does not.
    """
    os.write(target, b"6,0,0,-;%s\n" % SEED.encode())
    sequence = 1
    while True:
        try:
            record = os.read(source, 8192)
        except BrokenPipeError:
            continue  # records were overwritten before they were read; the next read goes on
        if not record:
            raise EOFError("the kernel log has ended")
        if belongs(record, marks):
            os.write(target, rewrite(record, sequence))
            sequence += 1
