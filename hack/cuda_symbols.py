# SPDX-License-Identifier: Apache-2.0
"""Write data/cuda_symbols.txt from the headers and bindings that NVIDIA publishes on PyPI.

Usage: cuda_symbols.py FOLDER > data/cuda_symbols.txt, FOLDER holding the unpacked wheels
nvidia-cuda-runtime, nvidia-cuda-runtime-cu12 (the headers below) and nvidia-ml-py (pynvml.py).
Run by hand when CUDA gets a new release; the list is checked in, the shim is built from it alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HEADERS = ("cuda.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h")
# Of cudaProfiler.h, which no wheel has.
PROFILER = {"cuProfilerInitialize", "cuProfilerStart", "cuProfilerStop"}
# Inline helper of cuda.h that nobody exports; a function of Windows.
NOT_EXPORTED = ("cuGetProcAddress_v2_ptsz", "cuWGLGetDevice")

# First match decides. Classes as in data/page_layout.def:
# P pass, T teardown, I new context, Q waits for the GPU, N NVML query, S everything else.
RULES = (
    (r"cuGetError(String|Name)|cuDriverGetVersion|cuGetProcAddress|cuGetExportTable|cudbg", "P"),
    (r"cuDeviceGet|cuDeviceCanAccessPeer|cuDeviceComputeCapability|cuDeviceTotalMem", "P"),
    (r"cuCtx(GetCurrent|SetCurrent|PushCurrent|PopCurrent|GetDevice|GetFlags|GetApiVersion)", "P"),
    (r"cuCtx(GetId|Attach|GetLimit|GetCacheConfig|GetStreamPriorityRange)", "P"),
    (r"cuPointerGet|cuFuncGet|cuKernelGet|cuLibraryGet|cuOccupancy|cuTensorMapEncode", "P"),
    (r"cuStreamGet(Ctx|Flags|Priority|Id|Device)|cuStreamIsCapturing|cuStreamGetCaptureInfo", "P"),
    (r"cuStreamEndCapture|cuThreadExchangeStreamCaptureMode|cuDevicePrimaryCtxGetState", "P"),
    (r"cuGLGetDevices|cuVDPAUGetDevice", "P"),
    (r"cuCoredump|cuLog|cuProfiler|cuCheckpoint|cuFlushGPUDirect", "P"),
    (r"cuMemFree|cu(Stream|Event|Ctx|TexObject|SurfObject|Mipmapped|Array|TexRef)Destroy", "T"),
    (r"cu(ModuleUnload|LibraryUnload|MemUnmap|MemRelease|IpcCloseMemHandle|LinkDestroy)", "T"),
    (r"cuGraph\w*Destroy|cuUserObjectRelease|cuMemPoolDestroy|cuDevicePrimaryCtxRelease", "T"),
    (
        r"cuMemAddressFree|cuMemHostUnregister|cuArrayDestroy|cuGreenCtxDestroy|cuDestroyExternal",
        "T",
    ),
    (r"cuInit$|cuDevicePrimaryCtx(Retain|Reset)|cu(|GL|VDPAU|Green)CtxCreate", "I"),
    (r"cu(Stream|Event|Ctx|GreenCtx)Synchronize", "Q"),
    # Copies that wait. A Q has register arguments only: its trampoline makes a call of its own.
    (r"cuMemcpy(?!\w*(Async|Batch))", "Q"),
    (r"nvml(ErrorString|Init|Shutdown|SystemGet)", "P"),
    (r"nvml", "N"),
)
# First argument is a pointer to something of pointer size that the call makes.
OUT = re.compile(
    r"cu(Mem(Alloc|HostAlloc|AllocHost|AllocManaged|AllocPitch|AllocAsync|AllocFromPoolAsync)"
    r"|StreamCreate|EventCreate|ModuleLoad|LibraryLoad|CtxCreate|DevicePrimaryCtxRetain)"
)


def driver_names(header: str) -> set[str]:
    """Exported names in one header: prototypes, and the per-thread twins its macros name."""
    names = set(re.findall(r"CUresult\s+CUDAAPI\s+(cu\w+)\s*\(", header))
    names |= set(re.findall(r"#define\s+cu\w+\s+(cu[A-Z]\w+)\s*$", header, re.MULTILINE))
    names |= {f"{n}_ptds" for n in re.findall(r"__CUDA_API_PTDS\((cu\w+)\)", header)}
    names |= {f"{n}_ptsz" for n in re.findall(r"__CUDA_API_PTSZ\((cu\w+)\)", header)}
    return names


def class_of(name: str) -> str:
    """Class letter of a name."""
    return next((letter for rule, letter in RULES if re.match(rule, name)), "S")


def main() -> None:
    """Print the list."""
    folder, names = Path(sys.argv[1]), set(PROFILER)
    for header in (h for name in HEADERS for h in folder.rglob(name)):
        names |= driver_names(header.read_text())
    for binding in folder.rglob("pynvml.py"):
        names |= set(re.findall(r"[\"'](nvml[A-Z]\w+)[\"']", binding.read_text()))
    print("# Every exported name of libcuda.so.1 and libnvidia-ml.so.1 of CUDA 12.0 to 13.5.")
    print("# name class out: classes as in page_layout.def; out 1: argument 1 gets a new pointer.")
    print(
        "# Made by hack/cuda_symbols.py from the headers of CUDA 12.0, 12.4, 12.9 and 13.5 on PyPI"
    )
    print("# and from nvidia-ml-py 13.615. The shim, its tests and the fake driver use this list.")
    for name in sorted(names):
        if not name.endswith(("_t", "_st", "_fn")) and name not in NOT_EXPORTED:
            print(name, class_of(name), int(bool(OUT.match(name))))


if __name__ == "__main__":
    main()
