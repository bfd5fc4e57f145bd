# SPDX-License-Identifier: Apache-2.0
"""What the shim of this tree would have answered where a recorded golden table was measured.

A prediction, not a measurement: the shim as it is built here, in front of a driver that answers as
the healthy one was seen to answer. It takes the place of the injected side until a GPU has measured
the present table of classes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import replay
from .golden import Golden
from .signatures import TREE, classes, digest

SECONDS = 120


def is_measured(golden: Mapping[str, Any]) -> bool:
    """Whether a golden table was measured with the list of functions of this tree.

    Tables of before the list's digest was recorded say their classes only.
    """
    if "symbols" in golden:
        return bool(golden["symbols"] == digest())
    return bool(golden["classes"] == classes())


def predict(golden: Mapping[str, Any]) -> dict[str, Any]:
    """The golden table with the classes of this tree and the injected sides that it predicts.

    Builds the shim if need be, with make and gcc; takes some ten seconds. Raises CalledProcessError
    when that fails, RuntimeError when a function that was called on the GPU was not reached here.
    """
    subprocess.run(["make", "-s", "-C", str(TREE / "shim")], check=True)
    with tempfile.TemporaryDirectory(prefix="faultline-replay-") as folder:
        replay.build(golden["healthy"]["results"], Path(folder))
        found = Golden(Path(folder), time.monotonic() + SECONDS, _worker(folder))
        found.table["healthy"] = golden["healthy"]
        found.faulty("injected", 1.0)
    _pass_on_ends(found.table)
    for fault, series in found.table["faults"].items():
        recorded = golden["faults"][fault]
        series["genuine"] = recorded["genuine"]
        if lost := set(recorded["genuine"]["results"]) - set(series["injected"]["results"]):
            raise RuntimeError(f"{min(lost)} was not reached after {fault}: {series['injected']}")
    return found.table


def _pass_on_ends(table: Mapping[str, Any]) -> None:
    """Where the shim passed a call on to a driver that crashed or hung, the call does that."""
    for name, healthy in table["healthy"]["results"].items():
        for series in table["faults"].values():
            said = series["injected"]["results"].get(name, {})
            if healthy["outcome"] in ("crash", "hang") and said.get("code") == 0:
                series["injected"]["results"][name] = healthy


def _worker(folder: str) -> list[str]:
    """Command of the golden table's worker with the stand-in for the driver."""
    path = f"{TREE / 'tests/gpu'}{os.pathsep}{TREE / 'service'}"
    settings = [f"LD_LIBRARY_PATH={folder}", f"PYTHONPATH={path}"]
    return ["/usr/bin/env", *settings, sys.executable, "-m", "faultline_gpu.golden_worker"]
