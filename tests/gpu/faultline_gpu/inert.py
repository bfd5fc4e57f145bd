# SPDX-License-Identifier: Apache-2.0
"""Inert equals absent: every workload without the shim, again without it, and with it unarmed.

Usage: inert FILE [SECONDS]. The second run without the shim says whether a workload repeats itself.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from . import arming, launch, results
from .workloads import WORKLOADS

VARIANTS = ("absent", "absent_again", "inert")


def verdict(runs: dict[str, dict[str, Any]]) -> str:
    """`equal`, `absent` (the workload's library is not here), `varies` (not even without the shim
    does it repeat itself), `fails` (it does not run here, with or without), or `different`."""
    if any("absent" in run for run in runs.values()):
        return "absent"
    said = {name: (run.get("digest"), run["status"]) for name, run in runs.items()}
    if said["absent"] != said["absent_again"]:
        return "varies"
    if said["inert"] != said["absent"]:
        return "different"
    return "equal" if said["inert"][0] else "fails"


def main() -> None:
    """Run everything, a few processes at a time, and write the file after each."""
    path, seconds = launch.arguments()
    table: dict[str, Any] = {"workloads": {}}
    with tempfile.TemporaryDirectory(prefix="faultline-inert-") as name:
        folder = Path(name)
        environments = dict.fromkeys(VARIANTS, arming.plain())
        environments["inert"] = arming.preloaded(folder / "page")
        tasks = {
            (workload, variant): partial(
                launch.once,
                folder / f"{workload}-{variant}",
                environments[variant],
                workload,
                seconds,
            )
            for workload in WORKLOADS
            for variant in VARIANTS
        }

        def done(key: tuple[str, str], result: dict[str, Any]) -> None:
            runs = table["workloads"].setdefault(key[0], {"runs": {}})
            runs["runs"][key[1]] = result
            if len(runs["runs"]) == len(VARIANTS):
                runs["verdict"] = verdict(runs["runs"])
                launch.show([key[0], runs["verdict"]])
            results.write(path, table)

        launch.together(tasks, done)


if __name__ == "__main__":
    main()
