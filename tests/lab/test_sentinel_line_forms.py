# SPDX-License-Identifier: Apache-2.0
"""Forms of a kernel line, through a real journald, the monitor's real reading and its parser.

The lines and what came of them were recorded with the real monitor. Only the kernel is played: a
FIFO in the place of /dev/kmsg, as on a lab node.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sentinel_replay import recorded

from lab.kernel_log.__main__ import CONFIG
from lab.kernel_log.relay import SEED, open_fifo, rewrite
from lab.kube import Kube
from lab.sentinel.journal import Files, Monitor
from lab.sentinel.parse import ACTIONS, condition_text

pytestmark = pytest.mark.lab

GPUS = [
    {"pci_address": f"0000:{n}a:00.0", "uuid": f"GPU-{n * 8}-{n * 4}-{n * 4}-{n * 4}-{n * 12}"}
    for n in "123"
]
JOURNALD = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log
touch /run/systemd/journal/flushed
cp "$1/journald.conf" /run/systemd/journald.conf.d/lab.conf
mount --bind "$1/log" /var/log
mount --bind "$1/kmsg" /dev/kmsg
mount --bind "$1/machine-id" /etc/machine-id
mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
exec /lib/systemd/systemd-journald
"""
# Journal fields of the recorded lines, by run id: identifier, priority and where MESSAGE begins.
STORED = {
    "gold-9a": ("NVRM", "3", "Xid (PCI:0000:1a:00)"),
    "gold-9c": ("NVRM", "3", "NVRM: Xid (PCI:0000:2a:00.0)"),
    "gold-9d": ("kernel", "4", "NVRM: Xid (PCI:0000:3a:00)"),
    "gold-9e": ("NVRM", "4", "Xid (PCI:0000:1a:00)"),
    "gold-9f": (None, "3", "[1.2] NVRM: Xid (PCI:00000000:2A:00.0)"),
    "gold-9g": (None, "3", "lab test NVRM: Xid (PCI:0000:3a:00)"),
}


class Kernel:
    """A node's kernel log with a journald behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sequence = folder, 0
        self.files = Files(
            folder / "log" / "journal", folder / "state.json", folder / "gpus.json", folder / "boot"
        )
        machine = uuid.uuid4().hex
        (folder / "log" / "journal" / machine).mkdir(parents=True)
        (folder / "machine-id").write_text(machine)
        (folder / "boot_id").write_text(str(uuid.uuid4()))
        (folder / "journald.conf").write_text(CONFIG)
        (folder / "gpus.json").write_text(json.dumps({"gpus": GPUS}))
        self.fifo = open_fifo(folder / "kmsg")
        self.journald = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", JOURNALD, "journald", str(folder)]
        )

    def write(self, *lines: str) -> dict[str, dict[str, Any]]:
        """Write lines as a program does; returns their journal records by run id, once stored."""
        for line in lines:
            level, text = re.fullmatch(r"(?:<(\d)>)?(.*)", line).groups()  # type: ignore[union-attr]
            # Facility 1, user: the kernel gives no program another one. Level 4 is the default.
            record = f"{8 + int(level or 4)},{self.sequence},{self.sequence},-;{text}\n"
            os.write(self.fifo, rewrite(record.encode(), self.sequence))
            self.sequence += 1
        return self._stored({line.rpartition("run=")[2] for line in lines})

    def _stored(self, runs: set[str]) -> dict[str, dict[str, Any]]:
        follow = ["--follow", "--merge", "--lines=all", "--output=json", "_TRANSPORT=kernel"]
        command = ["journalctl", f"--directory={self.files.journal}", *follow]
        found: dict[str, dict[str, Any]] = {}
        with subprocess.Popen(["timeout", "20", *command], stdout=subprocess.PIPE) as reader:
            assert reader.stdout
            for line in reader.stdout:
                record = json.loads(line)
                found[record["MESSAGE"].rpartition("run=")[2]] = record
                if runs <= found.keys():
                    break
            # Which timeout passes on to journalctl.
            reader.terminate()
        assert runs <= found.keys(), f"journald has not stored {runs - found.keys()}"
        return found

    def end(self) -> None:
        """End journald; its mounts go with it."""
        self.journald.kill()
        self.journald.wait()
        os.close(self.fifo)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    made = Kernel(tmp_path)
    yield made
    made.end()


class Published:
    """Takes the place of the client and keeps what the monitor publishes."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        self.events.append(body["spec"])
        return body

    def runs(self) -> list[str]:
        """Run ids of the faults in the order in which they were published."""
        return [event["message"].rpartition("run=")[2] for event in self.events]


