# SPDX-License-Identifier: Apache-2.0
"""Bytes of the driver's structures, filled so that a healthy driver accepts them.

Offsets are those of cuda.h on 64-bit Linux. `device` is a device address, `host` a host address,
`array` a handle of a 64 by 64 array of one float each.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

FLOAT = 0x20  # CU_AD_FORMAT_FLOAT
HOST, DEVICE = 1, 2  # CU_MEMORYTYPE_*
PAGE = 4096


@dataclass(frozen=True)
class Known:
    """Addresses and handles that structures are filled with."""

    device: int = 0
    host: int = 0
    array: int = 0
    function: int = 0
    kernel: int = 0
    context: int = 0
    callback: int = 0
    params: int = 0
    stream: int = 0
    event: int = 0


def _side(memory: int, address: int, pitch: int, height: int | None) -> bytes:
    """One side of a 2D or 3D copy: place, memory type, host, device, array, pitch."""
    host, device = (address, 0) if memory == HOST else (0, address)
    lead = struct.pack("<QQ", 0, 0) if height is None else struct.pack("<QQQQ", 0, 0, 0, 0)
    body = struct.pack("<IIQQQ", memory, 0, host, device, 0)
    tail = struct.pack("<Q", pitch) if height is None else struct.pack("<QQQ", 0, pitch, height)
    return lead + body + tail


def memcpy2d(known: Known) -> bytes:
    """CUDA_MEMCPY2D: four bytes from the device to the device."""
    source = _side(DEVICE, known.device, 64, None)
    return source + _side(DEVICE, known.device + 1024, 64, None) + struct.pack("<QQ", 4, 1)


def memcpy3d(known: Known) -> bytes:
    """CUDA_MEMCPY3D: four bytes from the device to the device."""
    source = _side(DEVICE, known.device, 64, 1)
    return source + _side(DEVICE, known.device + 1024, 64, 1) + struct.pack("<QQQ", 4, 1, 1)


def memcpy3d_peer(known: Known) -> bytes:
    """CUDA_MEMCPY3D_PEER: as CUDA_MEMCPY3D, with a context in the reserved place of each side."""
    raw = bytearray(memcpy3d(known))
    struct.pack_into("<Q", raw, 64, known.context)
    struct.pack_into("<Q", raw, 88 + 64, known.context)
    return bytes(raw)


def array_2d(_known: Known) -> bytes:
    """CUDA_ARRAY_DESCRIPTOR: 64 by 64 floats."""
    return struct.pack("<QQII", 64, 64, FLOAT, 1)


def array_3d(_known: Known) -> bytes:
    """CUDA_ARRAY3D_DESCRIPTOR: 64 by 64 floats, usable as a surface."""
    return struct.pack("<QQQIIII", 64, 64, 0, FLOAT, 1, 2, 0)


def resource(known: Known) -> bytes:
    """CUDA_RESOURCE_DESC of an array."""
    return struct.pack("<IIQ", 0, 0, known.array) + bytes(128)


def kernel_node(known: Known) -> bytes:
    """CUDA_KERNEL_NODE_PARAMS of a kernel of one thread."""
    dims = (1, 1, 1, 1, 1, 1, 0, 0)
    head = struct.pack("<Q8I", known.function, *dims)
    return head + bytes(32)


def memset_node(known: Known) -> bytes:
    """CUDA_MEMSET_NODE_PARAMS: four bytes."""
    return struct.pack("<QQIIQQ", known.device, 64, 0, 1, 4, 1)


def host_node(known: Known) -> bytes:
    """CUDA_HOST_NODE_PARAMS."""
    return struct.pack("<QQ", known.callback, 0)


def launch_config(known: Known) -> bytes:
    """CUlaunchConfig of one thread."""
    head = struct.pack("<7I4xQQ", 1, 1, 1, 1, 1, 1, 0, known.stream, 0)
    return head + struct.pack("<I4x", 0)


def launch_params(known: Known) -> bytes:
    """CUDA_LAUNCH_PARAMS of one thread."""
    head = struct.pack("<Q7I4x", known.function, 1, 1, 1, 1, 1, 1, 0)
    return head + struct.pack("<QQ", known.stream, 0)


def location(_known: Known) -> bytes:
    """CUmemLocation of device 0."""
    return struct.pack("<II", 1, 0)


def allocation(_known: Known) -> bytes:
    """CUmemAllocationProp: pinned on device 0, shareable by a file descriptor."""
    return struct.pack("<IIII", 1, 1, 1, 0) + bytes(16)


def access(known: Known) -> bytes:
    """CUmemAccessDesc: device 0 may read and write."""
    return location(known) + struct.pack("<I", 3)


def pool(_known: Known) -> bytes:
    """CUmemPoolProps: pinned on device 0, shareable by a file descriptor."""
    return struct.pack("<IIII", 1, 1, 1, 0) + bytes(72)


def mem_alloc_node(known: Known) -> bytes:
    """CUDA_MEM_ALLOC_NODE_PARAMS: 64 bytes of device 0."""
    props = struct.pack("<IIII", 1, 0, 1, 0) + bytes(72)
    return props + struct.pack("<QQQQ", 0, 0, 64, 0)


def write_value(known: Known) -> bytes:
    """CUstreamBatchMemOpParams: write 32 bits of zero."""
    return struct.pack("<I4xQQII", 2, known.device, 0, 0, 0) + bytes(64)


def batch_node(known: Known) -> bytes:
    """CUDA_BATCH_MEM_OP_NODE_PARAMS with one write."""
    return struct.pack("<QI4xQI4x", known.context, 1, known.params, 0)


def graph_node(_known: Known) -> bytes:
    """CUgraphNodeParams of an empty node."""
    return struct.pack("<I12x", 5) + bytes(240)


def kernel_attribute(_known: Known) -> bytes:
    """CUlaunchAttributeValue: priority 0."""
    return bytes(64)


FILLED = {
    "CUDA_MEMCPY2D": memcpy2d,
    "CUDA_MEMCPY3D": memcpy3d,
    "CUDA_MEMCPY3D_PEER": memcpy3d_peer,
    "CUDA_ARRAY_DESCRIPTOR": array_2d,
    "CUDA_ARRAY3D_DESCRIPTOR": array_3d,
    "CUDA_RESOURCE_DESC": resource,
    "CUDA_KERNEL_NODE_PARAMS": kernel_node,
    "CUDA_KERNEL_NODE_PARAMS_v1": kernel_node,
    "CUDA_MEMSET_NODE_PARAMS": memset_node,
    "CUDA_HOST_NODE_PARAMS": host_node,
    "CUlaunchConfig": launch_config,
    "CUDA_LAUNCH_PARAMS": launch_params,
    "CUmemLocation": location,
    "CUmemAllocationProp": allocation,
    "CUmemAccessDesc": access,
    "CUmemPoolProps": pool,
    "CUDA_MEM_ALLOC_NODE_PARAMS": mem_alloc_node,
    "CUstreamBatchMemOpParams": write_value,
    "CUDA_BATCH_MEM_OP_NODE_PARAMS": batch_node,
    "CUgraphNodeParams": graph_node,
    "CUkernelNodeAttrValue": kernel_attribute,
    "CUstreamAttrValue": kernel_attribute,
}
