# SPDX-License-Identifier: Apache-2.0
"""Handles and addresses that functions are called with; all of them are made before the fault."""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import structures
from .arguments import GLOBAL, KERNEL, LARGE
from .driver import Driver, DriverError
from .faults import HEAD

PTX = f"""{HEAD}
.visible .global .align 4 .u32 {GLOBAL};
.visible .entry {KERNEL}() {{ ret; }}
"""
SLOT = 512
PATTERN = 0xA5


# Graph nodes: what adds them, what fills their parameters, whether a context follows.
NODES: dict[str, tuple[str, Callable[[structures.Known], bytes], bool]] = {
    "kernel": ("KernelNode_v2", structures.kernel_node, False),
    "memcpy": ("MemcpyNode", structures.memcpy3d, True),
    "memset": ("MemsetNode", structures.memset_node, True),
    "host": ("HostNode", structures.host_node, False),
    "mem_alloc": ("MemAllocNode", structures.mem_alloc_node, False),
    "batch": ("BatchMemOpNode", structures.batch_node, False),
}


class Memory:
    """Host memory in slots of 512 bytes that stay where they are until the process ends."""

    def __init__(self) -> None:
        self.map, self.used = mmap.mmap(-1, 64 << 20), 0
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))

    def slot(self, content: bytes | None = None, align: int = SLOT) -> int:
        """Address of a slot with `content`, or with the pattern that shows what was written."""
        self.used = -(-self.used // align) * align
        at, size = self.used, max(SLOT, len(content or b""))
        self.used += -(-size // SLOT) * SLOT
        fill = bytes([PATTERN]) * SLOT if content is None else content.ljust(size, b"\0")
        self.map[at : at + size] = fill
        return self.start + at

    def read(self, address: int) -> bytes:
        """The slot at an address."""
        return bytes(self.map[address - self.start : address - self.start + SLOT])


class Objects:
    """Makes objects of a kind, a new one for every function that asks, and keeps what is shared."""

    def __init__(self, driver: Driver, context: int) -> None:
        self.driver, self.context, self.memory = driver, context, Memory()
        self.folder = tempfile.TemporaryDirectory(prefix="faultline-gpu-")
        self.path = str(Path(self.folder.name) / "idle.ptx")
        Path(self.path).write_text(PTX)
        self.ptx = self.memory.slot(PTX.encode() + b"\0")
        # A C function that takes whatever it is given and leaves it alone.
        self.nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value or 0
        self.shared: dict[str, int] = {}

    def one(self, kind: str) -> int:
        """The object of a kind that all functions share."""
        if kind not in self.shared:
            self.shared[kind] = self.new(kind)
        return self.shared[kind]

    def some(self, kind: str) -> int:
        """As `one`, but 0 when the driver makes none."""
        try:
            return self.one(kind)
        except (DriverError, AttributeError):
            return self.shared.setdefault(kind, 0)

    def new(self, kind: str) -> int:
        """A new object of a kind. Raises DriverError or AttributeError when there is none."""
        return self.makers()[kind]()

    def makers(self) -> dict[str, Callable[[], int]]:
        """What makes each kind of object, but for those of a graph: see Bundle."""
        make = self.driver.make
        named = {
            name[len("_make_") :]: getattr(self, name)
            for name in dir(self)
            if name.startswith("_make_")
        }
        return named | {
            "context": lambda: self.context,
            "callback": lambda: self.nothing,
            "large": lambda: make("cuMemAlloc_v2", LARGE),
            "managed": lambda: make("cuMemAllocManaged", 4096, 1),
            "stream": lambda: make("cuStreamCreate", 0),
            "library": lambda: make("cuLibraryLoadData", self.ptx, 0, 0, 0, 0, 0, 0),
            "module": lambda: make("cuModuleLoadData", self.ptx),
            "graph": lambda: make("cuGraphCreate", 0),
            "child_graph": lambda: make("cuGraphCreate", 0),
            "host_allocation": lambda: make("cuMemHostAlloc", 4096, 0),
            "reserved": lambda: make("cuMemAddressReserve", LARGE, 0, 0, 0),
            "user": lambda: make("cuUserObjectCreate", 0, self.nothing, 1, 1),
            "texref": lambda: make("cuTexRefCreate"),
            "host_pages": lambda: self.memory.slot(b"\0" * 4096, mmap.PAGESIZE),
        }

    def _from(self, name: str, content: bytes, *rest: int) -> int:
        """Something made from a structure."""
        return self.driver.make(name, self.memory.slot(content), *rest)

    def _make_memory(self) -> int:
        """Zeros: a wait for a value that is there already does not block its stream."""
        address = self.driver.make("cuMemAlloc_v2", 4096)
        self.driver.need("cuMemsetD8_v2", address, 0, 4096)
        return address

    def _make_capturing(self) -> int:
        stream = self.driver.make("cuStreamCreate", 1)
        self.driver.need("cuStreamBeginCapture_v2", stream, 2)
        return stream

    def _make_event(self) -> int:
        event = self.driver.make("cuEventCreate", 0)
        self.driver.need("cuEventRecord", event, 0)
        return event

    def _make_function(self) -> int:
        name = ctypes.c_char_p(KERNEL.encode())
        return self.driver.make("cuModuleGetFunction", self.one("module"), name)

    def _make_kernel(self) -> int:
        name = ctypes.c_char_p(KERNEL.encode())
        return self.driver.make("cuLibraryGetKernel", self.one("library"), name)

    def _make_pool(self) -> int:
        return self._from("cuMemPoolCreate", structures.pool(structures.Known()))

    def _make_pool_memory(self) -> int:
        return self.driver.make("cuMemAllocAsync", 64, 0)

    def _make_allocation(self) -> int:
        size, prop = LARGE, self.memory.slot(structures.allocation(structures.Known()))
        return self.driver.make("cuMemCreate", size, prop, 0)

    def _make_mapped(self) -> int:
        address = self.new("reserved")
        self.driver.need("cuMemMap", address, LARGE, 0, self.new("allocation"), 0)
        access = self.memory.slot(structures.access(structures.Known()))
        self.driver.need("cuMemSetAccess", address, LARGE, access, 1)
        return address

    def _make_host_registered(self) -> int:
        address = self.new("host_pages")
        self.driver.need("cuMemHostRegister_v2", address, 4096, 0)
        return address

    def _make_array_1d(self) -> int:
        raw = bytearray(structures.array_2d(structures.Known()))
        raw[8:16] = bytes(8)
        return self._from("cuArrayCreate_v2", bytes(raw))

    def _make_array_2d(self) -> int:
        return self._from("cuArray3DCreate_v2", structures.array_3d(structures.Known()))

    def _make_mipmap(self) -> int:
        return self._from("cuMipmappedArrayCreate", structures.array_3d(structures.Known()), 1)

    def _make_texture(self) -> int:
        known = structures.Known(array=self.one("array_2d"))
        slot = self.memory.slot(structures.resource(known))
        return self.driver.make("cuTexObjectCreate", slot, self.memory.slot(b""), 0)

    def _make_surface(self) -> int:
        known = structures.Known(array=self.one("array_2d"))
        return self._from("cuSurfObjectCreate", structures.resource(known))

    def _make_link(self) -> int:
        state, name = ctypes.c_uint64(0), ctypes.c_char_p(b"faultline")
        self.driver.need("cuLinkCreate_v2", 0, 0, 0, ctypes.byref(state))
        data = (1, self.ptx, len(PTX) + 1, name, 0, 0, 0)
        self.driver.need("cuLinkAddData_v2", state.value, *data)
        return state.value

    def _make_green(self) -> int:
        resource = self.memory.slot(b"")
        self.driver.need("cuDeviceGetDevResource", 0, resource, 1)
        description = self.driver.make("cuDevResourceGenerateDesc", resource, 1)
        return self.driver.make("cuGreenCtxCreate", description, 0, 1)

    def known(self) -> structures.Known:
        """What structures are filled with."""
        params = self.memory.slot(
            structures.write_value(structures.Known(device=self.some("memory")))
        )
        return structures.Known(
            device=self.some("memory"),
            host=self.memory.slot(),
            array=self.some("array_2d"),
            function=self.some("function"),
            context=self.context,
            callback=self.nothing,
            params=params,
            stream=self.some("stream"),
            event=self.some("event"),
        )


class Bundle:
    """The objects of one function: nodes and graph executable belong to the same graph."""

    def __init__(self, objects: Objects) -> None:
        self.objects, self.lacking = objects, list[str]()
        self.graph: int | None = None
        self.nodes: dict[str, int] = {}

    def get(self, kind: str) -> int:
        """An object, or 0 (noted in `lacking`) when the driver makes none of this kind."""
        try:
            if kind.startswith("node:"):
                return self._node(kind.removeprefix("node:"))
            if kind in ("graph", "exec", "clone"):
                return self._of_graph(kind)
            return self.objects.new(kind)
        except (DriverError, AttributeError):
            self.lacking.append(kind)
            return 0

    def _of_graph(self, kind: str) -> int:
        if self.graph is None:
            self.graph = self.objects.new("graph")
        if kind == "clone":
            return self.objects.driver.make("cuGraphClone", self.graph)
        if kind == "exec":
            if not self.nodes:
                self._node("kernel")
            return self.objects.driver.make("cuGraphInstantiateWithFlags", self.graph, 0)
        return self.graph

    def _node(self, kind: str) -> int:
        if kind not in self.nodes:
            self.nodes[kind] = self._add(kind, self._of_graph("graph"))
        return self.nodes[kind]

    def _add(self, kind: str, graph: int) -> int:
        known, objects = self.objects.known(), self.objects
        if kind == "child":
            return objects.driver.make(
                "cuGraphAddChildGraphNode", graph, 0, 0, objects.one("graph")
            )
        if kind.startswith("event_"):
            name = "Record" if kind == "event_record" else "Wait"
            return objects.driver.make(f"cuGraphAddEvent{name}Node", graph, 0, 0, known.event)
        name, fill, with_context = NODES[kind]
        rest = [known.context] if with_context else []
        slot = objects.memory.slot(fill(known))
        return objects.driver.make(f"cuGraphAdd{name}", graph, 0, 0, slot, *rest)
