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
from .events import NAMESPACE, stamp
from .remediation import REBOOT, conditions
from .settings import intervals

LEASE = ("coordination.k8s.io/v1", "Lease")
TTL = timedelta(hours=336)
UNKNOWN, READY = "Node ready state not yet determined", "Node reached ready state post-reboot"
# The lab's own annotation of a RebootNode: the node's boot id before the reboot.
BOOT_ID = "lab.faultline.dev/boot-id"
MARKER = Path("/proc/1/root/etc/faultline-lab-node")
REBOOT_MAGIC = (0xFEE1DEAD, 672274793, 0x01234567)
log = logging.getLogger("lab.sentinel.janitor")


def condition(kind: str, status: str, reason: str, message: str, at: str) -> dict[str, str]:
    """One condition of a maintenance object."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": at,
    }


def boot_id_before(found: Obj) -> str | None:
    """Boot id of the node when its reboot was taken in hand; None before that."""
    found_id: str | None = (found["metadata"].get("annotations") or {}).get(BOOT_ID)
    return found_id


class Janitor:
    """Looks after RebootNodes: Lease first, then the signal, then the node's new boot id.

    The real one with a provider that only pretends to reboot finishes as soon as the signal is
    sent; here a node really reboots, and that is waited for.
    """

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.work = Work(self.look)
        self.requests: Cache | None = None

    def run(self) -> None:
        """Work for ever."""
        self.requests = self.kube.follow(*REBOOT, self._request)
        self.kube.follow("v1", "Node", self._node)
        self.work.run()

    def _request(self, op: str, found: Obj) -> None:
        if op != "DELETED" and conditions(found).get("NodeReady") != "True":
            self.work.add(found["metadata"]["name"])

    def _node(self, _op: str, node: Obj) -> None:
        for found in self.requests.values() if self.requests else []:
            waiting = conditions(found).get("NodeReady") != "True"
            if found["spec"]["nodeName"] == node["metadata"]["name"] and waiting:
                self.work.add(found["metadata"]["name"])

    def look(self, name: str) -> float | None:
        """Bring one request further."""
        found = self.kube.get(*REBOOT, name)
        node = self.kube.get("v1", "Node", found["spec"]["nodeName"]) if found else None
        if not found or not node:
            return None
        state, boot_id = conditions(found), node["status"]["nodeInfo"]["bootID"]
        if state.get("SignalSent") != "True":
            return self._send(found, boot_id)
        ready = conditions(node).get("Ready") == "True"
        # Ready alone says nothing: a node that has not gone down yet is Ready too.
        if state.get("NodeReady") != "True" and ready and boot_id != boot_id_before(found):
            self._complete(found)
        return None

    def _send(self, found: Obj, boot_id: str) -> float | None:
        lease = self._lease(found)
        if not lease:
            return intervals().busy
        until = (datetime.now(UTC) + TTL).strftime("%Y-%m-%dT%H:%M:%SZ")
        annotations = {"nvsentinel.nvidia.com/expiry": until, BOOT_ID: boot_id}
        name, begun = found["metadata"]["name"], lease["metadata"]["creationTimestamp"]
        self.kube.patch(*REBOOT, name, {"metadata": {"annotations": annotations}})
        # As long as the provider takes; nothing else is worked on meanwhile, as recorded.
        threading.Event().wait(intervals().signal)
        sent = condition("SignalSent", "True", "Succeeded", "", stamp())
        unknown = condition("NodeReady", "Unknown", "Initializing", UNKNOWN, begun)
        # The provider on the node sees SignalSent and pulls the plug.
        self._status(found, {"conditions": [sent, unknown], "startTime": begun})
        return None

    def _complete(self, found: Obj) -> None:
        sent = next(c for c in found["status"]["conditions"] if c["type"] == "SignalSent")
        done = condition("NodeReady", "True", "Succeeded", READY, stamp())
        self._status(found, {"conditions": [sent, done], "completionTime": stamp()})
        self.kube.delete(*LEASE, found["spec"]["nodeName"], NAMESPACE)

    def _lease(self, found: Obj) -> Obj | None:
        """The node's Lease, which is this request's; None while another request has it."""
        meta, name = found["metadata"], found["spec"]["nodeName"]
        owner = {
            "apiVersion": REBOOT[0],
            "kind": REBOOT[1],
            "name": meta["name"],
            "uid": meta["uid"],
            "blockOwnerDeletion": True,
        }
        body = {"apiVersion": LEASE[0], "kind": LEASE[1], "spec": {}}
        where = {"name": name, "namespace": NAMESPACE, "ownerReferences": [owner]}
        made = self.kube.create(body | {"metadata": where})
        lease = made or self.kube.get(*LEASE, name, NAMESPACE)
        owners = [o["uid"] for o in lease["metadata"]["ownerReferences"]] if lease else []
        return lease if meta["uid"] in owners else None

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
        waiting = state.get("SignalSent") == "True" and state.get("NodeReady") != "True"
        if op != "DELETED" and mine and waiting and boot_id_before(found) == boot_id:
            asked.set()

    kube.follow(*REBOOT, seen)
    asked.wait()
    log.warning("rebooting %s", node)
    reboot()


def run(kube: Kube) -> None:
    """Work for ever; raises what keeps it from beginning, so that the pod is started again."""
    Janitor(kube).run()
