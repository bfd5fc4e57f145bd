# SPDX-License-Identifier: Apache-2.0
"""What a fault does to CUDA calls: from its XID's profile and spec.cuda to an entry of the page.

A process knows its number in its own PID namespace only; the agent, who sees the node's numbers,
translates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import clock
from .page import Entry
from .processes import POD
from .profiles import Profile, listed, profile

Obj = dict[str, Any]
WITH_DELAY = ("hang", "slow")


@dataclass(frozen=True)
class InNamespace:
    """A process as it sees itself: its number, and the inode of its PID namespace."""

    pid: int = 0
    namespace: int = 0


def locate(pid: int, pod_uid: str = "", proc: Path = Path("/proc")) -> InNamespace:
    """The process with that number on the node, as it sees itself; of the pod, if one is named.

    Raises LookupError when there is none.
    """
    folder = proc / str(pid)
    try:
        status = (folder / "status").read_text()
        namespace = (folder / "ns/pid").stat().st_ino
        pod = POD.search((folder / "cgroup").read_text())
    except PermissionError as error:
        raise LookupError(f"process {pid} may not be looked at: {error.strerror}") from error
    except OSError as error:
        raise LookupError(f"the node has no process {pid}: {error.strerror}") from error
    found = pod.group(1).replace("_", "-") if pod else "none"
    if pod_uid and found != pod_uid:
        raise LookupError(f"process {pid} is not of pod {pod_uid} but of {found}")
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
    return InNamespace(int(numbers[-1]), namespace)


@dataclass(frozen=True)
class Moment:
    """When a fault begins to count and ends, Unix seconds."""

    injected: float
    ends: float


def refused(facts: Profile, said: Obj) -> str | None:
    """Why spec.cuda of GPUFault cannot be for an XID, a sentence; None when it can.

    What is wrong with one field alone the API and the object's definition refuse by themselves.
    """
    mode, delay = said.get("mode"), said.get("delayMicroseconds")
    if mode == "genuine" and not facts.genuine:
        xids = ", ".join(str(xid) for xid in listed() if profile(xid).genuine)
        return f"no kernel brings XID {facts.xid} about; mode genuine is for the XIDs {xids}"
    if mode == "slow" and not delay:
        return "mode slow needs a delay in microseconds: how much longer a call shall take"
    if delay is not None and mode not in WITH_DELAY:
        return (
            f"a delay is for the modes {' and '.join(WITH_DELAY)}, not for {mode or 'none'}: "
            "say the mode, too"
        )
    if said.get("seed") is not None and said.get("probability") is None:
        return "a seed chooses which calls are hit when chance decides: say the probability, too"
    return None


def entry_of(
    name: str,
    facts: Profile,
    gpu_uuid: str,
    when: Moment,
    cuda: Obj | None = None,
    driver: int | None = None,
    process: InNamespace | None = None,
) -> Entry:
    """The page entry of a fault; `cuda` is spec.cuda of GPUFault, `driver` the driver's branch.

    What spec.cuda does not say is as the XID's profile says.
    """
    said = cuda or {}
    target, me = said.get("target") or {}, process or InNamespace()
    mode = said.get("mode") or facts.mode
    default = facts.delay_microseconds if mode == facts.mode else 0
    delay, begin = said.get("delayMicroseconds"), said.get("notBeforeSeconds")
    return Entry(
        fault_id=name,
        xid=facts.xid,
        gpu_uuid=target.get("migUUID") or gpu_uuid,
        code_live=facts.live_code_for(driver),
        code_new=facts.new_context_code,
        code_nvml=facts.nvml_code,
        classes=said.get("classes") or facts.classes,
        not_after=clock.to_boottime(when.ends),
        mode=mode,
        not_before=clock.to_boottime(when.injected + begin) if begin else 0,
        pod_uid=target.get("podUID") or "",
        pid=me.pid,
        pid_namespace=me.namespace,
        rank=target.get("rank"),
        after_calls=said.get("afterCalls") or 0,
        probability=said.get("probability") or 1.0,
        seed=said.get("seed") or 0,
        delay_us=default if delay is None else delay,
        at_init=facts.at_init,
    )
