# SPDX-License-Identifier: Apache-2.0
"""Evidence of processes: found in ELF images, decoded, and kept after a process died of a fault."""

from __future__ import annotations

import ctypes
from pathlib import Path

from faultline_service import shimstate
from faultline_service.layout import constants, fields
from faultline_service.processes import CONTAINER, POD, Process, Processes

UID = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"


def state(hits: int, fault: str = "f") -> bytes:
    """An evidence object with hits of class S."""
    raw, at = bytearray(constants()["STATE_SIZE"]), fields("state")
    values = {"magic": constants()["STATE_MAGIC"], "page_mapped": 1, "latched_code": 719}
    for name, value in (values | {"hits": hits, "first_hit": 1 if hits else 0}).items():
        raw[at[name]] = value.to_bytes(at[name].stop - at[name].start, "little")
    raw[at["hits_by_class"].start + 8] = hits
    raw[at["fault_id"].start : at["fault_id"].start + len(fault)] = fault.encode()
    return bytes(raw)


def process(pid: int, raw: bytes) -> Process:
    return Process(pid, ("1", 1), UID, "c" * 64, "engine", ["GPU-1"], "ns", "pod", "main", raw=raw)


def test_a_symbol_is_found_where_the_loader_puts_it() -> None:
    line = next(x for x in Path("/proc/self/maps").read_text().splitlines() if "libc.so.6" in x)
    base, path = int(line.split("-")[0], 16), line.split(maxsplit=5)[5]
    offset = shimstate.symbol_offset(Path(path).read_bytes(), b"getpid")
    wanted = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert offset is not None
    assert base + offset == wanted


def test_what_is_no_elf_image_has_no_symbol() -> None:
    assert shimstate.symbol_offset(b"#!/bin/sh\n" * 10) is None


def test_hits_are_told_by_class_and_with_the_fault_they_belong_to() -> None:
    found = shimstate.evidence(state(3))
    assert (found["hits"], found["hitsByClass"], found["faultId"]) == (3, {"S": 3}, "f")
    assert (found["latchedCode"], found["pageMapped"]) == (719, True)
    assert shimstate.evidence(None) == {"mapped": False}


def test_the_evidence_of_a_process_that_died_stays_until_its_fault_is_gone(tmp_path: Path) -> None:
    followed = Processes(lambda *_: None, tmp_path)
    followed.alive = {7: process(7, state(2)), 8: process(8, state(0))}
    followed.scan()
    (kept,) = followed.as_status()
    assert (kept["pid"], kept["exited"], kept["shim"]["hits"]) == (7, True, 2)
    followed.forget({"f"})
    assert len(followed.as_status()) == 1
    followed.forget(set())
    assert followed.as_status() == []


def test_pod_and_container_are_read_from_every_form_of_cgroup() -> None:
    container = "0123456789abcdef" * 4
    plain = f"0::/kubepods/burstable/pod{UID}/{container}"
    slices = f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice"
    systemd = f"0::/{slices}/cri-containerd-{container}.scope"
    for group in (plain, systemd, f"0::/../../pod{UID}/{container}"):
        pod = POD.search(group)
        assert pod is not None
        assert pod.group(1).replace("_", "-") == UID
        assert CONTAINER.findall(group)[-1] == container
