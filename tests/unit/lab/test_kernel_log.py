# SPDX-License-Identifier: Apache-2.0
"""A node's kernel log: which records, how written, and what a real journald makes of them."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.gpu.identity import gpus
from lab.kernel_log import relay
from lab.kernel_log.relay import belongs, marks_of, open_fifo, rewrite

TREE = Path(__file__).resolve().parents[3]
JOURNALD = Path("/lib/systemd/systemd-journald")
OURS, OTHERS = gpus("gpu-node-1", 2), gpus("gpu-node-2", 2)
MARKS = marks_of(OURS)
XID = "NVRM: Xid (PCI:0000:1a:00): 79, pid=7, name=python3, GPU has fallen off the bus. run=x"
LIMIT = 60.0


def record(text: str, sequence: int = 5000, priority: int = 11) -> bytes:
    """A record as /dev/kmsg gives it to a reader."""
    return f"{priority},{sequence},7822176852,-;{text}\n".encode()


@pytest.mark.parametrize(
    "text",
    [
        XID,
        "[7822.1] NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.",
        "NVRM: Xid (PCI:00000000:1A:00.0): 79",
        f"NVRM: GPU at PCI:0000:9b:00: {OURS[1].uuid}",
        f"GPU reset executed: {OURS[0].uuid.upper()}, success: true",
    ],
)
def test_a_record_that_names_a_gpu_by_address_or_uuid_belongs_to_its_node(text: str) -> None:
    assert belongs(record(text), MARKS)
    assert not belongs(record(text), marks_of(OTHERS))


@pytest.mark.parametrize(
    "raw",
    [
        record("usb 1-1: new high-speed USB device"),
        record(XID.replace("1a", "2a")),
        record("NVRM: Xid (PCI:0000:1c:00): 79"),
        b"6,1,0,0000:1a:00;a mark before the text\n",
        b"",
    ],
)
def test_records_that_name_none_of_the_nodes_gpus_do_not_belong_to_it(raw: bytes) -> None:
    assert not belongs(raw, MARKS)


@pytest.mark.parametrize(
    ("raw", "sequence", "written"),
    [
        (b"11,5000,7822,-;NVRM: Xid\n", 1, b"11,1,7822,-;NVRM: Xid\n"),
        (b"3,77,0,c,caller=T1;[1.2] NVRM: Xid\n", 12, b"3,12,0,-;[1.2] NVRM: Xid\n"),
        (b"4,1,2,-;one; two, three\n", 3, b"4,3,2,-;one; two, three\n"),
        (b"4,1,2,-;a line\n SUBSYSTEM=pci\n DEVICE=+pci\n", 3, b"4,3,2,-;a line\n"),
        (b"4,1,2,-;no newline", 3, b"4,3,2,-;no newline\n"),
    ],
)
def test_a_record_keeps_priority_time_and_text_and_gets_the_nodes_own_number(
    raw: bytes, sequence: int, written: bytes
) -> None:
    assert rewrite(raw, sequence) == written


def packets(handle: int) -> list[bytes]:
    """What waits in a FIFO, one item per read."""
    os.set_blocking(handle, False)
    found = []
    while select.select([handle], [], [], 0)[0]:
        found.append(os.read(handle, 8192))
    return found


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[int]:
    handle = open_fifo(tmp_path / "kmsg")
    yield handle
    os.close(handle)


@pytest.fixture
def source() -> Iterator[tuple[int, int]]:
    """Reading and writing end of a pipe that keeps records apart, as a kernel log does."""
    reading, writing = os.pipe2(os.O_DIRECT)
    yield reading, writing
    os.close(reading)


def test_two_writes_to_the_fifo_are_two_reads_even_into_a_larger_buffer(tmp_path: Path) -> None:
    writing = open_fifo(tmp_path / "kmsg")
    reading = os.open(tmp_path / "kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.write(writing, b"one")
    os.write(writing, b"two")
    assert [os.read(reading, 8192), os.read(reading, 8192)] == [b"one", b"two"]
    os.close(reading)
    os.close(writing)


def test_a_fifo_left_by_an_earlier_run_is_made_anew(tmp_path: Path) -> None:
    old = open_fifo(tmp_path / "kmsg")
    os.write(old, b"from an earlier run")
    new = open_fifo(tmp_path / "kmsg")
    assert packets(new) == []
    os.close(old)
    os.close(new)


def test_a_full_fifo_makes_the_relay_wait_instead_of_losing_records(fifo: int) -> None:
    assert os.get_blocking(fifo)


def test_the_relay_begins_with_the_seed_and_numbers_only_what_it_passes_on(
    source: tuple[int, int], fifo: int
) -> None:
    reading, writing = source
    texts = ["a", XID, XID.replace("1a", "2a"), "b", XID.replace("1a", "1b"), f"{OURS[0].uuid}"]
    for number, text in enumerate(texts):
        os.write(writing, record(text, 5000 + number))
    os.close(writing)
    with pytest.raises(EOFError):
        relay.relay(reading, fifo, MARKS)
    found = packets(fifo)
    assert found[0] == f"6,0,0,-;{relay.SEED}\n".encode()
    assert [p.partition(b";")[2].decode() for p in found[1:]] == [
        f"{text}\n" for text in (texts[1], texts[4], texts[5])
    ]
    assert [int(p.split(b",")[1]) for p in found] == [0, 1, 2, 3]


def test_records_that_the_kernel_overwrote_do_not_end_the_relay(
    fifo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = iter([BrokenPipeError(), record(XID), BrokenPipeError(), record(XID), b""])

    def read(_handle: int, _size: int) -> bytes:
        outcome = next(reads)
        if isinstance(outcome, BrokenPipeError):
            raise outcome
        return outcome

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(EOFError):
        relay.relay(-1, fifo, MARKS)
    monkeypatch.undo()
    assert len(packets(fifo)) == 3


# argv: path of the FIFO, then journald's command. The source is standard input.
SERVE = """
import sys
from pathlib import Path
from lab.kernel_log.__main__ import open_fifo, serve
sys.exit(serve(0, open_fifo(Path(sys.argv[1])), [b"0000:1a:00"], sys.argv[2:]))
"""


def serving(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """A process that runs the relay beside `command` in journald's place."""
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder / "kmsg"), *command],
        cwd=TREE,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# In journald's place: begins, and ends well when it is told to end.
