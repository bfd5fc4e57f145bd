# SPDX-License-Identifier: Apache-2.0
"""Reports the node: GPUs, shim builds, control page, processes. One GPUHost object per node."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes.client import ApiException

from . import clock, gpus
from .faults import Faults
from .kube import GROUP_VERSION, HOST, Cache, Kube, Obj
from .page import Page
from .processes import Processes
from .shimstate import LIBRARY

log = logging.getLogger("faultline.host")
# Where NVSentinel's monitor keeps its place in the journal; without one it reports nothing.
# Not below /var/run: that is an absolute link, which would lead into our own container.
DETECTOR = Path("/proc/1/root/run/nvsentinel/syslog_monitor/state.json")
XID_CHECK = "SysLogsXIDError"
SCAN_SECONDS, HEARTBEAT_SECONDS = 0.5, 10.0
# While a fault is armed a process may be hit and die within one scan: read more often.
ARMED_SECONDS = 0.05


def pod_names(pods: Cache) -> Callable[[str, str], tuple[str, str, str] | None]:
    """A function from pod UID and container id to namespace, pod and container."""

    def find(uid: str, container_id: str) -> tuple[str, str, str] | None:
        pod = pods.objects.get(uid)
        if pod is None:
            return None
        status = pod.get("status", {})
        parts = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for part in (p for name in parts for p in status.get(name) or []):
            if container_id and container_id in (part.get("containerID") or ""):
                return pod["metadata"]["namespace"], pod["metadata"]["name"], part["name"]
        return None

    return find


def detector(state: Path) -> Obj:
    """Whether NVSentinel's monitor has taken its place in the node's journal, and in which boot.

    It remembers its place at its first look and reports only what is written afterwards.
    """
    try:
        content = json.loads(state.read_text())
        armed = bool((content.get("check_last_cursors") or {}).get(XID_CHECK))
        return {"armed": armed, "bootID": str(content.get("boot_id") or "")}
    except (OSError, ValueError):
        return {"armed": False, "bootID": ""}


class Reporter:
    """Writes the status of the node's GPUHost when it changes, and every ten seconds."""

    def __init__(
        self,
        kube: Kube,
        node: str,
        pod: str,
        page: Page,
        processes: Processes,
        faults: Faults,
        driver: Path,
        shims: Path,
        ready: Path,
    ) -> None:
        self.kube, self.node, self.pod, self.page = kube, node, pod, page
        self.processes, self.faults = processes, faults
        self.driver, self.shims, self.ready = driver, shims, ready
        self.boot_id, self.since = "", clock.stamp()

    def begin(self) -> None:
        """Make the object if there is none, take over kept evidence, and start reporting."""
        found = self.kube.get(HOST, self.node)
        if found is None:
            self._create()
        before = (found or {}).get("status", {}).get("processes") or []
        hit = [p for p in before if (p.get("shim") or {}).get("hits")]
        self.processes.scan()
        living = {(p["podUID"], p["pid"]) for p in self.processes.as_status()}
        lost = [p for p in hit if p.get("exited") or (p["podUID"], p["pid"]) not in living]
        self.processes.exited = [p | {"exited": True} for p in lost]
        threading.Thread(target=self._run, daemon=True, name="host").start()

    def _create(self) -> None:
        body: Obj = {"apiVersion": GROUP_VERSION, "kind": HOST, "metadata": {"name": self.node}}
        try:
            self.kube.create(body)
        except ApiException as error:
            if error.status != 409:
                raise

    def status(self) -> Obj:
        """The node as it is now, without the time of observation."""
        entries = self.page.entries()
        return {
            "agentPod": self.pod,
            "agentReadyAt": self.since,
            "bootID": self.boot_id,
            "gpus": [gpu.as_status() for gpu in gpus.on_node(self.driver)],
            "shimBuilds": sorted(f.parent.name for f in self.shims.glob(f"*/{LIBRARY}")),
            "page": {
                "generation": self.page.generation,
                "armed": len(entries),
                "entries": [
                    {"faultId": e.fault_id, "xid": e.xid, "uuid": e.gpu_uuid, "mode": e.mode}
                    for e in entries
                ],
                "inode": self.page.inode,
            },
            "detector": detector(DETECTOR),
            "processes": self.processes.as_status(),
        }

    def _report(self, status: Obj) -> None:
        body = {"status": status | {"observedAt": clock.stamp()}}
        if self.kube.patch(HOST, self.node, body, status=True) is None:
            self._create()
            self.kube.patch(HOST, self.node, body, status=True)
        if status["gpus"]:
            self.ready.touch()

    def _run(self) -> None:
        last: dict[str, Any] = {}
        reported = scanned = float("-inf")
        pause = threading.Event()
        while True:
            try:
                now = time.monotonic()
                if now - scanned < SCAN_SECONDS:
                    self.processes.read()
                    self.faults.genuine_refused(self.processes.genuine_refusals())
                else:
                    scanned = now
                    self.processes.scan()
                    self.processes.forget(self.faults.names())
                    if now - reported >= HEARTBEAT_SECONDS:
                        self.boot_id = self.kube.boot_id(self.node)
                        self.faults.booted(self.boot_id)
                    status = self.status()
                    if status != last or now - reported >= HEARTBEAT_SECONDS:
                        self._report(status)
                        last, reported = status, now
            except Exception:
                # The API server may be away; the readings go on.
                log.exception("report of %s", self.node)
            pause.wait(ARMED_SECONDS if self.page.entries() else SCAN_SECONDS)
