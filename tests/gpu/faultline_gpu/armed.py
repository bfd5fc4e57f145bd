# SPDX-License-Identifier: Apache-2.0
"""Armed: what each workload says when its GPU really faults, and when the shim says it did.

Usage: armed FILE [SECONDS]. A workload runs its step again and again; the fault comes in between.
After it the page is disarmed, and three more steps must fail too.
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
from .faults import FAULTS
from .workloads import WORKLOADS

FIRST_S, FAIL_S = 110.0, 20.0
# Codes that no kernel of ours can provoke; injected only: ECC, NVLink, contained, unknown.
OTHERS = {214: 48, 220: 74, 226: 94, 999: 79}


def core(text: str) -> str:
    """First line of an exception's text without what differs from run to run."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return re.sub(r"0x[0-9a-f]+|\d{3,}(?=\D*$)", "#", line)


def alike(genuine: dict[str, Any], injected: dict[str, Any]) -> bool:
    """Whether two failures are of the same type and say the same."""
    one, other = genuine.get("failed"), injected.get("failed")
    if not one or not other:
        return False
    return (one["type"], core(one["text"])) == (other["type"], core(other["text"]))


def run(
    folder: Path, workload: str, how: str, kind: str, code: int, xid: int, uuid: str
) -> dict[str, Any]:
    """One workload through one fault."""
    page = folder / "page"
    folder.mkdir(parents=True)
    environment = arming.preloaded(page) if how == "injected" else arming.plain()
    process = launch.Process(folder, environment, workload, "loop")
    told: dict[str, Any] = process.read(FIRST_S)
    if "ready" in told:
        time.sleep(0.2)  # a fault comes in the middle of work, not at its beginning
        begun = time.monotonic_ns()
        if how == "injected":
            arming.arm(page, uuid, code, xid=xid)
        else:
            process.tell(f"genuine {kind}")
        while line := process.read(FAIL_S):
            told |= line
            if "failed" in line or "timeout" in line:
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
    driver = Driver()
    driver.need("cuInit", 0)
    uuid = driver.uuid()
    table: dict[str, Any] = {"gpu": uuid, "faults": {}}
    wanted = [
        (w, "trap", FAULTS["trap"].code, 43, how)
        for w in WORKLOADS
        for how in ("genuine", "injected")
    ]
    wanted += [
        ("eager", kind, fault.code, fault.xid, how)
        for kind, fault in FAULTS.items()
        if kind != "trap"
        for how in ("genuine", "injected")
    ]
    wanted += [("eager", f"code {code}", code, xid, "injected") for code, xid in OTHERS.items()]
    with tempfile.TemporaryDirectory(prefix="faultline-armed-") as name:
        tasks = {
            (w, kind, how): partial(
                run, Path(name) / f"{w}-{code}-{how}", w, how, kind, code, xid, uuid
            )
            for w, kind, code, xid, how in wanted
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
        for wanted_how in ("genuine", "injected"):
            chosen = {key: task for key, task in tasks.items() if key[2] == wanted_how}
            launch.together(chosen, done)


if __name__ == "__main__":
    main()
