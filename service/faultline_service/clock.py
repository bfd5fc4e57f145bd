# SPDX-License-Identifier: Apache-2.0
"""Wall clock for people and the API server, CLOCK_BOOTTIME for the control page."""

from __future__ import annotations

import time
from datetime import datetime, timezone

SECOND = 1_000_000_000


def stamp(seconds: float | None = None) -> str:
    """Unix seconds (now by default) as Kubernetes writes micro time, in UTC."""
    when = datetime.fromtimestamp(time.time() if seconds is None else seconds, timezone.utc)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Unix seconds of a time stamp; raises ValueError when it is none."""
    return datetime.fromisoformat(text).timestamp()


def boottime() -> int:
    """Nanoseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def to_boottime(unix: float) -> int:
    """The CLOCK_BOOTTIME nanoseconds of a moment given in Unix seconds; at least 1."""
    return max(1, boottime() + int((unix - time.time()) * SECOND))


def from_boottime(nanoseconds: int) -> float:
    """Unix seconds of a CLOCK_BOOTTIME moment."""
    return time.time() - (boottime() - nanoseconds) / SECOND
