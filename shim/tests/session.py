# SPDX-License-Identifier: Apache-2.0
"""A process that uses the driver and takes orders on stdin, one word per line: an answer each.

`alloc`, `sync`, `launch`, `free`, `retain`, `state`, `gpa NAME`, `nvml`; the answer is a number or
JSON. GPU 0 is current from the start unless the first argument is another number.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "service"))

from faultline_service.layout import constants, number, text


def state() -> dict[str, object]:
    """This process's own evidence object."""
    size = constants()["STATE_SIZE"]
    raw = bytes((ctypes.c_char * size).in_dll(ctypes.CDLL(None), "faultline_state"))
    names = ("page_mapped", "latched_code", "hits", "missed", "pooled", "generation")
    found: dict[str, object] = {name: number(raw, "state", name) for name in names}
    return found | {n: text(raw, "state", n) for n in ("first_function", "fault_id", "build_id")}


def main() -> None:
    """Obey."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64(7)
    ordinal = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    codes = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), ordinal)]
    codes.append(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    codes.append(cuda.cuCtxSetCurrent(context))
    print(json.dumps(codes), flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "alloc":
            code = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(64))
            print(json.dumps([code, pointer.value]), flush=True)
        elif word == "sync":
            print(cuda.cuCtxSynchronize(), flush=True)
        elif word == "free":
            print(cuda.cuMemFree_v2(pointer), flush=True)
        elif word == "retain":
            print(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), flush=True)
        elif word == "gpa":
            found = ctypes.c_void_p()
            args = (rest[0].encode(), ctypes.byref(found), 12080, ctypes.c_uint64(0), None)
            code = cuda.cuGetProcAddress_v2(*args)
            print(json.dumps([code, found.value]), flush=True)
        elif word == "gpasync":
            found = ctypes.c_void_p()
            args = (b"cuCtxSynchronize", ctypes.byref(found), 12080, ctypes.c_uint64(0), None)
            cuda.cuGetProcAddress_v2(*args)
            print(ctypes.CFUNCTYPE(ctypes.c_int)(found.value)(), flush=True)
        elif word == "nvml":
            nvml, handle = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()
            nvml.nvmlInit_v2()
            nvml.nvmlDeviceGetHandleByIndex_v2(ordinal, ctypes.byref(handle))
            print(nvml.nvmlDeviceGetMemoryInfo(handle, (ctypes.c_uint64 * 3)()), flush=True)
        elif word == "state":
            print(json.dumps(state()), flush=True)


if __name__ == "__main__":
    main()
