# SPDX-License-Identifier: Apache-2.0
"""The control page: what is written is what a reader finds, and nothing else is overwritten."""

from __future__ import annotations

import fcntl
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from faultline_service import clock
from faultline_service import page as module
from faultline_service.layout import constants, fields, number
from faultline_service.page import MODES, Entry, Page, pack, unpack

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


def test_every_qualifier_reads_back_as_it_was_written() -> None:
    entry = replace(
        ENTRY,
        mode="hang",
        not_before=5,
        pod_uid="9d249f14-4b37-4b66-a3d1-6515ff5199fe",
        pid=17,
        pid_namespace=4026531836,
        rank=0,
        after_calls=3,
        probability=0.25,
        seed=2**64 - 1,
        delay_us=6_000_000,
        at_init=True,
    )
    assert unpack(pack(entry)) == entry


@pytest.mark.parametrize("wrong", [0.0, -0.5, 1.5])
def test_a_probability_outside_of_its_range_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        pack(replace(ENTRY, probability=wrong))


def test_a_small_probability_does_not_become_certainty() -> None:
    assert number(pack(replace(ENTRY, probability=1e-12)), "entry", "probability") == 1
    assert number(pack(ENTRY), "entry", "probability") == 0


def test_an_unknown_mode_and_a_foreign_uuid_are_refused() -> None:
    with pytest.raises(ValueError, match="sticky, once"):
        pack(replace(ENTRY, mode="flaky"))
    with pytest.raises(ValueError, match="GPU- or MIG-"):
        pack(replace(ENTRY, gpu_uuid="11111111-2222-3333-4444-555555555555"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fault_id": "x" * 64}, "at most 63 bytes"),
        ({"classes": "SX"}, "letters of SQITN, not 'X'"),
        ({"gpu_uuid": "GPU-1"}, "'GPU-1' is no UUID of a GPU"),
        ({"pod_uid": "mine"}, "'mine' is no UID of a pod"),
    ],
)
def test_what_has_no_place_in_an_entry_is_refused_with_its_name(
    changes: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        pack(replace(ENTRY, **changes))


def test_the_uuid_of_a_mig_instance_reads_back_as_one() -> None:
    instance = replace(ENTRY, gpu_uuid=ENTRY.gpu_uuid.replace("GPU", "MIG"))
    assert unpack(pack(instance)) == instance


def test_two_who_make_the_page_at_the_same_time_have_the_same_one(tmp_path: Path) -> None:
    for number_of in range(20):
        path = tmp_path / str(number_of) / "page"
        together = threading.Barrier(4)

        def make(path: Path = path, together: threading.Barrier = together) -> int:
            together.wait()
            return Page(path).inode

        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(make) for _ in range(4)]
        assert [one.result() for one in found] == [path.stat().st_ino] * 4
        assert [file.name for file in path.parent.iterdir()] == ["page"]


def test_a_link_beside_the_page_leads_nobody_to_write_another_file(tmp_path: Path) -> None:
    dear = tmp_path / "dear"
    dear.write_text("dear")
    (tmp_path / ".page.new").symlink_to(dear)
    Page(tmp_path / "page")
    assert dear.read_text() == "dear"


@pytest.mark.parametrize(("field", "value"), [("sequence", 7), ("armed", 0)])
def test_what_a_writer_left_that_was_killed_is_put_right_by_the_next_who_comes(
    tmp_path: Path, field: str, value: int
) -> None:
    Page(tmp_path / "page").write([ENTRY])
    Page(tmp_path / "page")._put(field, value)
    assert Page(tmp_path / "page").entries() == [ENTRY]
    raw = (tmp_path / "page").read_bytes()
    assert (number(raw, "page", "sequence") % 2, number(raw, "page", "armed")) == (0, 1)


def test_a_writer_killed_at_any_moment_leaves_no_half_of_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, seen = Page(tmp_path / "page"), []
    page.write([replace(ENTRY, fault_id="before", xid=13)])
    store = Page._store

    def watched(self: Page, offset: int, value: int) -> None:
        seen.append((tmp_path / "page").read_bytes())
        store(self, offset, value)

    monkeypatch.setattr(Page, "_store", watched)
    page.write([ENTRY])
    start = constants()["PAGE_FIRST_ENTRY"]
    entries = [unpack(raw[start : start + constants()["ENTRY_SIZE"]]) for raw in seen]
    states = [entry and (entry.fault_id, entry.xid, entry.not_after) for entry in entries]
    whole = [("before", 13, ENTRY.not_after), None, (ENTRY.fault_id, 79, ENTRY.not_after)]
    assert list(dict.fromkeys(states)) == whole


