# SPDX-License-Identifier: Apache-2.0
"""What an XID looks like, read from data/xid_profiles.yml.

On a GPU host without a library for YAML the same table lies there as xid_profiles.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

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
    kernel_texts: tuple[dict[str, Any], ...] = ()
    live_code_before: dict[str, int] | None = None
    at_init: bool = False
    mode: str = "sticky"
    delay_microseconds: int = 0
    genuine: bool = False

    @property
    def hurts_cuda(self) -> bool:
        """Whether programs notice the XID at all."""
        return bool(self.classes)

    def text_for(self, driver: int | None, gpu: int) -> str:
        """Free text of the kernel line as a branch of the driver writes it about a GPU's number."""
        said = [t["text"] for t in self.kernel_texts if driver and driver >= t["from"]]
        return str([*said, self.kernel_text][0]).replace("{gpu}", str(gpu))

    def live_code_for(self, driver: int | None) -> int:
        """CUresult that a branch of the driver gives processes with a context."""
        before = self.live_code_before
        return before["code"] if before and driver and driver < before["driver"] else self.live_code


@cache
def table() -> dict[str, Any]:
    """The file as it is."""
    converted = data_folder() / "xid_profiles.json"
    loaded: dict[str, Any]
    if converted.exists():
        loaded = json.loads(converted.read_text())
    else:
        import yaml

        loaded = yaml.safe_load((data_folder() / "xid_profiles.yml").read_text())
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
    lists = {key: tuple(row.get(key, ())) for key in ("sources", "kernel_texts")}
    facts = {key: value for key, value in row.items() if key != "nvsentinel"}
    return Profile(**(facts | row["nvsentinel"] | lists))
