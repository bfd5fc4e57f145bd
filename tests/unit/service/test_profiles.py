# SPDX-License-Identifier: Apache-2.0
"""The XID table: complete, free of contradictions, and with an answer for every XID."""

from __future__ import annotations

import pytest
from faultline_service import profiles
from faultline_service.page import CLASSES

KNOWN_RESULTS = {0, 46, 214, 220, 226, 700, 719, 802, 999}
WANTED = "13 31 43 45 48 62 63 64 74 79 92 94 95 109 110 119 120 136 140 143 154"


def test_the_xids_that_drills_use_have_rows_of_their_own() -> None:
    assert set(profiles.listed()) == {int(xid) for xid in WANTED.split()}


def test_no_xid_is_listed_twice() -> None:
    rows = [row["xid"] for row in profiles.table()["profiles"]]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("xid", [*profiles.listed(), 500])
def test_codes_and_classes_of_a_row_belong_together(xid: int) -> None:
    row = profiles.profile(xid)
    assert set(row.classes) <= set(CLASSES) - {"P"}
    assert {row.live_code, row.new_context_code} <= KNOWN_RESULTS
    assert ("S" in row.classes) == bool(row.live_code)
    assert ("I" in row.classes) == bool(row.new_context_code)
    assert ("N" in row.classes) == bool(row.nvml_code)
    assert row.confidence in ("high", "medium", "low")
    assert row.sources
    assert row.kernel_text
    assert "\n" not in row.kernel_text


@pytest.mark.parametrize("xid", profiles.listed())
def test_a_row_and_the_catalogue_agree_on_what_nvsentinel_does(xid: int) -> None:
    row = profiles.profile(xid)
    # The action of 154 is read from its text, not from its number.
    assert row.action == ("COMPONENT_RESET" if xid == 154 else profiles.action_of(xid))
    assert row.fatal == (row.action != "NONE")


def test_a_gpu_off_the_bus_is_what_records_of_it_show() -> None:
    row = profiles.profile(79)
    assert (row.live_code, row.new_context_code, row.nvml_code) == (719, 999, 15)
    assert row.kernel_text == "GPU has fallen off the bus."
    assert (row.action, row.fatal) == ("RESTART_BM", True)


def test_every_number_from_1_to_1000_has_an_answer_and_others_are_refused() -> None:
    assert all(profiles.profile(xid).xid == xid for xid in range(1, 1001))
    assert (profiles.profile(8).fatal, profiles.profile(7).fatal) == (False, True)
    for xid in (0, 1001):
        with pytest.raises(ValueError, match="1 to 1000"):
            profiles.profile(xid)
