# SPDX-License-Identifier: Apache-2.0
"""The kernel line of an XID: its text, writing it to /dev/kmsg, finding it in the node's journal.

The form is that of the NVIDIA driver, so that NVSentinel's and gpud's expressions accept it. The
run id stands in the free text: there a reader can tell one injection from another.
"""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .clock import stamp

log = logging.getLogger("faultline.kernel")
MARK = "NVRM: Xid (PCI:"
ERROR_LEVEL = "<3>"
# Seconds that a record may seem older than its writing.
SLACK = 2
NOT_PLAIN = re.compile(r"[^\x20-\x7e]")


def text(
    pci: str, xid: int, free: str, run: str, pid: int | None = None, name: str | None = None
) -> str:
    """One line without priority and newline; `pci` without the function digit.

    A driver that does not know the process writes `pid='<unknown>', name=<unknown>`. Of a name
    only plain characters are taken: the process chose it, and a newline would begin another line.
    """
    name = NOT_PLAIN.sub("?", name or "")
    who = f"pid={pid or chr(39) + '<unknown>' + chr(39)}, name={name or '<unknown>'}"
    return f"{MARK}{pci}): {xid}, {who}, {free} run={run}"


def record(line: str, monotonic: float) -> bytes:
    """What is written to /dev/kmsg: priority, time as printk shows it, line, newline.

    Without the newline the kernel keeps the record open and no reader sees it.
    """
    return f"{ERROR_LEVEL}[{monotonic:12.6f}] {line}\n".encode()


def write(line: str, kmsg: Path) -> int | None:
    """Write the line with one system call; returns its sequence number in the kernel log.

    The number is None when the log could not be read back. Raises OSError when writing failed.
    """
    reader = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(reader, 0, os.SEEK_END)
        # No O_CREAT: a node without /dev/kmsg must say so and not get an ordinary file.
        writer = os.open(kmsg, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(writer, record(line, time.monotonic()))
        finally:
            os.close(writer)
        return _sequence(reader, line)
    finally:
        os.close(reader)


def _sequence(reader: int, line: str) -> int | None:
    """Sequence number of the first record after the reader's position that holds the line."""
    for _ in range(1000):
        try:
            head, _, rest = os.read(reader, 8192).partition(b";")
        except BlockingIOError:
            return None
        except BrokenPipeError:
            continue  # overwritten before it was read: the next read goes on behind
        if not head:
            return None
        if line.encode() in rest:
            return int(head.split(b",")[1])
    return None


@dataclass(frozen=True)
class Seen:
    """A journal entry: message, Unix seconds, syslog identifier."""

    message: str
    at: float
    identifier: str

    def as_status(self) -> dict[str, Any]:
        """As it stands in status.kernelLog.journal."""
        return {
            "seen": True,
            "message": self.message,
            "seenAt": stamp(self.at),
            "identifier": self.identifier,
        }


def _entry(raw: bytes) -> Seen | None:
    try:
        found = json.loads(raw)
        message = found.get("MESSAGE")
        if isinstance(message, list):  # journald's form of what is no clean UTF-8
            message = bytes(message).decode(errors="replace")
        moment = int(found["__REALTIME_TIMESTAMP"]) / 1e6
    except (ValueError, KeyError, TypeError):
        return None
    return Seen(str(message), moment, str(found.get("SYSLOG_IDENTIFIER", "")))


def matches(found: Seen, line: str, since: float) -> bool:
    """Whether a journal entry is this injection's line and not an older one like it."""
    return MARK in found.message and line in found.message and found.at >= since - SLACK


def wait_in_journal(line: str, journal: Path, since: float, timeout: float) -> Seen | None:
    """Follow the node's journal until the line is there; None when it is not in time.

    `since` is Unix seconds of the writing. Follows: returns as soon as journald has the record.
    """
    command = ["journalctl", f"--directory={journal}", "-o", "json", "_TRANSPORT=kernel"]
    # All since then and not the last so many: a kernel that has much to say may push it out.
    command += [f"--since=@{int(since - SLACK)}", "--no-tail", "--follow"]
    deadline = time.monotonic() + timeout
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
        try:
            return _follow(reader, line, since, deadline)
        finally:
            reader.kill()


def _follow(
    reader: subprocess.Popen[bytes], line: str, since: float, deadline: float
) -> Seen | None:
    assert reader.stdout is not None
    handle, rest = reader.stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and selector.select(left):
            more = os.read(handle, 65536)
            if not more:
                log.warning("journalctl ended before the line was there")
                return None
            *lines, rest = (rest + more).split(b"\n")
            for raw in lines:
                found = _entry(raw)
                if found and matches(found, line, since):
                    return found
    return None
