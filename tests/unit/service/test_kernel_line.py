# SPDX-License-Identifier: Apache-2.0
"""The kernel line: accepted by those who read kernel logs, written whole, found again."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from faultline_service import kernel_line, profiles

NVSENTINEL = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")
GPUD = re.compile(r"NVRM: Xid \((?:PCI:)?[0-9a-fA-F:]+\): (\d+),")
RUN = "run-20261124-131502-3f2a"


@pytest.mark.parametrize("xid", [*profiles.listed(), 1, 500, 1000])
def test_nvsentinel_and_gpud_read_address_and_number(xid: int) -> None:
    line = kernel_line.text("0000:1a:00", xid, profiles.profile(xid).kernel_text, RUN)
    found, other = NVSENTINEL.search(line), GPUD.search(line)
    assert found is not None
    assert other is not None
    assert found.groups() == ("0000:1a:00", str(xid))
    assert other.group(1) == str(xid)


def test_the_process_is_named_when_it_is_known_and_unknown_as_the_driver_says_it() -> None:
    known = kernel_line.text("0000:1a:00", 79, "GPU has fallen off the bus.", RUN, 4711, "python3")
    assert known == (
        "NVRM: Xid (PCI:0000:1a:00): 79, pid=4711, name=python3, "
        f"GPU has fallen off the bus. run={RUN}"
    )
    unknown = kernel_line.text("0000:1a:00", 79, "GPU has fallen off the bus.", RUN)
    assert "pid='<unknown>', name=<unknown>, GPU" in unknown


def test_a_record_is_one_line_of_error_level_with_its_newline() -> None:
    record = kernel_line.record("NVRM: Xid (PCI:0000:1a:00): 79, x", 155044.07859)
    assert re.fullmatch(rb"<3>\[ *\d+\.\d{6}\] NVRM: Xid [^\n]+\n", record)


def test_a_record_fits_into_one_write_to_the_kernel_log() -> None:
    for xid in profiles.listed():
        line = kernel_line.text("00000000:1a:00", xid, profiles.profile(xid).kernel_text, RUN)
        assert len(kernel_line.record(line, 1e9)) < 976  # the kernel's limit for one record


def test_an_older_line_of_the_same_text_is_not_taken_for_this_one() -> None:
    line = kernel_line.text("0000:1a:00", 94, "Contained", RUN)
    assert kernel_line.matches(kernel_line.Seen(f"[1.0] {line}", 100.5, "kernel"), line, 100.0)
    assert not kernel_line.matches(kernel_line.Seen(f"[1.0] {line}", 90.0, "kernel"), line, 100.0)
    other = line.replace("3f2a", "ffff")
    assert not kernel_line.matches(kernel_line.Seen(other, 100.5, "kernel"), line, 100.0)


def test_writing_makes_no_file_where_there_is_no_kernel_log(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileNotFoundError):
        kernel_line.write("NVRM: Xid", tmp_path / "kmsg")
    assert not (tmp_path / "kmsg").exists()


def test_a_name_that_a_process_chose_begins_no_line_of_its_own() -> None:
    line = kernel_line.text("0000:1a:00", 79, "GPU has fallen.", RUN, 1, "a\n<0>b\x1b\u00e9")
    assert "name=a?<0>b??, GPU has fallen." in line
    assert kernel_line.record(line, 1.0).count(b"\n") == 1


# Says what the real one says: the end of the log when it is asked for lines, else all of it.
JOURNALCTL = """#!/bin/sh
lines=1000
for word; do case $word in --lines=*) lines=${word#--lines=};; --no-tail) lines=1000;; esac; done
tail -n $lines "$JOURNAL"
exec sleep 60
"""


def test_a_line_is_found_however_much_the_kernel_has_said_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, log = tmp_path / "journalctl", tmp_path / "log"
    program.write_text(JOURNALCTL)
    program.chmod(0o755)
    line = kernel_line.text("0000:1a:00", 79, "GPU has fallen off the bus.", RUN)
    now = time.time()
    said = [line, *(f"usb {n}: new device" for n in range(80))]
    rows = [{"MESSAGE": m, "__REALTIME_TIMESTAMP": str(int(now * 1e6))} for m in said]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("JOURNAL", str(log))
    found = kernel_line.wait_in_journal(line, tmp_path, now, 30)
    assert found is not None
    assert found.message == line
