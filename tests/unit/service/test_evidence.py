# SPDX-License-Identifier: Apache-2.0
"""Evidence of processes: found in ELF images, decoded, and kept after a process died of a fault."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faultline_service import processes, shimstate
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
    return Process(
        pid, ("1", "1", 1), UID, "c" * 64, "engine", ["GPU-1"], "ns", "pod", "main", raw=raw
    )


def test_a_symbol_is_found_where_the_loader_puts_it() -> None:
    line = next(x for x in Path("/proc/self/maps").read_text().splitlines() if "libc.so.6" in x)
    base, path = int(line.split("-")[0], 16), line.split(maxsplit=5)[5]
    offset = shimstate.symbol_offset(Path(path).read_bytes(), b"getpid")
    wanted = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert offset is not None
    assert base + offset == wanted


def test_what_is_no_elf_image_has_no_symbol() -> None:
    assert shimstate.symbol_offset(b"#!/bin/sh\n" * 10) is None


BROKEN = {"short": b"\x7fELF\x02\x01", "senseless": b"\x7fELF\x02\x01" + b"\xff" * 90}


@pytest.mark.parametrize("image", BROKEN.values(), ids=BROKEN)
def test_a_process_that_maps_a_broken_file_of_the_shims_name_has_no_evidence(
    tmp_path: Path, image: bytes
) -> None:
    file = tmp_path / shimstate.LIBRARY
    file.write_bytes(image)
    with file.open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), 0, prot=mmap.PROT_READ)
    assert shimstate.address(Path("/proc/self")) is None
    mapped.close()


@pytest.mark.parametrize("size", [0, 1 << 40], ids=["pipe", "huge"])
def test_what_stands_in_the_place_of_the_shims_file_keeps_nobody(tmp_path: Path, size: int) -> None:
    process, file = tmp_path / "proc", tmp_path / "proc/root" / shimstate.LIBRARY
    file.parent.mkdir(parents=True)
    line = f"7f0000000000-7f0000001000 r-xp 00000000 00:00 1 /{shimstate.LIBRARY}\n"
    (process / "maps").write_text(line)
    if size:
        file.touch()
        os.truncate(file, size)
    else:
        os.mkfifo(file)
    look = "import sys, pathlib; from faultline_service import shimstate; "
    look += "print(shimstate.address(pathlib.Path(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", look, str(process)],
        env=os.environ | {"PYTHONPATH": str(Path(shimstate.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "None\n"


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


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("vllm serve --api-key sk-123 --port 80", "vllm serve --api-key *** --port 80"),
        ("x --hf-token=hf_abc PASSWORD=p y", "x --hf-token=*** PASSWORD=*** y"),
        (
            "x --max-num-batched-tokens 8 --tokenizer t",
            "x --max-num-batched-tokens 8 --tokenizer t",
        ),
        ("x --api-key", "x --api-key"),
    ],
)
def test_secrets_on_a_command_line_are_not_shown_to_whoever_reads_the_hosts(
    words: str, shown: str
) -> None:
    assert processes.command_line("\0".join([*words.split(), ""]).encode()) == shown
