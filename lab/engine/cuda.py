# SPDX-License-Identifier: Apache-2.0
"""One decode step on a GPU through the CUDA driver API, with nothing but ctypes.

Works on any `libcuda.so.1`: a real one compiles the PTX below and runs it; the lab's stand-in knows
the kernel by its name.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

# out[i] = in[i] ^ key for i < n. The key makes sure that a result which was never computed, or is
# left from the step before, does not look like a token.
PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry faultline_token_step(
    .param .u64 source, .param .u64 target, .param .u32 count, .param .u32 key)
{
    .reg .pred %p<2>;
    .reg .b32 %r<8>;
    .reg .b64 %d<8>;
    ld.param.u64 %d1, [source];
    ld.param.u64 %d2, [target];
    ld.param.u32 %r1, [count];
    ld.param.u32 %r2, [key];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %d3, %d1;
    cvta.to.global.u64 %d4, %d2;
    mul.wide.u32 %d5, %r6, 4;
    add.s64 %d6, %d3, %d5;
    ld.global.u32 %r7, [%d6];
    xor.b32 %r7, %r7, %r2;
    add.s64 %d6, %d4, %d5;
    st.global.u32 [%d6], %r7;
DONE:
    ret;
}
\0"""


class CudaError(RuntimeError):
    """A driver call failed; `code` is its CUresult."""

    def __init__(self, call: str, code: int, name: str, text: str) -> None:
        super().__init__(f"CUDA error {code} ({name}): {text}, returned by {call}")
        self.code = code


class Gpu:
    """The first visible GPU, with a context and the kernel loaded.

    Not for several threads: a context is current for the thread that made it.
    """

    def __init__(self) -> None:
        """Raises OSError without a driver library, CudaError when the GPU does not start."""
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        device, self.context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        name, uuid = ctypes.create_string_buffer(96), ctypes.create_string_buffer(16)
        self.call("cuDeviceGetName", name, 96, device)
        self.call("cuDeviceGetUuid_v2", uuid, device)
        self.name, self.uuid = name.value.decode(), uuid.raw.hex()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), device)
        self.call("cuCtxSetCurrent", self.context)
        module, self.kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), PTX)
        self.call("cuModuleGetFunction", ctypes.byref(self.kernel), module, b"faultline_token_step")

    def call(self, name: str, *arguments: Any) -> None:
        """Call a driver function; raises CudaError unless it succeeds."""
        code = getattr(self.cuda, name)(*arguments)
        if code:
            raise CudaError(name, code, *self.describe(code))

    def describe(self, code: int) -> tuple[str, str]:
        """Name and text of a CUresult as the driver gives them."""
        name, text = ctypes.c_char_p(), ctypes.c_char_p()
        self.cuda.cuGetErrorName(code, ctypes.byref(name))
        self.cuda.cuGetErrorString(code, ctypes.byref(text))
        return (name.value or b"unknown").decode(), (text.value or b"unknown").decode()

    def step(self, token: int) -> int:
        """Send one token through the GPU: allocate, copy, launch, synchronize, copy back, free."""
        size = ctypes.c_size_t(4)
        source, target = ctypes.c_uint64(), ctypes.c_uint64()
        key = ctypes.c_uint32(int.from_bytes(os.urandom(4), "little"))
        value, count = ctypes.c_uint32(token), ctypes.c_uint32(1)
        self.call("cuMemAlloc_v2", ctypes.byref(source), size)
        self.call("cuMemAlloc_v2", ctypes.byref(target), size)
        self.call("cuMemcpyHtoD_v2", source, ctypes.byref(value), size)
        parts = (source, target, count, key)
        arguments = (ctypes.c_void_p * 4)(*(ctypes.addressof(part) for part in parts))
        grid = (1, 1, 1, 1, 1, 1)
        self.call("cuLaunchKernel", self.kernel, *grid, 0, None, arguments, None)
        self.call("cuCtxSynchronize")
        self.call("cuMemcpyDtoH_v2", ctypes.byref(value), target, size)
        self.call("cuMemFree_v2", source)
        self.call("cuMemFree_v2", target)
        return value.value ^ key.value
