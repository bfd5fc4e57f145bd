# SPDX-License-Identifier: Apache-2.0
"""What the CUDA runtime library says after a fault: codes of a fixed sequence of calls, as JSON.

Usage: runtime_worker genuine|injected KIND PAGE
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from . import arming, machine
from .driver import Driver
from .faults import FAULTS, Trap


def main() -> None:
    """Print {"library": …, "calls": [[name, code], …], "text": what cudaGetErrorString says}."""
    how, kind, page = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    path = machine.library("libcudart.so.13", "libcudart.so.12")
    runtime = ctypes.CDLL(path)
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    pointer, number = ctypes.c_void_p(), ctypes.c_int(-7)
    event, again = ctypes.c_void_p(), ctypes.c_void_p()
    begun = runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(64))
    driver, calls = Driver(), [["cudaMalloc before", begun]]
    host = ctypes.create_string_buffer(64)
    if how == "genuine":
        Trap(driver, kind).spring()
    else:
        arming.arm(page, driver.uuid(), FAULTS[kind].code, xid=FAULTS[kind].xid)
    sequence: list[tuple[str, tuple[Any, ...]]] = [
        ("cudaDeviceSynchronize", ()),
        ("cudaPeekAtLastError", ()),
        ("cudaGetLastError", ()),
        ("cudaGetLastError", ()),
        ("cudaMalloc", (ctypes.byref(again), ctypes.c_size_t(64))),
        ("cudaGetLastError", ()),
        ("cudaGetLastError", ()),
        ("cudaMemcpy", (host, pointer, ctypes.c_size_t(4), 2)),
        ("cudaStreamQuery", (None,)),
        ("cudaEventCreate", (ctypes.byref(event),)),
        ("cudaGetDevice", (ctypes.byref(number),)),
        ("cudaGetDeviceCount", (ctypes.byref(number),)),
        ("cudaSetDevice", (0,)),
        ("cudaFree", (pointer,)),
        ("cudaDeviceReset", ()),
        ("cudaMalloc", (ctypes.byref(again), ctypes.c_size_t(64))),
        ("cudaGetLastError", ()),
    ]
    calls += [[name, getattr(runtime, name)(*arguments)] for name, arguments in sequence]
    text = runtime.cudaGetErrorString(calls[1][1])
    print(json.dumps({"library": path, "calls": calls, "text": (text or b"").decode()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
