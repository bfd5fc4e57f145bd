# SPDX-License-Identifier: Apache-2.0
"""Armed: what each workload says when its GPU really faults, and when the shim says it did.

Usage: armed FILE [SECONDS]. A workload runs its step again and again; the fault comes in between.
After it the page is disarmed, and three more steps must fail too. A fault is `genuine` (a kernel of
the workload's own process), `injected`, or `by_shim` (a kernel that the shim runs).
"""

from __future__ import annotations

import re
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from . import arming, launch, results
from .driver import Driver
from .faults import FAULTS, Fault
from .workloads import WORKLOADS

FIRST_S, FAIL_S = 110.0, 20.0
# Codes that no kernel of ours can provoke; injected only: ECC, NVLink, contained, unknown.
OTHERS = [Fault(code, xid, "") for code, xid in ((214, 48), (220, 74), (226, 94), (999, 79))]


def core(text: str) -> str:
    """First line of an exception's text without what differs from run to run."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return re.sub(r"0x[0-9a-f]+", "#", line)


def alike(genuine: dict[str, Any], injected: dict[str, Any]) -> bool:
    """Whether two failures are of the same type and say the same."""
    one, other = genuine.get("failed"), injected.get("failed")
    if not one or not other:
        return False
    return (one["type"], core(one["text"])) == (other["type"], core(other["text"]))


def run(
    folder: Path, workload: str, how: str, kind: str, fault: Fault, uuid: str
) -> dict[str, Any]:
    """One workload through one fault."""
    page = folder / "page"
    folder.mkdir(parents=True)
    environment = arming.plain() if how == "genuine" else arming.preloaded(page)
    process = launch.Process(folder, environment, workload, "loop")
    told: dict[str, Any] = process.read(FIRST_S)
    if "ready" in told:
        time.sleep(0.2)  # a fault comes in the middle of work, not at its beginning
        begun = time.monotonic_ns()
        if how == "injected":
            arming.arm(page, uuid, fault.code, xid=fault.xid)
        elif how == "by_shim":
            arming.arm_genuine(page, uuid, fault.code, fault.xid)
        else:
            process.tell(f"genuine {kind}")
        while line := process.read(FAIL_S):
            told |= line
            if line.keys() & {"failed", "refused", "timeout"}:
                break
        if "failed" in told:
            since = told.get("ns", begun)
            told["latency_ms"] = round((told["failed"]["ns"] - since) / 1e6, 3)
            arming.disarm(page)
            process.tell("again")
            told |= process.read(FAIL_S)
            process.tell("quit")
    return told | process.end()


def main() -> None:
    """Run everything, a few processes at a time, and write the file after each."""
    path, _ = launch.arguments()
    driver = Driver.ready()
    uuid = driver.uuid()
    table: dict[str, Any] = {"gpu": uuid, "faults": {}}
    hows = ("genuine", "injected")
    wanted = [(w, "trap", FAULTS["trap"], how) for w in WORKLOADS for how in hows]
    for kind, fault in FAULTS.items():
        if kind != "trap":
            wanted += [("eager", kind, fault, how) for how in hows]
        if kind != "assert":  # the shim has no kernel for it
            wanted.append(("eager", kind, fault, "by_shim"))
    wanted += [("eager", f"code {fault.code}", fault, "injected") for fault in OTHERS]
    with tempfile.TemporaryDirectory(prefix="faultline-armed-") as name:
        tasks = {
            (w, kind, how): partial(
                run, Path(name) / f"{w}-{fault.code}-{how}", w, how, kind, fault, uuid
            )
            for w, kind, fault, how in wanted
        }

        def done(key: tuple[str, str, str], result: dict[str, Any]) -> None:
            workload, kind, how = key
            both = table["faults"].setdefault(f"{workload}, {kind}", {})
            both[how] = result
            if "genuine" in both and "injected" in both:
                both["alike"] = alike(both["genuine"], both["injected"])
            failed = result.get("failed", {})
            launch.show(
                [*key, failed.get("type"), core(failed.get("text", "")), result.get("status")]
            )
            results.write(path, table)

        # Genuine faults first and by themselves: whatever they do to others, they do to each other.
        for injected in (False, True):
            chosen = {k: task for k, task in tasks.items() if (k[2] == "injected") == injected}
            launch.together(chosen, done)


if __name__ == "__main__":
    main()
