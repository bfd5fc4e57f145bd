# SPDX-License-Identifier: Apache-2.0
"""Missed calls: every workload with a shim that counts, and the driver's own count beside it.

Usage: missed FILE [SECONDS]. The driver's count is that of CUPTI's callbacks, which are made inside
the driver, whatever way a call came in.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import arming, counts, launch, machine, results
from .workloads import WORKLOADS


def compare(
    cupti: Mapping[str, int], shim: Mapping[str, int], addresses: Mapping[str, int]
) -> dict[str, Any]:
    """Functions that the driver counted more often than the shim.

    Functions with one address are one function: the shim has one trampoline for all its names. A
    function without a name of its own goes through a trampoline of the pool.
    """
    groups: dict[Any, set[str]] = {}
    for name in {*cupti, *addresses}:
        groups.setdefault(addresses.get(name) or name, set()).add(name)
    pool = {name: count for name, count in shim.items() if name.startswith("fl_pool_")}
    missed: list[dict[str, Any]] = []
    for names in groups.values():
        seen = sum(cupti.get(name, 0) for name in names)
        ours = sum(shim.get(name, 0) for name in names)
        if seen <= ours:
            continue
        slot = (
            min((s for s, count in pool.items() if count >= seen), default=None)
            if not ours
            else None
        )
        if slot is not None:
            del pool[slot]
            continue
        called = sorted(name for name in names if cupti.get(name))
        missed.append({"functions": called, "driver": seen, "shim": ours})
    return {
        "functions": len(cupti),
        "calls": sum(cupti.values()),
        "shim_calls": sum(shim.values()),
        "missed": sorted(missed, key=lambda one: -one["driver"]),
        "missed_calls": sum(one["driver"] - one["shim"] for one in missed),
    }


def environment(folder: Path) -> dict[str, str]:
    """Build counting shim and CUPTI library; environment of a process that has both."""
    library = counts.build(folder / "shim")
    source, counter = counts.SOURCES / "cupti_count.c", folder / "cupti_count.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(counter), str(source), "-ldl"]
    subprocess.run(command, check=True)
    try:
        cupti = machine.library("libcupti.so.13", "libcupti.so.12", "libcupti.so")
    except FileNotFoundError:
        cupti = ""
    return arming.preloaded(folder / "page", library) | {
        "FAULTLINE_COUNTS": str(folder / "shim/counted.names"),
        "CUDA_INJECTION64_PATH": str(counter),
        "FAULTLINE_CUPTI": cupti,
    }


def main() -> None:
    """Run everything, a few processes at a time, and write the file after each."""
    path, seconds = launch.arguments()
    table: dict[str, Any] = {"workloads": {}}
    with tempfile.TemporaryDirectory(prefix="faultline-missed-") as name:
        folder = Path(name)
        (folder / "shim").mkdir()
        with_both = environment(folder)
        table["cupti"], known = with_both["FAULTLINE_CUPTI"], counts.addresses()
        tasks = {
            workload: partial(launch.once, folder / workload, with_both, workload, seconds)
            for workload in WORKLOADS
        }

        def done(workload: str, result: dict[str, Any]) -> None:
            both = result.get("counts")
            if both and both["cupti"]["state"] == 1:
                result |= compare(both["cupti"]["calls"], both["shim"], known)
            table["workloads"][workload] = result
            launch.show([workload, result.get("calls"), result.get("missed", result.get("absent"))])
            results.write(path, table)

        launch.together(tasks, done)


if __name__ == "__main__":
    main()
