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
# In no header and no binding, but exported by the libraries of driver 580.159.04 (tests/gpu writes
# what a driver exports and the list lacks to machine.json). Most are older versions of functions of
# NVML, which old programs are still linked to.
UNDECLARED = {
    "cuEGLApiInit",
    "cuMemGetAttribute",
    "cuMemGetAttribute_v2",
    "nvmlComputeInstanceGetInfo",
    "nvmlDeviceGetAttributes",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetGpuInstancePossiblePlacements",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetGridLicensableFeatures",
    "nvmlDeviceGetGridLicensableFeatures_v2",
    "nvmlDeviceGetGridLicensableFeatures_v3",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetHandleByPciBusId",
    "nvmlDeviceGetMPSComputeRunningProcesses",
    "nvmlDeviceGetNvLinkRemotePciInfo",
    "nvmlDeviceGetPciInfo",
    "nvmlDeviceGetPciInfo_v2",
    "nvmlDeviceRemoveGpu_v2",
    "nvmlEventSetWait",
    "nvmlGetBlacklistDeviceCount",
    "nvmlGetBlacklistDeviceInfoByIndex",
    "nvmlInit",
    "nvmlInit_v2",
    "nvmlInternalGetExportTable",
    "nvmlVgpuInstanceGetLicenseInfo",
}
# Inline helper of cuda.h that nobody exports; a function of Windows.
NOT_EXPORTED = ("cuGetProcAddress_v2_ptsz", "cuWGLGetDevice")