POLITE = "trap 'kill $!; exit 0' TERM; sleep 60 >/dev/null 2>&1 & echo begun >&2; wait"


def test_a_relay_that_ends_takes_journald_along_and_is_a_failure_with_a_reason(
    tmp_path: Path,
) -> None:
    process = serving(tmp_path, "sh", "-c", POLITE)
    assert process.stderr
    assert process.stderr.readline() == b"begun\n"
    _, said = process.communicate(timeout=LIMIT)  # ends the source
    assert process.returncode == 1
    assert b"the kernel log has ended" in said


@pytest.mark.parametrize("status", [0, 3])
def test_a_journald_that_ends_takes_the_relay_along_with_its_status(
    tmp_path: Path, status: int
) -> None:
    process = serving(tmp_path, "sh", "-c", f"exit {status}")
    assert process.wait(timeout=LIMIT) == status
    assert process.stdin
    process.stdin.close()


def test_a_pod_that_is_told_to_end_ends_journald_and_has_not_failed(tmp_path: Path) -> None:
    process = serving(tmp_path, "sh", "-c", POLITE)
    assert process.stderr
    assert process.stderr.readline() == b"begun\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=LIMIT) == 0
    process.communicate()


# In a mount namespace of its own: what journald and `prepare` write stays in it, but for the log.
# argv: the test's folder. The source is standard input.
REAL = """
import subprocess, sys
from pathlib import Path
from lab.kernel_log import __main__ as log
folder = Path(sys.argv[1])
def mount(*words): subprocess.run(["mount", *map(str, words)], check=True)
mount("-t", "tmpfs", "tmpfs", "/run")
for name in ("upper", "work"):
    Path("/run", name).mkdir()
mount("-t", "overlay", "-o", "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work", "etc", "/etc")
mount("--bind", folder / "log", "/var/log")
log.NODE = folder
log.prepare()
sys.exit(log.serve(0, log.open_fifo(log.FIFO), [b"0000:1a:00"], log.COMMAND))
"""
BOOT, MACHINE = "6d1b4a1e-4b9c-4b0e-9d57-111111111111", "22222222222222222222222222222222"
# Text, priority of the record; identifier, priority and text in the journal, as recorded from a
# real journald behind a real kernel log.
FORMS = [
    (XID, 11, "NVRM", "3", XID.removeprefix("NVRM: ")),
    (XID, 12, "NVRM", "4", XID.removeprefix("NVRM: ")),
    (f"[1.2] {XID}", 11, None, "3", f"[1.2] {XID}"),
    (f"NVRM: {XID}", 11, "NVRM", "3", XID),
    (f"kernel: {XID}", 12, "kernel", "4", XID),
    (f"lab test {XID}; part two", 11, None, "3", f"lab test {XID}; part two"),
]


