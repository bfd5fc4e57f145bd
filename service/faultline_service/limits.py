# SPDX-License-Identifier: Apache-2.0
"""How far faults may go: how many nodes at a time, how long, and in which boot of the node."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from . import clock
from .kube import ENDED, Obj

# What the clocks of a node and of the API server may differ by.
CLOCK_SKEW = 60.0
BOOT_ID = Path("1/root/proc/sys/kernel/random/boot_id")


class Refused(Exception):
    """An injection that cannot be: `reason` for machines, the text for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def phase_of(fault: Obj) -> str:
    """Phase of a fault, Pending until its agent has written one."""
    return str((fault.get("status") or {}).get("phase", "Pending"))


def left(status: Obj) -> float:
    """Seconds to the deadline, by the clock that says less: the wall's may be set back."""
    wall = clock.seconds(status["endsAt"]) - time.time()
    if not (ends := status.get("endsAtBoottime")):
        return wall
    return float(min(wall, (ends - clock.boottime()) / clock.SECOND))


def kernel_boot_id(proc: Path) -> str:
    """Boot id as the kernel of the node says it whose /proc this is, empty when it does not."""
    with suppress(OSError):
        return (proc / BOOT_ID).read_text().strip()
    return ""


def may_hurt(fault: Obj) -> bool:
    """Whether a fault is under way or may still begin.

    One whose time is over hurts nobody, even if no agent is there to say so: its node may have left
    the cluster. The page has the same deadline.
    """
    if phase_of(fault) in ENDED:
        return False
    if ends := (fault.get("status") or {}).get("endsAt"):
        over = clock.seconds(ends)
    else:
        made = fault["metadata"]["creationTimestamp"]
        over = clock.seconds(made) + fault["spec"]["durationSeconds"]
    return time.time() <= over + CLOCK_SKEW


def refuse_too_many(faults: Iterable[Obj], node: str, most: int) -> None:
    """Raise Refused when the agents of `most` nodes beside `node` have accepted faults."""
    others = {
        f["spec"]["node"]
        for f in faults
        if f["spec"]["node"] != node and (f.get("status") or {}).get("endsAt") and may_hurt(f)
    }
    if len(others) >= most:
        raise Refused(
            "TooManyNodes",
            f"faults are active on {', '.join(sorted(others))}; at most "
            f"{most} nodes may have faults at a time",
        )


def refuse_late(fault: Obj) -> None:
    """Raise Refused for a fault that lay here until nobody expects it any more."""
    lasts = fault["spec"]["durationSeconds"]
    ago = time.time() - clock.seconds(fault["metadata"]["creationTimestamp"])
    if ago > lasts + CLOCK_SKEW:
        raise Refused(
            "TooLate",
            f"the fault was asked for {ago:.0f} s ago, for {lasts} s, and no agent ran on the "
            "node then; delete it and make a new one",
        )
