# SPDX-License-Identifier: Apache-2.0
"""syslog-health-monitor: looks into the node's journal every so often, as the real one does.

It only remembers its place at the first look; what was written before is never reported. Whether
the machine was rebooted it finds out when it starts, and only then.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import replace
from ..kube import Kube
from .events import publish
from .parse import CHECKS, HEALTHY, Event, parse, pci_key
from .settings import intervals

CHECK = CHECKS[0]
log = logging.getLogger("lab.sentinel.monitor")


@dataclass(frozen=True)
class Files:
    """Where a node's monitor finds things, and keeps its own."""

    journal: Path = Path("/nvsentinel/var/log/journal")
    state: Path = Path("/var/run/nvsentinel/syslog_monitor/state.json")
    metadata: Path = Path("/var/lib/nvsentinel/gpu_metadata.json")
    boot_id: Path = Path("/proc/1/root/proc/sys/kernel/random/boot_id")


def read(journal: Path, *options: str) -> list[dict[str, Any]]:
    """Kernel records of the journal in a folder that the options select."""
    command = ["journalctl", f"--directory={journal}", "--output=json", "--no-pager", "--quiet"]
    done = subprocess.run(
        [*command, *options, "_TRANSPORT=kernel"], capture_output=True, text=True, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def uuids(path: Path) -> dict[str, str]:
    """GPU UUIDs by PCI key, from the metadata file; empty without one."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {pci_key(gpu["pci_address"]): gpu["uuid"] for gpu in content["gpus"]}


class Monitor:
    """One node's monitor."""

    def __init__(self, kube: Kube, node: str, files: Files | None = None) -> None:
        self.kube, self.node, self.files = kube, node, files or Files()
        try:
            self.state = json.loads(self.files.state.read_text())
        except (FileNotFoundError, ValueError):
            self.state = {"version": 1, "boot_id": "", "check_last_cursors": {}}

    def save(self) -> None:
        """Keep the place for the next process."""
        self.files.state.parent.mkdir(parents=True, exist_ok=True)
        # In one step: a monitor that finds half of it reports everything as healed and takes its
        # place anew.
        replace(self.files.state, json.dumps(self.state))

    def start(self) -> None:
        """After a reboot everything counts as healed: one healthy event for each check."""
        boot_id = self.files.boot_id.read_text().strip()
        if self.state["boot_id"] != boot_id:
            log.info("boot id changed to %s: everything is healthy", boot_id)
            for check in CHECKS:
                publish(self.kube, Event(self.node, check, True, HEALTHY))
            self.state["boot_id"] = boot_id
            self.save()

    def records(self, *options: str) -> list[dict[str, Any]]:
        """Records of the node's journal."""
        return read(self.files.journal, *options)

    def look(self) -> None:
        """One poll."""
        cursors = self.state["check_last_cursors"]
        if not cursors.get(CHECK):
            last = self.records("--lines=1")
            if last:
                cursors[CHECK] = last[-1]["__CURSOR"]
                self.save()
                log.info("armed")
            return
        known = uuids(self.files.metadata)
        for record in self.records(f"--after-cursor={cursors[CHECK]}"):
            message = record.get("MESSAGE")
            event = parse(message, self.node, known) if isinstance(message, str) else None
            if event:
                log.info("%s %s %s", event.check, event.code or "healthy", event.message)
                publish(self.kube, event)
            cursors[CHECK] = record["__CURSOR"]
            self.save()


def run(kube: Kube) -> None:
    """Poll for ever; like the real one, the first look comes after one interval."""
    monitor = Monitor(kube, os.environ["NODE_NAME"])
    monitor.start()
    ticker = threading.Event()
    while True:
        ticker.wait(intervals().poll)
        monitor.look()
