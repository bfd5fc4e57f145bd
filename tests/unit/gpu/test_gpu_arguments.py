# SPDX-License-Identifier: Apache-2.0
"""What the golden table calls driver functions with."""

from __future__ import annotations

import pytest
from faultline_gpu import structures
from faultline_gpu.arguments import Argument, batches, node_kind, not_called, plan
from faultline_gpu.driver import Driver
from faultline_gpu.objects import PATTERN, Bundle, Memory, Objects
from faultline_gpu.signatures import classes, signatures


class Recorder:
    """A driver that makes everything and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def make(self, name: str, *arguments: object) -> int:
        self.asked.append((name, *arguments))
        return 0x1000 + len(self.asked)

    def need(self, name: str, *arguments: object) -> None:
        self.asked.append((name, *arguments))
        for argument in arguments:
            if hasattr(argument, "_obj"):
                argument._obj.value = 0x1000


def test_every_driver_function_of_the_list_has_a_signature_or_a_reason_not_to_be_called() -> None:
    without = set(classes()) - set(signatures())
    assert set(signatures()) < set(classes())
    assert {not_called(name) for name in without} == {
        "it needs a window system",
        "no header says what its arguments are",
    }


@pytest.mark.parametrize("name", list(signatures()))
def test_a_plan_has_one_argument_per_parameter_of_a_fitting_kind(name: str) -> None:
    for parameter, argument in zip(signatures()[name], plan(name), strict=True):
        if parameter.pointer:
            assert argument.kind in ("null", "out", "inout", "structure", "text", "object")
        else:
            assert argument.kind in ("integer", "float", "object", "blob"), parameter


@pytest.mark.parametrize(
    ("name", "parameter", "argument"),
    [
        ("cuGetErrorName", "pStr", Argument("out")),
        ("cuMemcpyDtoH_v2", "dstHost", Argument("out")),
        ("cuMemAlloc_v2", "dptr", Argument("out")),
        ("cuGraphGetNodes", "nodes", Argument("null")),
        ("cuMemcpy3D_v2", "pCopy", Argument("structure", "CUDA_MEMCPY3D")),
        ("cuGraphMemcpyNodeGetParams", "nodeParams", Argument("out")),
        ("cuModuleLoadData", "image", Argument("text", "ptx")),
        ("cuLinkAddData_v2", "size", Argument("integer", "ptx_size")),
        ("cuMemFreeAsync_ptsz", "dptr", Argument("object", "pool_memory")),
        ("cuStreamEndCapture", "hStream", Argument("object", "capturing")),
        ("cuIpcOpenMemHandle_v2", "handle", Argument("blob", 64)),
        ("cuTexRefSetMipmapLevelBias", "bias", Argument("float", 0.0)),
        ("cuMemsetD8_v2", "N", Argument("integer", 4)),
    ],
)
def test_arguments_are_what_the_parameter_is_for(
    name: str, parameter: str, argument: Argument
) -> None:
    names = [one.name for one in signatures()[name]]
    assert plan(name)[names.index(parameter)] == argument


def test_every_object_that_a_plan_names_can_be_made() -> None:
    objects = Objects(Recorder(), 7)  # type: ignore[arg-type]
    kinds = {a.value for name in signatures() for a in plan(name) if a.kind == "object"}
    assert len(kinds) > 30
    for kind in kinds:
        bundle = Bundle(objects)
        assert bundle.get(kind), kind
        assert bundle.lacking == []


def test_an_object_that_the_driver_refuses_is_null_and_noted() -> None:
    class Refusing(Recorder):
        def make(self, name: str, *arguments: object) -> int:
            raise AttributeError(name)

    bundle = Bundle(Objects(Refusing(), 7))  # type: ignore[arg-type]
    assert bundle.get("stream") == 0
    assert bundle.get("node:kernel") == 0
    assert bundle.lacking == ["stream", "node:kernel"]


def test_a_graph_executable_and_its_node_belong_to_one_graph() -> None:
    driver = Recorder()
    bundle = Bundle(Objects(driver, 7))  # type: ignore[arg-type]
    node, executable = bundle.get("node:memset"), bundle.get("exec")
    made = [call for call in driver.asked if call[0] == "cuGraphCreate"]
    assert len(made) == 1
    assert node != executable


@pytest.mark.parametrize(
    ("structure", "size"),
    {
        "CUDA_MEMCPY2D": 128,
        "CUDA_MEMCPY3D": 200,
        "CUDA_MEMCPY3D_PEER": 200,
        "CUDA_ARRAY_DESCRIPTOR": 24,
        "CUDA_ARRAY3D_DESCRIPTOR": 40,
        "CUDA_RESOURCE_DESC": 144,
        "CUDA_KERNEL_NODE_PARAMS": 72,
        "CUDA_MEMSET_NODE_PARAMS": 40,
        "CUDA_HOST_NODE_PARAMS": 16,
        "CUlaunchConfig": 52,
        "CUDA_LAUNCH_PARAMS": 56,
        "CUmemLocation": 8,
        "CUmemAllocationProp": 32,
        "CUmemAccessDesc": 12,
        "CUmemPoolProps": 88,
        "CUDA_MEM_ALLOC_NODE_PARAMS": 120,
        "CUDA_BATCH_MEM_OP_NODE_PARAMS": 32,
        "CUgraphNodeParams": 256,
    }.items(),
)
def test_structures_have_the_size_that_the_header_gives_them(structure: str, size: int) -> None:
    content = structures.FILLED[structure](structures.Known(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    assert len(content.rstrip(b"\0")) <= size
    assert len(content) >= size


def test_a_copy_names_its_device_addresses_where_the_header_has_them() -> None:
    raw = structures.memcpy3d(structures.Known(device=0xABC000))
    assert int.from_bytes(raw[48:56], "little") == 0xABC000
    assert int.from_bytes(raw[88 + 48 : 88 + 56], "little") == 0xABC400
    assert int.from_bytes(raw[176:184], "little") == 4


def test_memory_to_be_written_is_patterned_and_memory_to_be_read_is_not() -> None:
    memory = Memory()
    assert set(memory.read(memory.slot())) == {PATTERN}
    assert memory.read(memory.slot(b"\1\2"))[:4] == b"\1\2\0\0"
    assert memory.slot(b"", 4096) % 4096 == 0


def test_a_function_about_a_kind_of_node_gets_such_a_node() -> None:
    assert node_kind("cuGraphMemsetNodeGetParams") == "memset"
    assert plan("cuGraphEventWaitNodeSetEvent")[0] == Argument("object", "node:event_wait")
    assert node_kind("cuGraphNodeGetType") == "kernel"


def test_functions_that_could_hurt_others_are_not_called_and_say_why() -> None:
    assert not_called("cuMulticastCreate")
    assert not_called("cuCheckpointProcessLock")
    assert not not_called("cuMemAlloc_v2")
    listed = {name for batch in batches(list(classes())) for name in batch}
    assert not any(name.startswith("cuMulticast") for name in listed)


def test_what_ends_the_context_has_a_process_of_its_own_and_nothing_is_lost() -> None:
    names = list(classes())
    grouped = batches(names)
    assert ["cuCtxDestroy_v2"] in grouped
    assert ["cuDevicePrimaryCtxReset_v2"] in grouped
    flat = [name for batch in grouped for name in batch]
    assert sorted(flat) == sorted(name for name in names if not not_called(name))
    big = grouped[0]
    assert big.index("cuCtxSetCurrent") > big.index("cuStreamQuery")


def test_the_driver_passes_addresses_of_64_bits_whole(lab: object) -> None:
    # In this process the stand-in is not on the library path; a C library takes its place.
    import ctypes

    driver = Driver.__new__(Driver)
    driver.library = ctypes.CDLL(None)
    target = ctypes.create_string_buffer(b"x" * 8)
    driver.call("memset", ctypes.addressof(target), 0x41, 4)
    assert target.value == b"AAAAxxxx"
