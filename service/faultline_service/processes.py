# SPDX-License-Identifier: Apache-2.0
"""Processes of pods that use GPUs or have the shim, and what the shim in them has seen.

A process that dies of a fault takes its evidence with it, so the last reading is kept. Readings
between two scans cost one read of 512 bytes per process.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import shimstate
from .layout import number

POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
CONTAINER = re.compile(r"([0-9a-f]{64})")
MOST_EXITED = 64
LONGEST_COMMAND = 256
SECRET = re.compile(r"(?i)(token|secret|passw(or)?d|api[-_]?key|access[-_]?key|credentials?)$")
Names = Callable[[str, str], Optional[tuple[str, str, str]]]


@dataclass
class Process:
    """A process that is followed. `key` changes when the process becomes another program."""

    pid: int
    key: tuple[str, str, int]
    pod_uid: str
    container_id: str
    command: str
    gpus: list[str]
    namespace: str = ""
    pod: str = ""
    container: str = ""
    memory: int | None = None
    address: int = 0
    raw: bytes | None = None
    first_hit: str | None = None
    last_hit: str | None = None

    def read(self) -> None:
        """Take the evidence; what was read last stays when the process is ending."""
        if self.memory is None:
            return
        raw = shimstate.read(self.memory, self.address)
        before = number(self.raw, "state", "hits") if self.raw else 0
        if raw is not None:
            self.raw = raw
            self.first_hit = self.first_hit or shimstate.first_hit(raw)
            if number(raw, "state", "hits") != before:
                self.last_hit = shimstate.last_hit(raw)

    @property
    def hits(self) -> int:
        """Calls that a fault answered."""
        return int(shimstate.evidence(self.raw).get("hits", 0))

    def close(self) -> None:
        """Let go of the process."""
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None

    def as_status(self) -> dict[str, Any]:
        """As it stands in status.processes of GPUHost."""
        shim = shimstate.evidence(self.raw)
        if self.first_hit:
            shim["firstHitAt"] = self.first_hit
            shim["lastHitAt"] = self.last_hit
        return {
            "namespace": self.namespace,
            "pod": self.pod,
            "podUID": self.pod_uid,
            "container": self.container,
            "pid": self.pid,
            "command": self.command,
            "gpus": self.gpus,
            "shim": shim,
        }


def program_name(comm: Path) -> str | None:
    """What /proc/<pid>/comm says, None when the process is not there.

    A process gives itself any bytes for a name: the caller may take none of them for granted.
    """
    try:
        return comm.read_text(errors="replace").removesuffix("\n")
    except OSError:
        return None


def command_line(raw: bytes) -> str:
    """The content of /proc/<pid>/cmdline for everybody to read: without values of secrets."""
    words, hide = [], False
    for word in raw.decode(errors="replace").rstrip("\0").split("\0"):
        name, given, _ = word.partition("=")
        told = bool(SECRET.search(name))
        words.append("***" if hide else f"{name}=***" if told and given else word)
        hide = told and not given and name.startswith("-")
    return " ".join(" ".join(words).split())[:LONGEST_COMMAND]


def environment(raw: bytes) -> dict[str, str]:
    """The content of /proc/<pid>/environ."""
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
    return {key: value for key, _, value in pairs if key}


class Processes:
    """Follows the processes of the node; `proc` is a /proc that shows all of them."""

    def __init__(self, names: Names, proc: Path = Path("/proc")) -> None:
        """`names(pod uid, container id)` gives namespace, pod and container, None if unknown."""
        self.names, self.proc = names, proc
        self.alive: dict[int, Process] = {}
        self.exited: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def scan(self) -> None:
        """Look at all processes; one that has gone leaves its evidence if a fault had hit it."""
        there = set()
        for entry in self.proc.iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if self._look(entry):
                    there.add(int(entry.name))
            except (OSError, ValueError, IndexError):
                continue  # it ended while it was looked at
        with self.lock:
            for pid in set(self.alive) - there:
                self._gone(self.alive.pop(pid))
        self.read()

    def read(self) -> None:
        """Read the evidence of the processes that are known."""
        with self.lock:
            for process in self.alive.values():
                process.read()

    def forget(self, living_faults: set[str]) -> None:
        """Drop the evidence of exited processes whose fault exists no more."""
        with self.lock:
            kept = [e for e in self.exited if e["shim"].get("faultId") in living_faults]
            self.exited = kept[-MOST_EXITED:]

    def as_status(self) -> list[dict[str, Any]]:
        """Living processes in order of their numbers, then exited ones."""
        with self.lock:
            living = [self.alive[pid].as_status() for pid in sorted(self.alive)]
            return living + [dict(e) for e in self.exited]

    def genuine_refusals(self) -> dict[int, tuple[int, int]]:
        """Kernels that drivers refused: serial of the page entry to process number and CUresult."""
        with self.lock:
            found = {p.pid: shimstate.facts(p.raw) for p in self.alive.values() if p.raw}
        return {
            seen["genuine_serial"]: (pid, seen["genuine_refused"])
            for pid, seen in found.items()
            if seen["genuine_refused"]
        }

    def user_of(self, gpu_uuid: str, pod_uid: str = "") -> tuple[int, str] | None:
        """Number and name of a process that uses a GPU, of a pod if one is named."""
        with self.lock:
            users = [p for p in self.alive.values() if gpu_uuid in p.gpus]
        users = [p for p in users if pod_uid in ("", p.pod_uid)]
        best = max(users, key=lambda p: (p.raw is not None, -p.pid), default=None)
        if best is None:
            return None
        name = program_name(self.proc / str(best.pid) / "comm")
        return None if name is None else (best.pid, name)

    def _gone(self, process: Process) -> None:
        if process.hits:
            self.exited.append(process.as_status() | {"exited": True})
        process.close()

    def _look(self, folder: Path) -> bool:
        """Follow a process if it is one of ours; whether it is."""
        raw = (folder / "environ").read_bytes()
        if b"NVIDIA_VISIBLE_DEVICES=" not in raw and shimstate.LIBRARY.encode() not in raw:
            return False
        words = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        # Start time, and where its stack begins: another program of the same process and with the
        # same environment has it elsewhere.
        key, pid = (words[19], words[25], hash(raw)), int(folder.name)
        known = self.alive.get(pid)
        if known is not None and known.key == key:
            self._name(known)
            self._attach(known, folder)
            return True
        made = self._make(folder, pid, key, environment(raw))
        if made is None:
            return False
        self._name(made)
        self._attach(made, folder)
        with self.lock:
            if known is not None:
                self._gone(known)
            self.alive[pid] = made
        return True

    def _make(
        self, folder: Path, pid: int, key: tuple[str, str, int], env: dict[str, str]
    ) -> Process | None:
        group = (folder / "cgroup").read_text()
        pod, container = POD.search(group), CONTAINER.findall(group)
        visible = [v for v in env.get("NVIDIA_VISIBLE_DEVICES", "").split(",") if v[:4] == "GPU-"]
        if pod is None or not (visible or shimstate.LIBRARY in env.get("LD_PRELOAD", "")):
            return None
        command = command_line((folder / "cmdline").read_bytes())
        uid = pod.group(1).replace("_", "-")
        return Process(pid, key, uid, container[-1] if container else "", command, visible)

    def _name(self, process: Process) -> None:
        if not process.container:
            found = self.names(process.pod_uid, process.container_id)
            if found:
                process.namespace, process.pod, process.container = found

    def _attach(self, process: Process, folder: Path) -> None:
        """Open the memory of a process once it has the shim."""
        if process.memory is not None:
            return
        where = shimstate.address(folder)
        if where is not None:
            process.address = where
            process.memory = os.open(folder / "mem", os.O_RDONLY | os.O_CLOEXEC)
