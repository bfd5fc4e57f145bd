# SPDX-License-Identifier: Apache-2.0
"""What to call a driver function with, so that a healthy driver has no reason to refuse.

Pure: the plan names objects (`stream`, `node:kernel`, …) that `objects` makes before the fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .signatures import Parameter, base_name, signatures
from .structures import FILLED

LARGE = 2 << 20  # granularity of virtual memory management
KERNEL, GLOBAL = "faultline_idle", "faultline_word"


@dataclass(frozen=True)
class Argument:
    """One argument.

    kind      what it is:
              integer, float   `value` itself
              object           handle or address of the object kind `value`
              out              fresh memory filled with a pattern; a change of it is recorded
              inout            fresh memory that begins with the 64-bit words `value`
              structure        memory filled as the structure `value` wants it
              text             one of the texts `value`: ptx, path, null_path, pci, or itself
              blob             `value` bytes of zeros by value
              null             NULL
    """

    kind: str
    value: Any = None


NULL, OUT = Argument("null"), Argument("out")

OBJECTS = {
    "CUcontext": "context",
    "CUstream": "stream",
    "CUevent": "event",
    "CUmodule": "module",
    "CUfunction": "function",
    "CUlibrary": "library",
    "CUkernel": "kernel",
    "CUgraph": "graph",
    "CUgraphExec": "exec",
    "CUmemoryPool": "pool",
    "CUarray": "array_2d",
    "CUmipmappedArray": "mipmap",
    "CUtexref": "texref",
    "CUtexObject": "texture",
    "CUsurfObject": "surface",
    "CUdeviceptr": "memory",
    "CUmemGenericAllocationHandle": "allocation",
    "CUlinkState": "link",
    "CUuserObject": "user",
    "CUgreenCtx": "green",
    "CUhostFn": "callback",
    "CUstreamCallback": "callback",
    "CUasyncCallback": "callback",
    "CUlogsCallback": "callback",
    "CUcoredumpStatusCallback": "callback",
    "CUgraphRecaptureCallback": "callback",
}
ENUMERATIONS = {
    "CUresult": 700,
    "CUdevice_attribute": 16,  # MULTIPROCESSOR_COUNT
    "CUstreamCaptureMode": 2,  # RELAXED: other calls of the thread stay allowed
    "CUjitInputType": 1,  # PTX
    "CUmemAllocationHandleType": 1,  # POSIX_FILE_DESCRIPTOR
    "CUmemAllocationType": 1,  # PINNED
    "CUmemPool_attribute": 4,  # RELEASE_THRESHOLD
    "CUmem_advise": 1,  # SET_READ_MOSTLY
    "CUmem_range_attribute": 1,
    "CUmemRangeHandleType": 1,
    "CUpointer_attribute": 2,  # MEMORY_TYPE
    "CUarray_format": 0x20,
    "CUgraphMem_attribute": 1,  # USED_MEM_HIGH
    "CUstreamAttrID": 8,  # PRIORITY
    "CUkernelNodeAttrID": 8,
    "CUcoredumpSettings": 1,
    "CUflushGPUDirectRDMAWritesScope": 100,
    "CUdevice_P2PAttribute": 1,
    "CUdevResourceType": 1,  # SM
    "CUtensorMapDataType": 7,  # FLOAT32
}
NUMBERS = {
    "ByteCount": 4,
    "bytesize": 64,
    "WidthInBytes": 64,
    "Width": 4,
    "Height": 1,
    "N": 4,
    "dstPitch": 64,
    "Pitch": 64,
    "ElementSizeBytes": 4,
    "cudaVersion": 12000,
    "numbytes": 4,
    "len": 64,
    "bufferSize": 64,
    "dataSize": 4,
    "maxAniso": 1,
    "NumPackedComponents": 1,
    "numMipmapLevels": 1,
    "numChannels": 1,
    "initialRefcount": 1,
    "isEnabled": 1,
    "blockSize": 32,
    "numBlocks": 1,
    "tensorRank": 2,
    "minCount": 8,
    **dict.fromkeys(("grid_width", "grid_height", "x", "y", "z"), 1),
    **{f"{what}Dim{axis}": 1 for what in ("grid", "block") for axis in "XYZ"},
}
# Memory that a call reads although it is not declared const: zeros, not a pattern.
READ = re.compile(
    r"CUmemcpyAttributes|CUDA_MEMCPY3D_BATCH_OP|CUarrayMapInfo|CUmemDecompressParams|CUexecAffinity"
    r"|CUctxCreateParams|CUcheckpoint|CUstreamCig|CUDA_FABRIC|CU_DEV_SM|CUmemPoolPtrExportData"
    r"|CUDA_GRAPH_INSTANTIATE|CUtensorMap$|CUdevResource|CUDA_\w+_PARAMS|CUgraphNodeParams|CUlog"
)
NULL_POINTERS = re.compile(
    r"dependencies|dependencyData|from|to|edgeData|dependentNodes|nodes|rootNodes|extra|userData"
    r"|kernelParams|options|optionValues|\w*Options\w*|libraryOption\w*|osHandle|paramsArray"
    r"|ctxCreateParams|operations|nvSci\w+|pResViewDesc|opList|mapInfoList|extSemArray|resources"
    r"|groupParams|iterator|cliqueInfo|streamCigCaptureParams|functions|kernels|phErrorNode"
)
TEXTS = {
    "image": "ptx",
    "code": "ptx",
    "fatCubin": "ptx",
    "data": "ptx",
    "fname": "path",
    "fileName": "path",
    "path": "null_path",
    "pathToFile": "null_path",
    "pciBusId": "pci",
    "symbol": "cuInit",
}
# What the rules above do not say; first match of the base name decides, for that parameter only.
SPECIAL: tuple[tuple[str, str, Argument], ...] = (
    (r"cuLinkAddFile", "path", Argument("text", "path")),
    (r"cuLinkAdd", "name", Argument("text", "faultline")),
    (r"cuLinkAddData", "size", Argument("integer", "ptx_size")),
    (r"cu(Module|Library)Get(Global|Managed)", "name", Argument("text", GLOBAL)),
    (r"cu(Module|Library)Get(Tex|Surf)Ref", "name", Argument("text", GLOBAL)),
    (r"cu(Module|Library)Get", "name", Argument("text", KERNEL)),
    (r"cuLibraryGetUnifiedFunction", "symbol", Argument("text", KERNEL)),
    (r"cuMemFreeHost|cuMemHostGet", "p", Argument("object", "host_allocation")),
    (r"cuMemHostRegister", "p", Argument("object", "host_pages")),
    (r"cuMemHostRegister", "bytesize", Argument("integer", 4096)),
    (r"cuMemHostUnregister", "p", Argument("object", "host_registered")),
    (r"cuMemFreeAsync", "dptr", Argument("object", "pool_memory")),
    (r"cuMem(PrefetchAsync|Advise|RangeGet)", "devPtr", Argument("object", "managed")),
    (r"cuMem(PrefetchAsync|Advise|RangeGet)", "count", Argument("integer", 4096)),
    (r"cuMemRangeGetAttributes", "numAttributes", Argument("integer", 1)),
    (r"cuMemRangeGetAttributes", "attributes", Argument("inout", (1,))),
    (r"cuMemRangeGetAttributes", "dataSizes", Argument("inout", (4,))),
    (r"cuMemRangeGetAttributes|cuPointerGetAttributes", "data", Argument("inout", ("host",))),
    (r"cuPointerGetAttributes", "numAttributes", Argument("integer", 1)),
    (r"cuPointerGetAttributes", "attributes", Argument("inout", (2,))),
    (r"cuStreamAttachMemAsync", "dptr", Argument("object", "managed")),
    (r"cuStreamAttachMemAsync", "flags", Argument("integer", 4)),
    (r"cuMemAllocManaged", "flags", Argument("integer", 1)),
    (r"cuMemAddressReserve", "addr", Argument("integer", 0)),
    (
        r"cuMem(AddressReserve|AddressFree|Map|Unmap|SetAccess|Create)$",
        "size",
        Argument("integer", LARGE),
    ),
    (r"cuMem(AddressFree|Map)$", "ptr", Argument("object", "reserved")),
    (r"cuMem(Unmap|SetAccess|GetAccess)$", "ptr", Argument("object", "mapped")),
    (r"cuMemRetainAllocationHandle", "addr", Argument("object", "mapped")),
    (r"cuMem(SetAccess|PoolSetAccess)", "count", Argument("integer", 1)),
    (r"cuMemGetHandleForAddressRange", "dptr", Argument("object", "large")),
    (r"cuMemGetHandleForAddressRange", "size", Argument("integer", LARGE)),
    (r"cuMemcpyBatchAsync", "count|numAttrs", Argument("integer", 1)),
    (r"cuMemcpyBatchAsync", "dsts|srcs", Argument("inout", ("device",))),
    (r"cuMemcpyBatchAsync", "sizes", Argument("inout", (4,))),
    (r"cuMemcpyBatchAsync", "attrsIdxs", Argument("inout", (0,))),
    (r"cuMemcpy(Batch|WithAttributes)Async", "attrs?", Argument("inout", (1, 0, 0))),
    (r"cuMemcpyWithAttributesAsync", "size", Argument("integer", 4)),
    (r"cuMemcpy\w*(Ato|[HD]toA)", ".*Array", Argument("object", "array_1d")),
    (r"cuStreamBatchMemOp", "count", Argument("integer", 1)),
    (r"cuStream(EndCapture|UpdateCapture)", "hStream", Argument("object", "capturing")),
    (
        r"cuUserObject(Retain|Release)|cuGraph(Retain|Release)UserObject",
        "count",
        Argument("integer", 1),
    ),
    (r"cuUserObjectCreate", "flags", Argument("integer", 1)),
    (r"cuLaunchCooperativeKernelMultiDevice", "numDevices", Argument("integer", 1)),
    (r"cuCtxSetLimit", "value", Argument("integer", 1024)),
    (r"cuCoredump", "size", Argument("inout", (1,))),
    (r"cuCoredump", "value", Argument("inout", (0,))),
    (r"cuLogsDumpToMemory", "size", Argument("inout", (64,))),
    (r"cu(Func|Kernel)SetAttribute", "attrib", Argument("integer", 8)),
    (r"cuThreadExchangeStreamCaptureMode", "mode", Argument("inout", (2,))),
    (r"cuGraphAddChildGraphNode", "childGraph", Argument("object", "child_graph")),
    (r"cuGraphNodeFindInClone", "hClonedGraph", Argument("object", "clone")),
    (r"cuTensorMapEncodeTiled", "globalDim", Argument("inout", (64, 64))),
    (r"cuTensorMapEncodeTiled", "globalStrides", Argument("inout", (256,))),
    (r"cuTensorMapEncodeTiled", "boxDim", Argument("inout", (16 | 16 << 32,))),
    (r"cuTensorMapEncodeTiled", "elementStrides", Argument("inout", (1 | 1 << 32,))),
    (r"cuTensorMap", "globalAddress", Argument("object", "memory")),
    (r"cuDevSmResourceSplitByCount", "nbGroups", Argument("inout", (1,))),
    (r"cuGetExportTable", "pExportTableId", Argument("inout", (0, 0))),
    (r"cuLogicalEndpoint", "ptr", NULL),
)
NODES = (
    ("ChildGraph", "child"),
    ("EventRecord", "event_record"),
    ("EventWait", "event_wait"),
    ("MemAlloc", "mem_alloc"),
    ("BatchMemOp", "batch"),
    ("Memcpy", "memcpy"),
    ("Memset", "memset"),
    ("Host", "host"),
    ("Kernel", "kernel"),
)


def node_kind(name: str) -> str:
    """Kind of graph node that a function is about: the one in its name, else a kernel."""
    return next((kind for word, kind in NODES if f"{word}Node" in name), "kernel")


def _special(name: str, parameter: Parameter) -> Argument | None:
    for functions, names, argument in SPECIAL:
        if re.match(functions, name) and re.fullmatch(names, parameter.name):
            return argument
    return None


def _pointer(name: str, parameter: Parameter) -> Argument:
    what = parameter.pointee
    constant = parameter.type.startswith("const ") and not what.endswith("*")
    if what == "char" and constant:
        return Argument("text", TEXTS.get(parameter.name, "faultline"))
    if NULL_POINTERS.fullmatch(parameter.name):
        return NULL
    if what == "void" and parameter.name in TEXTS:
        return Argument("text", "ptx") if constant or name.startswith("cuLink") else OUT
    if what == "void" and constant:
        return Argument("inout", (0,))
    read = (
        constant or "Get" not in name or (what == "CUmemLocation" and "_out" not in parameter.name)
    )
    if what in FILLED and read:
        return Argument("structure", what)
    return Argument("inout", (0,)) if constant or READ.match(what) else OUT


def _value(name: str, parameter: Parameter) -> Argument:
    kind = parameter.type
    if kind == "CUgraphNode":
        return Argument("object", f"node:{node_kind(name)}")
    if kind in OBJECTS:
        return Argument("object", OBJECTS[kind])
    if kind in ("CUipcMemHandle", "CUipcEventHandle"):
        return Argument("blob", 64)
    if kind == "CUmemLocation":
        return Argument("integer", 1)  # type DEVICE in the lower half, id 0 in the upper
    if kind == "float":
        return Argument("float", 0.0)
    return Argument("integer", ENUMERATIONS.get(kind, NUMBERS.get(parameter.name, 0)))


def plan(name: str) -> list[Argument]:
    """Arguments for a call of a driver function. Raises KeyError for one that is not known."""
    base, found = base_name(name), []
    for parameter in signatures()[name]:
        special = _special(base, parameter)
        if special is None:
            special = (_pointer if parameter.pointer else _value)(base, parameter)
        found.append(special)
    return found


# Functions that are not called at all, and why.
NOT_CALLED = (
    (r"cuMulticast", "NVLink multicast reaches beyond this machine's own GPUs"),
    (r"cuCheckpoint", "it stops the very process that measures"),
    (r"cuLogicalEndpoint|cuFabric", "it is about a fabric of several machines"),
    (r"cu\w*(EGL|Egl|VDPAU)|cu(Graphics)?GL", "it needs a window system"),
    (r"cuMemGetAttribute", "no header says what its arguments are"),
)
# Functions after which nothing more can be learnt in the same process.
ALONE = re.compile(r"cuCtx(Destroy|Detach)|cuDevicePrimaryCtxRe(lease|set)")
# Functions that need something the others would not bear: a capture that is open, a green context.
GROUPS = (
    re.compile(r"cuStream(EndCapture|UpdateCapture)"),
    re.compile(r"cuGreenCtx|cuCtxFromGreenCtx|cuStreamGetGreenCtx"),
)
# Functions that change what later calls of the thread see: called last.
LATE = re.compile(
    r"cuCtx(Create|Set|Push|Pop|Attach|Reset|Enable|Disable)|cuThread|cuInit|cuDevice(Set|PrimaryCtx)"
    r"|cuProfiler|cuCoredumpSet"
)


def not_called(name: str) -> str | None:
    """Why a function is not called, None when it is."""
    return next((why for pattern, why in NOT_CALLED if re.match(pattern, name)), None)


def batches(names: list[str]) -> list[list[str]]:
    """Names grouped by process: a big batch first, then small groups and single functions."""
    wanted = [name for name in names if not not_called(name)]
    small = [[name] for name in wanted if ALONE.match(name)]
    small += [[name for name in wanted if group.match(name)] for group in GROUPS]
    taken = {name for batch in small for name in batch}
    rest = [name for name in wanted if name not in taken]
    rest.sort(key=lambda name: (bool(LATE.match(name)), name))
    return [rest, *(batch for batch in small if batch)]
