# SPDX-License-Identifier: Apache-2.0
"""Which process drives a run, and whether it is still at work.

A run that somebody is still driving must not be undone by somebody else: the two would work against
each other. The driver stands in the run's record with its host and start time, so that neither a
process id used again nor a folder on a shared disk is taken for it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from ._background import start_ticks
from ._errors import FaultlineError

# Set for plays that are steps of a longer run, by the process that drives it: its id.
VARIABLE = "FAULTLINE_DRIVER"

Driver = dict[str, Any]


def describe(pid: int) -> Driver:
    """`host`, `pid` and `start_ticks` (since boot) of a process."""
    return {"host": socket.gethostname(), "pid": pid, "start_ticks": start_ticks(pid)}


def current() -> Driver:
    """The driver of what an action does now.

    An action runs in a process that ansible-playbook has forked, so its parent is the play.
    """
    return describe(int(os.environ.get(VARIABLE) or os.getppid()))


def alive(driver: Mapping[str, Any] | None) -> bool:
    """Whether a driver is at work on this host; of another host's nothing is known."""
    if not driver or driver.get("host") != socket.gethostname():
        return False
    ticks = start_ticks(int(driver["pid"]))
    return ticks is not None and ticks == driver.get("start_ticks")


def refuse_if_driven(record: Mapping[str, Any], by: Driver) -> None:
    """Raise FaultlineError when another process than `by` is at work on a run."""
    driver = record.get("driver")
    if driver and driver != by and alive(driver):
        raise FaultlineError(
            f"Run {record['run_id']} is under way: process {driver['pid']} on {driver['host']} "
            "drives it. Wait for its end, or end that process (it undoes the run by itself on "
            "Ctrl-C), and run the cleanup again; -e drill_force=true takes the run over now."
        )