# First match decides, of the name without the suffix of its per-thread twin. Classes as in
# data/page_layout.def: P pass, S work, Q waits for the GPU, I new context, T teardown, L looks at a
# context, N NVML query. What a driver function does in a context that really faulted decides (S, Q,
# T, L: the fault's code; P: as if nothing were): tests/gpu measures it. Functions that the measured
# driver lacks, or that could not be called there, follow their family.
RULES = (
    # Functions of CUDA 3.1 and before: in contexts of today they say 201, poisoned or not.
    (
        r"cu(Mem(Alloc(|Host|Pitch)|Free|Get(Info|AddressRange)|HostGetDevicePointer)|ModuleGetGlobal"
        r"|Memcpy((2D|3D|Ato[ADH]|Dto[ADH]|Hto[AD])(|Async)|2DUnaligned)|Memset(|D2)D(8|16|32)"
        r"|Array(|3D)(Create|GetDescriptor)|TexRef([GS]etAddress|SetAddress2D))$",
        "P",
    ),
    # In no header: what their arguments are is not known.
    (r"cuEGLApiInit|cuMemGetAttribute|nvmlInternal", "P"),
    (r"cuGetError(String|Name)|cuDriverGetVersion|cuGetProcAddress|cuGetExportTable|cudbg", "P"),
    (r"cuInit$|cuDevicePrimaryCtx(Retain|Reset)|cu(|GL|VDPAU|Green)CtxCreate", "I"),
    (r"cuDev|cuGLGetDevices|cuVDPAUGetDevice", "P"),
    # Contexts: the end of one, and which is current.
    (r"cuCtx([GS]etCurrent|PushCurrent|PopCurrent|GetDevice(|_v2)$|[GS]etFlags)", "P"),
    (r"cuCtx(GetApiVersion|GetId|Attach|Detach|Destroy)|cuGreenCtxDestroy", "P"),
    # Graphs are edited on the host; what names memory or a kernel looks at the context.
    (r"cuGraphics", "S"),
    (r"cuGraph(Launch|Upload|Instantiate|ConditionalHandleCreate)", "S"),
    (r"cuGraphKernelNode(SetAttribute|CopyAttributes)", "S"),
    (r"cuGraphAdd(BatchMemOp|Kernel|Memcpy|Memset)Node", "S"),
    (r"cuGraph(|Exec)(BatchMemOp|Kernel|Memcpy|Memset)NodeSetParams", "S"),
    (r"cuGraph|cuUserObject", "P"),
    # Addresses, physical memory and pools belong to the device.
    (r"cuMem(Address|Create|Map$|Unmap|Release|[GS]etAccess|RetainAllocationHandle)", "P"),
    (r"cuMem(GetAllocation|ExportTo|ImportFrom|Pool|[GS]et(Default)?MemPool)", "P"),
    # Libraries are loaded into no context; the linker needs one at its start only.
    (r"cuLibraryGet(Global|Module)|cuKernelGet(Function|Param)", "L"),
    (r"cuLibrary|cuKernel|cuModuleGetLoadingMode|cuLink(Add|Complete|Destroy)", "P"),
    (r"cuPointer|cuThreadExchangeStreamCaptureMode|cuLogs|cuCheckpoint|cuProfilerInitialize", "P"),
    (r"cuCoredump(\w+Global|\w*Callback)", "P"),
    (r"cuCtxGet|cuFunc(Get|IsLoaded)|cuOccupancy|cuTensorMap|cuCoredump|cuProfiler", "L"),
    (r"cuStream(Get|IsCapturing)|cuGreenCtxGet|cu(Tex|Surf)(Ref|Object)Get", "L"),
    (r"cu(Mipmapped)?Array(3D)?Get|cuMemHostGetFlags", "L"),
    (r"cuMemFree|cu(Stream|Event|TexObject|SurfObject|MipmappedArray|Array|TexRef)Destroy", "T"),
    (r"cu(ModuleUnload|IpcCloseMemHandle|MemHostUnregister|DestroyExternal)", "T"),
    (r"cuStreamEndCapture", "T"),
    (r"cu(Stream|Event|Ctx|GreenCtx)Synchronize", "Q"),
    # Copies that wait. A Q has register arguments only: its trampoline makes a call of its own.
    (r"cuMemcpy(?!\w*(Async|Batch))", "Q"),
    (r"nvml(ErrorString|Init|Shutdown|SystemGet)", "P"),
    (r"nvml", "N"),
)
# Arguments that point to eight bytes which a failing call sets to zero, as the driver does. A new
# stream's place the driver fills with something that is no stream.
OUT = (
    (r"cuMem(AllocPitch|GetInfo|GetAddressRange)|cuModuleGetGlobal", "12"),
    (r"cuMem(Alloc|HostAlloc|HostGetDevicePointer)|cuTexRef[GS]etAddress(_v2)?$", "1"),
    (r"cuStreamCreate|cuDevicePrimaryCtxRetain", "1"),
    (r"cuStreamEndCapture", "2"),
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
    base = re.sub(r"_pt[ds][sz]$", "", name)
    return next((letter for rule, letter in RULES if re.match(rule, base)), "S")


def zeroed(name: str) -> str:
    """Numbers of the arguments that a failing call sets to zero, 0 for none."""
    if class_of(name) in "PN":
        return "0"
    return next((numbers for rule, numbers in OUT if re.match(rule, name)), "0")


def main() -> None:
    """Print the list."""
    folder, names = Path(sys.argv[1]), PROFILER | UNDECLARED
    for header in (h for name in HEADERS for h in folder.rglob(name)):
        names |= driver_names(header.read_text())
    for binding in folder.rglob("pynvml.py"):
        names |= set(re.findall(r"[\"'](nvml[A-Z]\w+)[\"']", binding.read_text()))
    print("# Every exported name of libcuda.so.1 and libnvidia-ml.so.1 of CUDA 12.0 to 13.5.")
    print("# name class zeroed: classes as in page_layout.def; arguments that a failure zeroes.")
    print(
        "# Made by hack/cuda_symbols.py from the headers of CUDA 12.0, 12.4, 12.9 and 13.5 on PyPI"
    )
    print("# and from nvidia-ml-py 13.615; some that no header has from driver 580.159.04.")
    print("# The shim, its tests and the fake driver use this list.")
    for name in sorted(names):
        if not name.endswith(("_t", "_st", "_fn")) and name not in NOT_EXPORTED:
            print(name, class_of(name), zeroed(name))


if __name__ == "__main__":
    main()
