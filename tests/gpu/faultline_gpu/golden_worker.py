# SPDX-License-Identifier: Apache-2.0
"""Calls driver functions one after the other, in a healthy, a poisoned or a shimmed process.

Reads one JSON object from stdin: `names`, `how` (healthy, genuine, injected), `fault` (a kind of
`faults`) and, when injected, `page`. Writes one JSON object per line: `ready`, then `begin` and
`result` for each function, then `end`. It may crash or hang at any function: see `watch`.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

from . import arming
from .arguments import Argument, plan
from .driver import Driver
from .faults import FAULTS, Trap
from .objects import PTX, Bundle, Objects
from .signatures import signatures
from .structures import FILLED


class Blob(ctypes.Structure):
    """64 bytes by value."""

    _fields_ = (("bytes", ctypes.c_char * 64),)


def say(**line: Any) -> None:
    """One line to whoever watches, at once: the next call may be the last."""
    os.write(1, json.dumps(line).encode() + b"\n")


class Call:
    """One function with everything it is called with."""

    def __init__(self, objects: Objects, name: str) -> None:
        self.objects, self.name, self.bundle = objects, name, Bundle(objects)
        self.watched: list[tuple[str, int, bytes]] = []
        arguments = plan(name)
        self.ready: list[Any] = [None] * len(arguments)
        # Nodes first: a graph executable has to know them.
        order = sorted(range(len(arguments)), key=lambda i: "node:" not in str(arguments[i].value))
        for i in order:
            self.ready[i] = self._ready(signatures()[name][i].name, arguments[i])

    def _ready(self, parameter: str, argument: Argument) -> Any:
        value, memory = argument.value, self.objects.memory
        if argument.kind == "null":
            return 0
        if argument.kind == "integer":
            return len(PTX) + 1 if value == "ptx_size" else value
        if argument.kind == "float":
            return ctypes.c_float(value)
        if argument.kind == "blob":
            return Blob()
        if argument.kind == "object":
            return self.bundle.get(value)
        if argument.kind == "text":
            return self._text(value)
        if argument.kind == "structure":
            return memory.slot(FILLED[value](self.objects.known()))
        content = None if argument.kind == "out" else b"".join(map(self._word, value))
        address = memory.slot(content)
        self.watched.append((parameter, address, memory.read(address)))
        return address

    def _text(self, value: str) -> int:
        if value == "ptx":
            return self.objects.ptx
        pci = self.objects.driver.pci() if value == "pci" else ""
        texts = {"path": self.objects.path, "null_path": "/dev/null", "pci": pci}
        return self.objects.memory.slot(texts.get(value, value).encode() + b"\0")

    def _word(self, value: int | str) -> bytes:
        if value == "device":
            value = self.objects.some("memory")
        elif value == "host":
            value = self.objects.memory.slot()
        return int(value).to_bytes(8, "little")

    def run(self) -> dict[str, Any]:
        """Call it; what came back, how long it took, and which memory it wrote."""
        begun = time.perf_counter_ns()
        code = self.objects.driver.call(self.name, *self.ready)
        took = time.perf_counter_ns() - begun
        written = {}
        for parameter, address, before in self.watched:
            after = self.objects.memory.read(address)
            changed = [b for a, b in zip(before, after, strict=True) if a != b]
            if changed:
                written[parameter] = "value" if any(changed) else "zero"
        return {
            "code": code,
            "us": round(took / 1000, 1),
            "written": written,
            "lacking": self.bundle.lacking,
        }

    def tidy(self) -> None:
        """Undo what would change the calls that follow: captures, and which context is current."""
        if re.match(r"cuStreamBegin\w*Capture", self.name):
            self.objects.driver.call(
                "cuStreamEndCapture", self.ready[0], self.objects.memory.slot()
            )
        self.objects.driver.call("cuCtxSetCurrent", self.objects.context)


def poison(driver: Driver, order: dict[str, Any], trap: Trap | None, stream: int) -> dict[str, int]:
    """Bring the fault about; the codes of the calls that see it first."""
    codes = {}
    if trap:
        codes["cuLaunchKernel"] = trap.spring()
    if order["how"] == "injected":
        fault = FAULTS[order["fault"]]
        arming.arm(Path(order["page"]), driver.uuid(), fault.code, xid=fault.xid)
    codes["cuStreamSynchronize"] = driver.call(
        "cuStreamSynchronize", trap.stream if trap else stream
    )
    return codes


def main() -> None:
    """Prepare everything, bring the fault about, call everything."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    order = json.loads(sys.stdin.readline())
    driver = Driver()
    objects = Objects(driver, driver.start())
    stream = driver.make("cuStreamCreate", 1)
    calls = {name: Call(objects, name) if driver.has(name) else None for name in order["names"]}
    trap = Trap(driver, order["fault"]) if order["how"] == "genuine" else None
    say(ready=poison(driver, order, trap, stream))
    for name, call in calls.items():
        if call is None:
            say(result=name, outcome="absent")
            continue
        say(begin=name)
        say(result=name, outcome="returned", **call.run())
        call.tidy()
    say(end=True)
    os._exit(0)  # the driver's own exit handlers may hang in a poisoned process


if __name__ == "__main__":
    main()
