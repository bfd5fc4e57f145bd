# SPDX-License-Identifier: Apache-2.0
"""The control page: what is written is what a reader finds, and nothing else is overwritten."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from faultline_service.layout import constants, fields, number
from faultline_service.page import Entry, Page, pack, unpack

ENTRY = Entry(
    fault_id="xid-79-0a1b2c3d",
    xid=79,
    gpu_uuid="GPU-11111111-2222-3333-4444-555555555555",
    code_live=719,
    code_new=999,
    code_nvml=15,
    classes="SQITN",
    not_after=123_456_789_012_345,
)


def test_an_entry_reads_back_as_it_was_written(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    page.write([ENTRY])
    assert Page(tmp_path / "page").entries() == [ENTRY]
    assert unpack(pack(ENTRY)) == ENTRY


def test_the_armed_word_is_the_number_of_entries_and_zero_after_the_last_went(
    tmp_path: Path,
) -> None:
    page = Page(tmp_path / "page")
    page.write([ENTRY])
    raw = (tmp_path / "page").read_bytes()
    assert number(raw, "page", "armed") == 1
    page.write([])
    raw = (tmp_path / "page").read_bytes()
    assert number(raw, "page", "armed") == 0
    assert page.entries() == []


def test_every_write_raises_the_generation_and_leaves_the_sequence_even(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    assert [page.write([ENTRY]), page.write([])] == [1, 2]
    assert number((tmp_path / "page").read_bytes(), "page", "sequence") % 2 == 0


def test_the_file_that_processes_have_mapped_is_never_replaced(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    before = (tmp_path / "page").stat()
    page.write([ENTRY])
    Page(tmp_path / "page").write([])
    after = (tmp_path / "page").stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, constants()["PAGE_SIZE"])


def test_a_page_refuses_more_faults_than_it_holds_and_stays_as_it_was(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    page.write([ENTRY])
    with pytest.raises(ValueError, match="holds"):
        page.write([ENTRY] * (constants()["PAGE_ENTRIES"] + 1))
    assert page.entries() == [ENTRY]


def test_a_file_that_is_no_page_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"x" * constants()["PAGE_SIZE"])
    with pytest.raises(ValueError, match="magic"):
        Page(tmp_path / "page")
    assert (tmp_path / "page").read_bytes() == b"x" * constants()["PAGE_SIZE"]


def test_no_two_fields_of_a_structure_overlap() -> None:
    for structure in ("page", "entry", "state"):
        spans = sorted((s.start, s.stop) for s in fields(structure).values())
        assert spans
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
