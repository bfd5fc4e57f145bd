# SPDX-License-Identifier: Apache-2.0
"""Every interval of the components, in two profiles; and the drainer's configuration file."""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Intervals:
    """Seconds. `recheck` are the pauses before the drainer looks again, the last one for ever."""

    poll: float
    recheck: tuple[float, ...]
    signal: float
    breaker_window: float


PROFILES = {
    "realistic": Intervals(15.0, (10.0, 20.0, 40.0, 80.0, 120.0), 4.0, 300.0),
    "fast": Intervals(1.0, (1.0, 1.0, 2.0, 4.0, 8.0), 1.0, 60.0),
}


def intervals() -> Intervals:
    """Intervals of the profile that the environment names."""
    return PROFILES[os.environ.get("SENTINEL_PROFILE", "realistic")]


@dataclass(frozen=True)
class Drainer:
    """The drainer's settings: grace of evictions, excluded namespaces, mode per namespace."""

    eviction_timeout: int
    system: str
    modes: tuple[tuple[str, str], ...]
    delete_after_minutes: float

    def mode(self, namespace: str) -> str | None:
        """`Immediate`, `AllowCompletion` or `DeleteAfterTimeout`; None: not drained."""
        if re.search(self.system, namespace):
            return None
        return next((m for g, m in self.modes if fnmatch.fnmatchcase(namespace, g)), None)


def drainer(path: Path = Path("/etc/config/config.toml")) -> Drainer:
    """Settings in the drainer's ConfigMap, as the chart lays them out."""
    content = tomllib.loads(path.read_text())
    modes = tuple((entry["name"], entry["mode"]) for entry in content.get("userNamespaces", []))
    return Drainer(
        eviction_timeout=int(content.get("evictionTimeoutInSeconds", 60)),
        system=content.get("systemNamespaces", "^$"),
        modes=modes,
        delete_after_minutes=float(content.get("deleteAfterTimeoutMinutes", 60)),
    )
