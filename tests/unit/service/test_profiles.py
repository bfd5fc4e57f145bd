# SPDX-License-Identifier: Apache-2.0
"""The XID table: complete, free of contradictions, and with an answer for every XID."""

from __future__ import annotations

import json

import pytest
from faultline_service import profiles
from faultline_service.layout import data_folder
from faultline_service.page import CLASSES
from jsonschema import Draft202012Validator

WANTED = (
    "8 13 31 32 43 45 46 48 62 63 64 69 74 79 92 94 95 109 110 119 120 121 136 137 140 143 "
    "144 145 146 147 148 149 150 151 154 155 156 157 158 160 161 171 172"
)


def test_the_xids_that_drills_use_have_rows_of_their_own() -> None:
    assert set(profiles.listed()) == {int(xid) for xid in WANTED.split()}


def test_the_table_is_as_its_schema_says() -> None:
    schema = json.loads((data_folder() / "xid_profiles.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    found = Draft202012Validator(schema).iter_errors(profiles.table())
    assert [f"{e.json_path}: {e.message}" for e in found] == []


@pytest.mark.parametrize(
    "change",
    [
        {"live_code": 7},
        {"classes": "XS"},
        {"confidence": "certain"},
        {"kernel_texts": []},
        {"colour": "red"},
    ],
)
def test_the_schema_refuses_a_row_with(change: dict[str, object]) -> None:
    schema = json.loads((data_folder() / "xid_profiles.schema.json").read_text())
    table = profiles.table()
    wrong = table | {"profiles": [table["profiles"][0] | change]}
    assert not Draft202012Validator(schema).is_valid(wrong)


def test_no_xid_is_listed_twice() -> None:
    rows = [row["xid"] for row in profiles.table()["profiles"]]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("xid", [*profiles.listed(), 500])
def test_codes_and_classes_of_a_row_belong_together(xid: int) -> None:
    row = profiles.profile(xid)
    assert set(row.classes) <= set(CLASSES) - {"P"}
    assert ("S" in row.classes) == bool(row.live_code)
    assert ("I" in row.classes) == bool(row.new_context_code)
    assert ("N" in row.classes) == bool(row.nvml_code)
    assert row.mode == "sticky" or row.delay_microseconds
    assert not row.at_init or "I" in row.classes
    texts = [row.text_for(branch, 3) for branch in (None, 535, 570, 580, 610)]
    assert not [text for text in texts if "{" in text or "\n" in text]


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


def test_the_kernel_line_has_the_words_of_the_drivers_generation() -> None:
    gsp, mmu = profiles.profile(119), profiles.profile(31)
    assert "GPU4 GSP! Expected function 103 (GSP_RM_ALLOC) (0x2081" in gsp.text_for(570, 4)
    assert "sequence 15421" in gsp.text_for(595, 4)
    assert mmu.text_for(None, 0).startswith("Ch 00000008")
    assert mmu.text_for(580, 0).startswith("channel 0x00000002")


def test_a_driver_older_than_a_code_gives_the_older_code() -> None:
    contained = profiles.profile(94)
    assert [contained.live_code_for(d) for d in (None, 570, 565)] == [226, 226, 214]


def test_a_kernel_can_bring_about_these_xids_and_no_others() -> None:
    assert [x for x in profiles.listed() if profiles.profile(x).genuine] == [13, 31, 43]
