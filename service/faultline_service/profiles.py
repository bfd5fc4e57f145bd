# SPDX-License-Identifier: Apache-2.0
"""What an XID looks like, read from data/xid_profiles.yml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from .layout import data_folder

FIRST, LAST = 1, 1000


@dataclass(frozen=True)
class Profile:
    """A row of the table: texts, CUresult and nvmlReturn_t numbers (0 for none), call classes."""

    xid: int
    name: str
    summary: str
    kernel_text: str
    live_code: int
    new_context_code: int
    nvml_code: int
    classes: str
    remediation: str
    action: str
    fatal: bool
    confidence: str
    sources: tuple[str, ...]

    @property
    def hurts_cuda(self) -> bool:
        """Whether programs notice the XID at all."""
        return bool(self.classes)


@cache
def table() -> dict[str, Any]:
    """The file as it is."""
    loaded: dict[str, Any] = yaml.safe_load((data_folder() / "xid_profiles.yml").read_text())
    return loaded


@cache
def listed() -> tuple[int, ...]:
    """XIDs that have a row of their own, ascending."""
    return tuple(sorted(row["xid"] for row in table()["profiles"]))


def action_of(xid: int) -> str:
    """NVSentinel's action for an XID by its catalogue, without regard to the text."""
    actions = table()["nvsentinel_actions"]
    return next((name for name, xids in actions.items() if xid in xids), "CONTACT_SUPPORT")


def profile(xid: int) -> Profile:
    """The row of an XID, or the default row; raises ValueError outside 1 to 1000."""
    if not FIRST <= xid <= LAST:
        raise ValueError(f"an XID is {FIRST} to {LAST}, not {xid}")
    row = next((r for r in table()["profiles"] if r["xid"] == xid), None)
    if row is None:
        action = action_of(xid)
        verdict = {"action": action, "fatal": action != "NONE"}
        row = table()["default"] | {"xid": xid, "nvsentinel": verdict}
    facts = {key: value for key, value in row.items() if key not in ("nvsentinel", "sources")}
    return Profile(**facts, **row["nvsentinel"], sources=tuple(row["sources"]))
