# SPDX-License-Identifier: Apache-2.0
"""Which process drives a run, whether it is still at work, and what it has left when it is gone.

A run that somebody is still driving must not be undone by somebody else: the two would work against
each other. The driver stands in the run's record with its host, PID namespace and start time, so
that neither a process id used again nor a folder on a shared disk is taken for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ._background import start_ticks
from ._errors import FaultlineError

# In the environment of everything that works for a driver: its `<pid>:<start ticks>`.
VARIABLE = "FAULTLINE_DRIVER"
FORCE = "-e drill_force=true takes the run over now."

Driver = dict[str, Any]


def _place() -> Driver:
    """Where process ids mean what they mean here."""
    namespace = None
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "pid_namespace": namespace}


def describe(pid: int) -> Driver:
    """A process: `host`, `pid_namespace`, `pid` and `start_ticks` (clock ticks since boot)."""
    return _place() | {"pid": pid, "start_ticks": start_ticks(pid)}


def mark(driver: Mapping[str, Any]) -> str:
    """Value of the variable for what works for a driver."""
    return f"{driver.get('pid')}:{driver.get('start_ticks')}"


def current() -> Driver:
    """The driver of what an action does now; raises FaultlineError when VARIABLE makes no sense.

    An action runs in a process that ansible-playbook has forked, so its parent is the play; a play
    that is a step of a longer run is told who drives it.
    """
    told = os.environ.get(VARIABLE)
    if not told:
        return describe(os.getppid())
    pid, _colon, ticks = told.partition(":")
    if not (pid.isdecimal() and ticks.isdecimal()):
        raise FaultlineError(f"{VARIABLE} is {told!r}; faultline.gpu sets it itself: unset it.")
    return _place() | {"pid": int(pid), "start_ticks": int(ticks)}


def here(driver: Mapping[str, Any]) -> bool:
    """Whether a driver's process id means something to this process."""
    place = _place()
    return {key: driver.get(key) for key in place} == place


def alive(driver: Mapping[str, Any] | None) -> bool:
    """Whether a driver is at work here; of one that is elsewhere nothing is known."""
    if not driver or not here(driver) or not isinstance(driver.get("pid"), int):
        return False
    ticks = start_ticks(driver["pid"])
    return ticks is not None and ticks == driver.get("start_ticks")


def refuse_if_driven(record: Mapping[str, Any], by: Driver) -> None:
    """Raise FaultlineError when another process than `by` is at work on a run, or could be."""
    driver = record.get("driver")
    if not driver or driver == by:
        return
    who = f"process {driver.get('pid')} on {driver.get('host')}"
    if not here(driver):
        raise FaultlineError(
            f"Run {record['run_id']} is not over, and {who}, which drives it, cannot be seen from "
            f"here. If that is gone, {FORCE}"
        )
    if alive(driver):
        raise FaultlineError(
            f"Run {record['run_id']} is under way: {who} drives it. Wait for its end, or end that "
            f"process and run the cleanup again; {FORCE}"
        )


def marked(entry: str, spare: Collection[int]) -> list[int]:
    """Processes that have `entry` (`NAME=value`) in their environment, but those in `spare`."""
    found, wanted = [], entry.encode()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and int(process.name) not in spare:
                entries = (process / "environ").read_bytes().split(b"\0")
                found += [int(process.name)] if wanted in entries else []
    return found


def end_marked(entry: str, spare: Collection[int] = (), seconds: float = 10) -> None:
    """End processes that have `NAME=value` in their environment, but those in `spare`.

    Modules of a play that was cut off run in sessions of their own and go on.
    """
    deadline = time.monotonic() + seconds
    while (left := marked(entry, spare)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                os.kill(pid, signal.SIGKILL)
                select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
                os.close(handle)


def end_left(driver: Mapping[str, Any] | None, spare: Collection[int]) -> None:
    """End what a driver that is gone has left at work, but what was meant to outlive it."""
    if driver and here(driver) and not alive(driver):
        end_marked(f"{VARIABLE}={mark(driver)}", spare)