def lines() -> list[str]:
    """The recorded lines."""
    return [row["change"]["kmsg"] for row in recorded("s9") if row["op"] == "WRITE"]


def reported() -> dict[str, tuple[dict[str, Any], str]]:
    """By run id: the entry of the node's annotation, and the message of its condition."""
    entries, messages = {}, {}
    for row in recorded("s9"):
        change = row["change"]
        for entry in json.loads(change.get("annotations", {}).get("quarantineHealthEvent", "[]")):
            entries[entry["message"].rpartition("run=")[2]] = entry
        for condition in change.get("conditions", {}).values():
            run = re.search(r"run=(\S+)", condition["message"])
            assert run
            messages[run.group(1)] = condition["message"]
    return {run: (entry, messages[run]) for run, entry in entries.items()}


def test_journald_takes_the_first_token_off_a_line_as_recorded(kernel: Kernel) -> None:
    kernel.write(f"<6>{SEED} run=seed")
    found = kernel.write(*lines())
    for run, (identifier, priority, begin) in STORED.items():
        record = found[run]
        fields = (record.get("SYSLOG_IDENTIFIER"), record["PRIORITY"])
        assert (run, *fields) == (run, identifier, priority)
        assert record["MESSAGE"].startswith(begin)
        assert (record["SYSLOG_FACILITY"], record["_TRANSPORT"]) == ("1", "kernel")


def test_the_monitor_reports_the_lines_that_were_reported(kernel: Kernel) -> None:
    published = Published()
    monitor = Monitor(cast(Kube, published), "gpu-node-1", kernel.files)
    kernel.write(f"<6>{SEED} run=seed")
    monitor.look()
    running, down, later = lines()[:4], lines()[4:6], lines()[6:]
    kernel.write(*running)
    monitor.look()
    # The recorded monitors were down now, and came back without their state file.
    kernel.write(*down)
    kernel.files.state.unlink()
    monitor = Monitor(cast(Kube, published), "gpu-node-1", kernel.files)
    monitor.look()
    kernel.write(*later)
    monitor.look()
    wanted = reported()
    assert sorted(published.runs()) == sorted(wanted)
    for run, event in zip(published.runs(), published.events, strict=True):
        entry, message = wanted[run]
        same = ("message", "errorCode", "entitiesImpacted", "isFatal", "checkName", "agent")
        assert {key: event[key] for key in same} == {key: entry[key] for key in same}
        assert ACTIONS[event["recommendedAction"]] == entry["recommendedAction"]
        assert f"{condition_text(event)};" == message


def test_the_first_record_of_an_empty_journal_is_swallowed(kernel: Kernel) -> None:
    published = Published()
    monitor = Monitor(cast(Kube, published), "gpu-node-1", kernel.files)
    monitor.look()
    assert monitor.state["check_last_cursors"] == {}
    kernel.write("<3>[1.2] NVRM: Xid (PCI:0000:1a:00): 79 run=first")
    monitor.look()
    kernel.write("<3>[1.3] NVRM: Xid (PCI:0000:1a:00): 79 run=second")
    monitor.look()
    assert published.runs() == ["second"]


def test_a_monitor_with_its_state_file_goes_on_where_it_was(kernel: Kernel) -> None:
    published = Published()
    kernel.write(f"<6>{SEED} run=seed")
    Monitor(cast(Kube, published), "gpu-node-1", kernel.files).look()
    kernel.write("<3>[1.2] NVRM: Xid (PCI:0000:1a:00): 79 run=meanwhile")
    Monitor(cast(Kube, published), "gpu-node-1", kernel.files).look()
    assert published.runs() == ["meanwhile"]
