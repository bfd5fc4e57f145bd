# SPDX-License-Identifier: Apache-2.0
"""The life of the faults of one node: inject, keep, end. State is in the GPUFault objects.

A fault ends by its deadline, by spec.ended or by deletion, whichever comes first. An agent that
starts anew goes on from the status: it never writes a kernel line twice, and a page entry without
a live fault is taken away.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import clock, gpus, kernel_line
from .kube import ENDED, FAULT, FINALIZER, Cache, Kube, Obj
from .limits import Refused, kernel_boot_id, left, phase_of, refuse_late, refuse_too_many
from .page import Entry, Page
from .processes import program_name
from .profiles import profile
from .target import Node, entry_for, refuse_impossible, refuse_unmarked

log = logging.getLogger("faultline.faults")
JOURNAL_SECONDS = 15.0


class Gone(Exception):
    """The object of a fault is not there any more."""


class Faults:
    """Brings every GPUFault of the node where its spec says, one at a time."""

    def __init__(
        self,
        kube: Kube,
        node: Node,
        page: Page,
        user_of: Callable[[str, str], tuple[int, str] | None] = lambda uuid, pod: None,
    ) -> None:
        """`user_of(gpu uuid, pod uid)` names a process that uses a GPU, for the kernel line."""
        self.kube, self.node, self.page, self.user_of = kube, node, page, user_of
        self.waiting: queue.Queue[str] = queue.Queue()
        self.timers: dict[str, threading.Timer] = {}
        self.cache = Cache(kube, FAULT, "faultline.dev/v1alpha1", self._changed)
        self.boot_id = ""

    def begin(self) -> None:
        """Follow the faults, remove page entries that nobody wants, start working."""
        self.boot_id = kernel_boot_id(self.node.proc) or self.kube.boot_id(self.node.name)
        self.cache.begin()
        live = {f["metadata"]["name"] for f in self.mine() if phase_of(f) not in ENDED}
        if {e.fault_id for e in self.page.entries()} - live:
            self.page.edit(lambda there: [e for e in there if e.fault_id in live])
        threading.Thread(target=self._work, daemon=True, name="faults").start()

    def booted(self, boot_id: str) -> None:
        """Tell the boot id that the kubelet reports, for a node whose kernel does not say its own.

        The kubelet may report it after the agent has started.
        """
        boot_id = kernel_boot_id(self.node.proc) or boot_id
        if boot_id and boot_id != self.boot_id:
            self.boot_id = boot_id
            for name in self.names():
                self.waiting.put(name)

    def mine(self) -> list[Obj]:
        """Faults of this node."""
        return [f for f in self._known() if f["spec"]["node"] == self.node.name]

    def _known(self) -> list[Obj]:
        """Faults of all nodes; a list, as the watch's thread changes the cache at any time."""
        return list(self.cache.objects.values())

    def names(self) -> set[str]:
        """Names of the faults of this node that exist, ended or not."""
        return {f["metadata"]["name"] for f in self.mine()}

    def _changed(self, _kind: str, fault: Obj) -> None:
        name = fault["metadata"]["name"]
        if fault["spec"]["node"] != self.node.name:
            return
        if fault["spec"].get("ended") or fault["metadata"].get("deletionTimestamp"):
            # At once: the work on others, one at a time, may be waiting for the journal.
            self._disarm(name)
        self.waiting.put(name)

    def _later(self, name: str, delay: float) -> None:
        """Look again after `delay` seconds; one timer per fault."""
        if name in self.timers:
            self.timers[name].cancel()
        timer = threading.Timer(max(0.0, delay), self.waiting.put, (name,))
        timer.daemon = True
        self.timers[name] = timer
        timer.start()

    def _work(self) -> None:
        while True:
            name = self.waiting.get()
            try:
                self.look(name)
            except Exception:
                log.exception("%s: trying again", name)
                self._later(name, 1.0)

    def look(self, name: str) -> None:
        """Bring one fault a step on."""
        try:
            self._step(name)
        except Gone:
            self._disarm(name)

    def _step(self, name: str) -> None:
        fault = self.kube.get(FAULT, name)
        if fault is None:
            self.timers.pop(name, None)
            self._disarm(name)
            return
        if fault["spec"]["node"] != self.node.name:
            return
        meta, phase = fault["metadata"], phase_of(fault)
        leaving = bool(meta.get("deletionTimestamp"))
        if not leaving and FINALIZER not in (meta.get("finalizers") or []):
            wanted = [*(meta.get("finalizers") or []), FINALIZER]
            if self.kube.patch(FAULT, name, {"metadata": {"finalizers": wanted}}) is None:
                raise Gone(name)
        reason = self._over(fault)
        if phase not in ENDED and reason:
            self._end(fault, reason)
        elif phase not in ENDED:
            self._live(fault)
        if leaving:
            self._disarm(name)
            left = [f for f in meta.get("finalizers") or [] if f != FINALIZER]
            self.kube.patch(FAULT, name, {"metadata": {"finalizers": left}})

    def _over(self, fault: Obj) -> str | None:
        """Why a fault has to end now, None when it has not."""
        status = fault.get("status", {})
        if fault["metadata"].get("deletionTimestamp"):
            return "Deleted"
        if fault["spec"].get("ended"):
            return "Ended"
        if status.get("bootID") and self.boot_id and status["bootID"] != self.boot_id:
            return "NodeRebooted"
        if status.get("endsAt") and left(status) <= 0:
            return "Deadline"
        return None

    def _over_meanwhile(self, name: str) -> bool:
        """Whether a fault was ended while the journal took its time: calls that fail stay failed.

        Raises Gone when there is none any more.
        """
        fault = self.kube.get(FAULT, name)
        if fault is None:
            raise Gone(name)
        return self._over(fault) is not None

    def _live(self, fault: Obj) -> None:
        """Inject what is not yet, arm what is not armed, and come back at the deadline."""
        name = fault["metadata"]["name"]
        try:
            status = fault.get("status") or {}
            if not status.get("endsAt"):
                status = self._accept(fault)
            if not status.get("kernelLog") and phase_of(fault) != "Active":
                # Asked once more before anything is touched, now that everybody can see that this
                # node's is accepted: of agents that accept at the same moment all may give in, but
                # no two go on.
                refuse_too_many(self.kube.list(FAULT), self.node.name, self.node.most_nodes)
            waits = phase_of(fault) != "Active" or not self._armed(fault)
            # Before the line, which costs the node: what cannot be armed is refused here.
            entry = entry_for(fault, status, self.node, self.kube, self.page) if waits else None
            if "kernelLog" in fault["spec"]["effects"]:
                self._kernel_log(fault, status)
            if waits and self._over_meanwhile(name):
                self.waiting.put(name)
                return
            if waits:
                self._arm(fault, entry)
        except Refused as error:
            self._fail(name, error.reason, str(error))
            return
        self._later(name, left(status))

    def _accept(self, fault: Obj) -> Obj:
        """Fix target and deadline, once: a later agent goes on with these."""
        spec, name = fault["spec"], fault["metadata"]["name"]
        refuse_unmarked(self.kube.get("Node", self.node.name, "v1") or {}, self.node.name)
        # The API has asked this too; an object may have been written without it.
        refuse_too_many(self._known(), self.node.name, self.node.most_nodes)
        refuse_late(fault)
        try:
            gpu = gpus.choose(gpus.on_node(self.node.driver), spec["gpu"])
        except LookupError as error:
            raise Refused("GpuNotFound", str(error)) from error
        facts, now = profile(spec["xid"]), time.time()
        refuse_impossible(facts, spec.get("cuda") or {}, self.node)
        status: Obj = {
            "phase": "Pending",
            "observedGeneration": fault["metadata"]["generation"],
            "gpu": gpu.as_status(),
            "injectedAt": clock.stamp(now),
            "endsAt": clock.stamp(now + spec["durationSeconds"]),
            "endsAtBoottime": clock.boottime() + spec["durationSeconds"] * clock.SECOND,
            "bootID": self.boot_id,
            "nvsentinel": {"fatal": facts.fatal, "action": facts.action},
        }
        self._patch(name, status)
        return status

    def _user(self, target: Obj, gpu_uuid: str) -> tuple[int | None, str | None]:
        """Number and name of the process for the kernel line: the target, else one that uses it."""
        if target.get("pid"):
            comm = self.node.proc / str(target["pid"]) / "comm"
            return target["pid"], program_name(comm)
        return self.user_of(gpu_uuid, target.get("podUID") or "") or (None, None)

    def _kernel_log(self, fault: Obj, status: Obj) -> None:
        """Write the kernel line unless it was, and wait until the node's journal has it."""
        spec, name, before = fault["spec"], fault["metadata"]["name"], status.get("kernelLog") or {}
        if (before.get("journal") or {}).get("seen"):
            return
        if not before.get("writtenAt"):
            gpu = next(g for g in gpus.on_node(self.node.driver) if g.uuid == status["gpu"]["uuid"])
            pid, program = self._user((spec.get("cuda") or {}).get("target") or {}, gpu.uuid)
            branch = gpus.driver_branch(self.node.driver)
            line = kernel_line.text(
                gpu.pci_logged,
                spec["xid"],
                profile(spec["xid"]).text_for(branch, gpu.index),
                spec.get("runId") or name,
                pid,
                spec.get("processName") or program,
            )
            before = {"line": line, "writtenAt": clock.stamp()}
            # Said before it is done: an agent that dies in between must not write it again.
            self._patch(name, {"kernelLog": before})
            try:
                number = kernel_line.write(line, self.node.kmsg)
            except OSError as error:
                raise Refused("KernelLogUnwritable", f"{self.node.kmsg}: {error}") from error
            self._patch(name, {"kernelLog": {"kmsgSequence": number}})
        since = clock.seconds(before["writtenAt"])
        seen = kernel_line.wait_in_journal(
            before["line"], self.node.journal, since, JOURNAL_SECONDS
        )
        if seen is None:
            self._patch(name, {"kernelLog": {"journal": {"seen": False}}})
            raise Refused(
                "JournalSilent",
                f"the line did not come to the node's journal in {JOURNAL_SECONDS:g} s; see "
                f"whether journald of {self.node.name} runs and writes to /var/log/journal",
            )
        self._patch(name, {"kernelLog": {"journal": seen.as_status()}})

    def _armed(self, fault: Obj) -> bool:
        """Whether the page has the entry that the fault's status speaks of."""
        wanted = (fault.get("status", {}).get("cuda") or {}).get("armed")
        name = fault["metadata"]["name"]
        return not wanted or any(e.fault_id == name for e in self.page.entries())

    def _arm(self, fault: Obj, entry: Entry | None) -> None:
        name = fault["metadata"]["name"]
        message = "Active"
        done: Obj = {"armed": False}
        if entry and entry.classes:
            try:
                generation = self.page.edit(
                    lambda there: [*(e for e in there if e.fault_id != name), entry]
                )
            except ValueError as error:
                raise Refused("PageFull", str(error)) from error
            done = {
                "armed": True,
                "mode": entry.mode,
                "code": entry.code_live,
                "newContextCode": entry.code_new,
                "nvmlCode": entry.code_nvml,
                "pageGeneration": generation,
                "entry": self.page.place_of(name),
            }
        elif entry:
            message = f"XID {entry.xid} by itself has no effect on CUDA programs"
        self._patch(
            name, {"phase": "Active", "reason": "Injected", "message": message, "cuda": done}
        )

    def genuine_refused(self, refusals: dict[int, tuple[int, int]]) -> None:
        """Fail the genuine faults whose kernel a driver refused: serial to process and CUresult."""
        for entry in self.page.entries():
            if entry.mode == "genuine" and entry.serial in refusals:
                pid, code = refusals[entry.serial]
                why = (
                    f"the CUDA driver of process {pid} refused the kernel that brings XID "
                    f"{entry.xid} about with CUresult {code}; only a GPU runs it, use mode sticky"
                )
                with suppress(Gone):
                    self._fail(entry.fault_id, "GenuineRefused", why)

    def _disarm(self, name: str) -> None:
        if self.page.place_of(name) is not None:
            self.page.edit(lambda there: [e for e in there if e.fault_id != name])

    def _end(self, fault: Obj, reason: str) -> None:
        name = fault["metadata"]["name"]
        self._disarm(name)
        change: dict[str, Any] = {
            "phase": "Recovered",
            "reason": reason,
            "message": "the fault is over; processes that were hit stay failed until they restart",
            "recoveredAt": clock.stamp(),
            "observedGeneration": fault["metadata"]["generation"],
        }
        if (fault.get("status", {}).get("cuda") or {}).get("armed"):
            change["cuda"] = {"armed": False}
        self._patch(name, change)

    def _fail(self, name: str, reason: str, message: str) -> None:
        self._disarm(name)
        log.warning("%s: %s: %s", name, reason, message)
        over: Obj = {"phase": "Failed", "reason": reason, "message": message}
        self._patch(name, over | {"cuda": {"armed": False}})

    def _patch(self, name: str, status: Obj) -> None:
        """Write into the status; raises Gone when there is none any more."""
        if self.kube.patch(FAULT, name, {"status": status}, status=True) is None:
            raise Gone(name)
