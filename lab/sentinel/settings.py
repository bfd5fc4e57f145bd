# SPDX-License-Identifier: Apache-2.0
"""Every interval of the components, in two profiles; and the drainer's configuration file."""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

# Environment variable with another path of the drainer's configuration file.
CONFIG, MOUNTED = "CONFIG_PATH", "/etc/config/config.toml"


@dataclass(frozen=True)
class Intervals:
    """Seconds.

    `poll` is the monitor's period; `recheck` are the pauses before the drainer looks again, the
    last one for ever; `busy` is the pause of an event behind unfinished maintenance of its node;
    `signal` is how long the janitor's provider takes to send a reboot signal.
    """

    poll: float
    recheck: tuple[float, ...]
    busy: float
    signal: float
    breaker_window: float

    def pause(self, looks: int) -> float:
        """The drainer's pause after its look number `looks`, counted from 1."""
        return self.recheck[min(looks, len(self.recheck)) - 1]


PROFILES = {
    "realistic": Intervals(15.0, (10.0, 20.0, 40.0, 80.0, 120.0), 30.0, 4.0, 300.0),
    "fast": Intervals(1.0, (1.0, 1.0, 2.0, 4.0, 8.0), 1.0, 1.0, 60.0),
}


def intervals() -> Intervals:
    """Intervals of the profile that the environment names."""
    return PROFILES[os.environ.get("SENTINEL_PROFILE", "realistic")]


@dataclass(frozen=True)
class Drainer:
    """The drainer's settings: grace of evictions, excluded namespaces, mode per namespace.

    Pods that have been unready, or overdue to end, for `not_ready_minutes` are not waited for.
    """

    eviction_timeout: int
    system: str
    modes: tuple[tuple[str, str], ...]
    delete_after_minutes: float
    not_ready_minutes: float

    def mode(self, namespace: str) -> str | None:
        """`Immediate`, `AllowCompletion` or `DeleteAfterTimeout`; None: not drained."""
        if re.search(self.system, namespace):
            return None
        return next((m for g, m in self.modes if fnmatch.fnmatchcase(namespace, g)), None)


def drainer(path: Path | None = None) -> Drainer:
    """Settings in the drainer's ConfigMap, as the chart lays them out."""
    content = tomllib.loads((path or Path(os.environ.get(CONFIG, MOUNTED))).read_text())
    modes = tuple((entry["name"], entry["mode"]) for entry in content.get("userNamespaces", []))
    return Drainer(
        eviction_timeout=int(content.get("evictionTimeoutInSeconds", 60)),
        system=content.get("systemNamespaces", "^$"),
        modes=modes,
        delete_after_minutes=float(content.get("deleteAfterTimeoutMinutes", 60)),
        not_ready_minutes=float(content.get("notReadyTimeoutMinutes", 5)),
    )
