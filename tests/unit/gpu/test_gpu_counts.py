# SPDX-License-Identifier: Apache-2.0
"""Calls that the shim missed: its own count and the driver's, of the same process."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest
from faultline_gpu import arming, counts, missed


def test_both_counts_see_every_call_of_a_process(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "shim").mkdir()
    library = counts.build(tmp_path / "shim")
    program = (
        "import ctypes, json, os, sys; from pathlib import Path; from faultline_gpu import counts\n"
        "from faultline_gpu.driver import Driver\n"
        "d = Driver(); d.start(); [d.call('cuCtxSynchronize') for _ in range(5)]\n"
        "found = ctypes.c_void_p()\n"
        "d.call('cuGetProcAddress_v2', ctypes.c_char_p(b'cuCtxSynchronize'), "
        "ctypes.byref(found), 12000, 0, None)\n"
        "[ctypes.CFUNCTYPE(ctypes.c_int)(found.value)() for _ in range(3)]\n"
        "print(json.dumps(counts.shim(Path(sys.argv[1]))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "shim/counted.names")],
        env=arming.preloaded(tmp_path / "page", library),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["cuCtxSynchronize"] == 8
    assert seen["cuInit"] == seen["cuDevicePrimaryCtxRetain"] == seen["cuGetProcAddress_v2"] == 1


def test_trampolines_that_the_counter_does_not_know_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: None
) -> None:
    (tmp_path / "count.awk").write_text("{ print }\n")
    monkeypatch.setattr(counts, "SOURCES", tmp_path)
    (tmp_path / "shim").mkdir()
    with pytest.raises(ValueError, match="found no trampoline"):
        counts.build(tmp_path / "shim")


FAKE_CUPTI = """
#include <stddef.h>
struct data { int site; const char *name; };
static void (*told)(void *, int, unsigned, const struct data *);
int cuptiSubscribe(void **s, void (*f)(void *, int, unsigned, const struct data *), void *u)
{ *s = &told; told = f; (void)u; return FAIL; }
int cuptiEnableDomain(unsigned on, void *s, int domain) { return !(on && s && domain == 1); }
void tell(int domain, unsigned id, int site, const char *name)
{ struct data d = {site, name}; told(NULL, domain, id, &d); }
"""


def inject(folder: Path, fail: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ctypes.CDLL]:
    """The library that counts, loaded into this process as the driver would, with a false CUPTI."""
    counter, cupti = folder / "cupti_count.so", folder / "cupti.so"
    (folder / "cupti.c").write_text(FAKE_CUPTI)
    for source, out in ((counts.SOURCES / "cupti_count.c", counter), (folder / "cupti.c", cupti)):
        command = ["gcc", "-shared", "-fPIC", f"-DFAIL={fail}", "-o", str(out), str(source)]
        subprocess.run(command, check=True)
    monkeypatch.setenv("FAULTLINE_CUPTI", str(cupti))
    # The C library's own environment: ctypes sees what os.environ puts there.
    assert ctypes.CDLL(str(counter)).InitializeInjection() == 1
    return counter, ctypes.CDLL(str(cupti))


def test_the_drivers_count_takes_entries_of_driver_calls_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, cupti = inject(tmp_path, 0, monkeypatch)
    for domain, site, name in ((1, 0, b"cuA"), (1, 1, b"cuA"), (1, 0, b"cuA"), (2, 0, b"cudaB")):
        cupti.tell(domain, 5, site, name)
    assert counts.cupti(counter) == {"state": 1, "calls": {"cuA": 2}}


def test_a_cupti_that_refuses_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, _ = inject(tmp_path, 39, monkeypatch)
    assert counts.cupti(counter) == {"state": 1039, "calls": {}}


def test_a_call_is_missed_when_the_driver_counted_more_than_the_shim() -> None:
    addresses = {"cuA": 16, "cuB": 32, "cuB_v2": 32, "cuC": 48}
    driver = {"cuA": 3, "cuB_v2": 4, "cuC": 5, "cuNew": 2}
    found = missed.compare(driver, {"cuA": 3, "cuB": 4, "cuC": 1, "fl_pool_0": 2}, addresses)
    assert found["missed"] == [{"functions": ["cuC"], "driver": 5, "shim": 1}]
    assert found["missed_calls"] == 4
    assert found["calls"] == 14


def test_calls_through_a_slot_of_the_pool_explain_one_function_only() -> None:
    found = missed.compare({"cuNew": 2, "cuNewer": 2}, {"fl_pool_0": 2}, {})
    assert found["missed_calls"] == 2