def test_the_page_can_be_changed_when_its_name_is_gone(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    page.write([ENTRY])
    with (tmp_path / "page").open("rb") as mapped_elsewhere:
        (tmp_path / "page").unlink()
        page.edit(lambda _there: [])
        assert number(mapped_elsewhere.read(), "page", "armed") == 0


def test_who_keeps_the_lock_of_the_page_does_not_keep_a_fault_from_being_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_WRITE", 0.2)
    page = Page(tmp_path / "page")
    page.write([ENTRY])
    with (tmp_path / "page").open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_EX)
        page.edit(lambda _there: [])
    assert page.entries() == []


def test_a_write_waits_for_nobody_on_a_busy_machine(tmp_path: Path) -> None:
    page, took = Page(tmp_path / "page"), []
    spin = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for turn in range(40):
            begun = time.perf_counter()
            page.write([] if turn % 2 else [ENTRY])
            took.append(time.perf_counter() - begun)
            time.sleep(0.002)  # as a writer does that has waited for its order
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert statistics.median(took) < 0.005


def test_faults_whose_time_is_over_make_room_for_others(tmp_path: Path) -> None:
    page, places = Page(tmp_path / "page"), constants()["PAGE_ENTRIES"]
    now = clock.boottime()
    over = [replace(ENTRY, fault_id=f"over-{i}", not_after=now) for i in range(places - 1)]
    lasting = replace(ENTRY, fault_id="lasting", not_after=0)
    page.write([*over, lasting])
    new = replace(ENTRY, not_after=now + 60 * clock.SECOND)
    page.edit(lambda there: [*there, new])
    assert {e.fault_id for e in page.entries()} == {"lasting", ENTRY.fault_id}


def test_an_entry_keeps_its_place_and_serial_while_others_come_and_go(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    first, second = replace(ENTRY, fault_id="a"), replace(ENTRY, fault_id="b")
    page.write([first])
    page.write([*page.entries(), second])
    serial = page.entries()[1].serial
    page.write([e for e in page.entries() if e.fault_id == "b"])
    assert (page.place_of("b"), page.entries()[0].serial) == (1, serial)
    assert page.place_of("a") is None
    page.write([*page.entries(), first])
    assert (page.place_of("a"), page.place_of("b")) == (0, 1)
    assert page.entries()[0].serial > serial, "armed anew, it is another arming"


def test_an_older_page_is_disarmed_and_makes_way(tmp_path: Path) -> None:
    path = tmp_path / "page"
    Page(path).write([ENTRY])
    raw = bytearray(path.read_bytes())
    raw[fields("page")["version"]] = (1).to_bytes(4, "little")
    path.write_bytes(raw)
    with path.open("rb") as mapped_elsewhere:
        page = Page(path)
        old = mapped_elsewhere.read()
    assert number(old, "page", "armed") == 0
    assert page.entries() == []
    assert number(path.read_bytes(), "page", "version") == constants()["PAGE_VERSION"]


def test_a_newer_page_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "page"
    Page(path).write([ENTRY])
    raw = bytearray(path.read_bytes())
    raw[fields("page")["version"]] = (constants()["PAGE_VERSION"] + 1).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="newer release"):
        Page(path)
    assert path.read_bytes() == bytes(raw)


def test_constants_of_the_layout_fit_the_structures() -> None:
    c = constants()
    assert c["PAGE_FIRST_ENTRY"] + c["PAGE_ENTRIES"] * c["ENTRY_SIZE"] <= c["PAGE_SIZE"]
    for structure, size in (("entry", "ENTRY_SIZE"), ("state", "STATE_SIZE")):
        assert max(s.stop for s in fields(structure).values()) <= c[size]
    assert max(s.stop for s in fields("page").values()) <= c["PAGE_FIRST_ENTRY"]
    assert {f"MODE_{mode.upper()}" for mode in MODES} == {n for n in c if n.startswith("MODE_")}