@pytest.fixture
def node_log(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node's relay and real journald; its kernel log is the process's standard input."""
    for file, content in (("proc/sys/kernel/random/boot_id", BOOT), ("etc/machine-id", MACHINE)):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(f"{content}\n")
    (tmp_path / "log/journal").mkdir(parents=True)
    reading, writing = os.pipe2(os.O_DIRECT)
    command = ["unshare", "--mount", sys.executable, "-c", REAL, str(tmp_path)]
    process = subprocess.Popen(command, cwd=TREE, stdin=reading, stderr=subprocess.PIPE)
    os.close(reading)
    process.stdin = os.fdopen(writing, "wb", buffering=0)
    yield process
    process.terminate()
    process.communicate(timeout=LIMIT)


@pytest.mark.skipif(not JOURNALD.exists(), reason=f"{JOURNALD} is not installed (package systemd)")
@pytest.mark.skipif(not shutil.which("journalctl"), reason="journalctl is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root")
def test_a_real_journald_strips_the_token_of_bare_lines_and_of_no_others(
    node_log: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert node_log.stdin
    for text, priority, *_ in FORMS:
        node_log.stdin.write(record(XID.replace("1a", "2a"), 1, priority))
        node_log.stdin.write(record(text, 2, priority))
    command = ["journalctl", f"--directory={tmp_path}/log/journal", "--follow", "--merge"]
    reader = subprocess.Popen([*command, "--lines=all", "--output=json"], stdout=subprocess.PIPE)
    assert reader.stdout
    found = []
    while len(found) < 1 + len(FORMS):
        assert select.select([reader.stdout], [], [], LIMIT)[0], node_log.poll()
        entry = json.loads(reader.stdout.readline())
        assert not entry["MESSAGE"].startswith("Missed"), "the numbers have a gap"
        if entry["_TRANSPORT"] == "kernel":
            found.append(entry)
    reader.kill()
    reader.wait()
    seed, *lines = found
    assert (seed["MESSAGE"], seed["PRIORITY"]) == (relay.SEED, "6")
    got = [(e.get("SYSLOG_IDENTIFIER"), e["PRIORITY"], e["MESSAGE"]) for e in lines]
    assert got == [(identifier, level, text) for _, _, identifier, level, text in FORMS]
    assert {e["SYSLOG_FACILITY"] for e in lines} == {"1"}
    assert {(e["_BOOT_ID"], e["_MACHINE_ID"]) for e in found} == {(BOOT.replace("-", ""), MACHINE)}
