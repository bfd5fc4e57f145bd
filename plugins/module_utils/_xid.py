# SPDX-License-Identifier: Apache-2.0
"""What an XID is, from the one table of them (`data/xid_profiles.yml`)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ._errors import FaultlineError

TABLE = Path(__file__).resolve().parents[2] / "data" / "xid_profiles.yml"
FIRST, LAST = 1, 1000


@cache
def table() -> dict[str, Any]:
    """The table as it is."""
    content: dict[str, Any] = yaml.safe_load(TABLE.read_text())
    return content


def profile(xid: Any) -> dict[str, Any]:
    """The row of an XID, of one without a row the default row; always with `nvsentinel`.

    Raises FaultlineError for what is no XID.
    """
    try:
        number = int(str(xid))
    except ValueError:
        number = 0
    if not FIRST <= number <= LAST:
        raise FaultlineError(f"An XID is a number from {FIRST} to {LAST}, not {xid!r}.")
    for row in table()["profiles"]:
        if row["xid"] == number:
            return dict(row)
    actions = table()["nvsentinel_actions"]
    action = next((name for name, xids in actions.items() if number in xids), "CONTACT_SUPPORT")
    verdict = {"action": action, "fatal": action != "NONE"}
    return {**table()["default"], "xid": number, "nvsentinel": verdict}
