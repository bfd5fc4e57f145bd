# SPDX-License-Identifier: Apache-2.0
"""What a process with the shim lives through when its GPU gets a fault."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab


def test_without_a_fault_every_call_works_and_nothing_is_counted(every_session: Callable) -> None:
    one = every_session()
    assert one.codes == [0, 0, 0, 0]
    assert one("alloc")[0] == one("sync") == 0
    seen = one.state()
    assert (seen["page_mapped"], seen["hits"], seen["latched_code"]) == (1, 0, 0)


def test_an_armed_fault_fails_the_next_call_of_a_running_process(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    assert one("sync") == 0
    every_lab.arm(code=719)
    assert one("sync") == 719
    seen = one.state()
    assert seen["hits"] == 1
    assert seen["first_function"] == "cuCtxSynchronize"
    assert seen["fault_id"] == "test-fault"


def test_a_poisoned_process_stays_failed_after_disarming_but_a_new_one_works(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    every_lab.arm()
    assert one("sync") == 719
    every_lab.page.write([])
    assert one("sync") == 719
    assert one("alloc")[0] == 719
    assert every_session()("sync") == 0


def test_a_process_that_made_no_call_during_the_fault_is_not_poisoned(
    lab: Lab, session: Callable
) -> None:
    one = session()
    lab.arm()
    lab.page.write([])
    assert one("sync") == 0


def test_a_failed_allocation_leaves_a_null_pointer(every_lab: Lab, every_session: Callable) -> None:
    one = every_session()
    assert one("alloc")[1]
    every_lab.arm()
    assert one("alloc") == [719, 0]


def test_teardown_is_done_for_real_and_reports_the_code(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    one("alloc")
    every_lab.arm()
    assert one("free") == 719
    assert one.end() == 0, "the process can still end"


def test_new_contexts_get_the_code_for_new_contexts(
    every_lab: Lab, every_session: Callable
) -> None:
    every_lab.arm(code=719, code_new=999)
    assert every_session().codes[2] == 999


def test_only_the_targeted_gpu_fails(every_lab: Lab, every_session: Callable) -> None:
    first, second = every_session(0), every_session(1)
    every_lab.arm(gpu=1, code=214)
    assert first("sync") == 0
    assert second("sync") == 214
    assert first.state()["hits"] == 0


def test_a_fault_ends_at_its_deadline_with_nobody_to_end_it(lab: Lab, session: Callable) -> None:
    one, other = session(), session()
    ends = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 2_000_000_000
    lab.arm(not_after=ends)
    assert one("sync") == 719
    while time.clock_gettime_ns(time.CLOCK_BOOTTIME) <= ends:
        time.sleep(0.05)
    assert other("sync") == 0
    assert one("sync") == 719, "what was hit before stays hit"


def test_functions_got_from_cuGetProcAddress_fail_too(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    assert one("gpasync") == 0
    every_lab.arm()
    assert one("gpasync") == 719


def test_the_resolver_hands_out_nothing_but_trampolines(session: Callable) -> None:
    one = session()
    names = ["cuMemAlloc", "cuLaunchKernel", "cuGetProcAddress", "cuStreamSynchronize"]
    addresses = [one(f"gpa {name}") for name in names]
    assert all(code == 0 and address for code, address in addresses)
    assert one.state()["missed"] == 0
    maps = Path(f"/proc/{one.process.pid}/maps").read_text().splitlines()
    ours = [line.split("-") for line in maps if "libfaultline.so" in line]
    spans = [(int(a, 16), int(rest.split()[0], 16)) for a, rest, *_ in ours]
    assert all(any(a <= address < b for a, b in spans) for _code, address in addresses)


def test_nvml_calls_about_the_gpu_report_it_lost(every_lab: Lab, every_session: Callable) -> None:
    one = every_session()
    assert one("nvml") == 0
    every_lab.arm(code_nvml=15)
    assert one("nvml") == 15


def test_a_wait_counts_as_hit_in_its_own_class_only_when_it_fails(
    lab: Lab, session: Callable
) -> None:
    one = session()
    lab.arm(classes="S")
    assert one("sync") == 0
    assert one("alloc")[0] == 719
    assert one("sync") == 719, "the context is poisoned for every call"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"short"),
        lambda path: path.write_bytes(b"\xff" * 4096),
        lambda path: path.write_bytes(path.read_bytes()[:8] + b"\x09" + path.read_bytes()[9:]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
    ],
    ids=["missing", "short", "foreign", "newer version", "too long"],
)
def test_a_page_it_does_not_understand_makes_the_shim_inert(
    lab: Lab, session: Callable, spoil: Callable
) -> None:
    lab.arm()
    spoil(lab.page_path)
    one = session()
    assert one("sync") == 0
    assert one.state()["page_mapped"] == 0


def test_the_page_may_appear_after_the_process_began(
    lab: Lab, session: Callable, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    lab.page_path.rename(away)
    one = session()
    assert one("sync") == 0
    away.rename(lab.page_path)
    assert one("retain") == 0
    lab.arm()
    assert one("sync") == 719


def test_the_kill_switch_keeps_an_armed_fault_away(lab: Lab, session: Callable) -> None:
    lab.arm()
    assert session(FAULTLINE="off")("sync") == 0


def test_no_variable_no_fault(lab: Lab, session: Callable) -> None:
    lab.arm()
    assert session(FAULTLINE_CONTROL="")("sync") == 0


def test_a_writer_killed_in_the_middle_leaves_calls_working(lab: Lab, session: Callable) -> None:
    one = session()
    lab.arm()
    lab.page._put("sequence", 7)
    assert one("sync") == 0


def test_the_build_id_in_the_process_is_the_one_the_makefile_prints(session: Callable) -> None:
    folder = str(Path(__file__).parents[1])
    command = ["make", "-s", "--no-print-directory", "-C", folder, "print-build-id"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert session().state()["build_id"] == printed
