# SPDX-License-Identifier: Apache-2.0
"""janitor and its provider: carry out a RebootNode, for real."""

from __future__ import annotations

import logging
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ..kube import Cache, Kube, Obj, Work
from .events import stamp
from .remediation import REBOOT
from .settings import intervals

TTL = timedelta(hours=336)
LEASES = "nvsentinel"
MARKER = Path("/proc/1/root/etc/faultline-lab-node")
REBOOT_MAGIC = (0xFEE1DEAD, 672274793, 0x01234567)
log = logging.getLogger("lab.sentinel.janitor")


def conditions(found: Obj) -> dict[str, str]:
    """Condition statuses of a maintenance object by type."""
    return {c["type"]: c["status"] for c in (found.get("status") or {}).get("conditions") or []}


def condition(kind: str, status: str, reason: str) -> dict[str, Any]:
    """One condition of a maintenance object."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": reason,
        "lastTransitionTime": stamp(),
    }


class Janitor:
    """Looks after RebootNodes: one at a time, Lease first, then the signal, then the boot id."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.work = Work(self.look)
        self.requests: Cache

    def run(self) -> None:
        """Work for ever."""
        self.requests = self.kube.follow(*REBOOT, self._request)
        self.kube.follow("v1", "Node", self._node)
        self.work.run()

    def _request(self, op: str, found: Obj) -> None:
        if op != "DELETED" and conditions(found).get("NodeReady") != "True":
            self.work.add(found["metadata"]["name"])

    def _node(self, _op: str, node: Obj) -> None:
        for found in (getattr(self, "requests", None) and self.requests.values()) or []:
            waiting = conditions(found).get("NodeReady") != "True"
            if found["spec"]["nodeName"] == node["metadata"]["name"] and waiting:
                self.work.add(found["metadata"]["name"])

    def look(self, name: str) -> float | None:
        """Bring one request further."""
        found = self.kube.get(*REBOOT, name)
        node = self.kube.get("v1", "Node", found["spec"]["nodeName"]) if found else None
        if not found or not node:
            return None
        state, info = conditions(found), node["status"]["nodeInfo"]
        if not state:
            self._begin(found, info["bootID"])
            return intervals().signal
        if state.get("SignalSent") != "True":
            self._signal(found)
            return None
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
        )
        before = (found.get("status") or {}).get("bootIDBefore")
        # Ready alone says nothing: a node that has not gone down yet is Ready too.
        if state.get("NodeReady") != "True" and ready and info["bootID"] != before:
            done = [condition("SignalSent", "True", "Succeeded")]
            done.append(condition("NodeReady", "True", "Succeeded"))
            self._status(found, {"conditions": done, "completionTime": stamp()})
            lease = ("coordination.k8s.io/v1", "Lease", found["spec"]["nodeName"])
            self.kube.delete(*lease, LEASES)
        return None

    def _begin(self, found: Obj, boot_id: str) -> None:
        meta, until = found["metadata"], datetime.now(UTC) + TTL
        expiry = {"nvsentinel.nvidia.com/expiry": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.kube.patch(*REBOOT, meta["name"], {"metadata": {"annotations": expiry}})
        owner = {
            "apiVersion": REBOOT[0],
            "kind": REBOOT[1],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        self.kube.create(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": found["spec"]["nodeName"],
                    "namespace": LEASES,
                    "ownerReferences": [owner],
                },
                "spec": {"holderIdentity": meta["name"]},
            }
        )
        first = [condition("SignalSent", "Unknown", "Initializing")]
        first.append(condition("NodeReady", "Unknown", "Initializing"))
        self._status(found, {"conditions": first, "bootIDBefore": boot_id})

    def _signal(self, found: Obj) -> None:
        """The provider on the node sees SignalSent and pulls the plug."""
        sent = [condition("SignalSent", "True", "Succeeded")]
        sent.append(condition("NodeReady", "Unknown", "Initializing"))
        self._status(found, {"conditions": sent, "startTime": stamp()})

    def _status(self, found: Obj, status: dict[str, Any]) -> None:
        self.kube.patch(
            *REBOOT, found["metadata"]["name"], {"status": status}, subresource="status"
        )


def reboot() -> None:
    """Reboot this lab node: reboot(2) in its PID namespace ends the namespace.

    Raises RuntimeError on anything that is not marked as a lab node: in the machine's first PID
    namespace the same call reboots the machine.
    """
    if not MARKER.exists():
        raise RuntimeError("this is no lab node (no /etc/faultline-lab-node): not rebooted")
    enter = ["--target=1", "--mount", "--uts", "--ipc", "--pid"]
    code = (
        "import ctypes,os\n"
        "assert os.path.exists('/etc/faultline-lab-node')\n"
        f"ctypes.CDLL(None).syscall(169, *map(ctypes.c_ulong, {REBOOT_MAGIC}), None)"
    )
    os.sync()
    os.execvp("nsenter", ["nsenter", *enter, "python3", "-c", code])


def provide(kube: Kube) -> None:
    """The provider of one node: reboots it when the janitor has sent the signal."""
    node = os.environ["NODE_NAME"]
    boot_id = Path("/proc/1/root/proc/sys/kernel/random/boot_id").read_text().strip()
    asked = threading.Event()

    def seen(op: str, found: Obj) -> None:
        state, mine = conditions(found), found["spec"]["nodeName"] == node
        before = (found.get("status") or {}).get("bootIDBefore")
        waiting = state.get("SignalSent") == "True" and state.get("NodeReady") != "True"
        if op != "DELETED" and mine and waiting and before == boot_id:
            asked.set()

    kube.follow(*REBOOT, seen)
    asked.wait()
    log.warning("rebooting %s", node)
    reboot()


def run(kube: Kube) -> None:
    """Work for ever."""
    threading.Thread(target=Janitor(kube).run, daemon=True).start()
    threading.Event().wait()
