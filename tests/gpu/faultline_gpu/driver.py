# SPDX-License-Identifier: Apache-2.0
"""libcuda.so.1 by ctypes: every function returns its CUresult."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

U64 = ctypes.c_uint64


class DriverError(Exception):
    """A function that had to work did not; `code` is its CUresult."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function} returned {code}")
        self.code = code


class Driver:
    """The driver library of this process, through whatever is preloaded."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")

    @classmethod
    def ready(cls) -> Driver:
        """The driver library, initialised and without a context. Raises DriverError."""
        driver = cls()
        driver.need("cuInit", 0)
        return driver

    def has(self, name: str) -> bool:
        """Whether the driver exports a function of this name."""
        return hasattr(self.library, name)

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function; integers are passed as 64 bits. Returns its CUresult."""
        function: Callable[..., int] = getattr(self.library, name)
        ready = [U64(a & (1 << 64) - 1) if isinstance(a, int) else a for a in arguments]
        return int(function(*ready))

    def need(self, name: str, *arguments: Any) -> None:
        """Call a function that must work. Raises DriverError when it does not."""
        code = self.call(name, *arguments)
        if code:
            raise DriverError(name, code)

    def make(self, name: str, *arguments: Any) -> int:
        """Call a function whose first argument receives a handle or address; returns that.

        Raises DriverError when it does not work.
        """
        made = U64(0)
        self.need(name, ctypes.byref(made), *arguments)
        return made.value

    def start(self, ordinal: int = 0) -> int:
        """Initialise and make the primary context of a device current; returns the context."""
        device = ctypes.c_int(0)
        self.need("cuInit", 0)
        self.need("cuDeviceGet", ctypes.byref(device), ordinal)
        context = self.make("cuDevicePrimaryCtxRetain", device.value)
        self.need("cuCtxSetCurrent", context)
        return context

    def uuid(self, ordinal: int = 0) -> str:
        """`GPU-…` of a device, as nvidia-smi writes it."""
        raw = (ctypes.c_ubyte * 16)()
        self.need("cuDeviceGetUuid_v2", raw, ordinal)
        text = bytes(raw).hex()
        cuts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
        return f"GPU-{'-'.join(cuts)}"

    def count(self) -> int:
        """Number of devices."""
        number = ctypes.c_int(0)
        self.need("cuDeviceGetCount", ctypes.byref(number))
        return number.value

    def pci(self, ordinal: int = 0) -> str:
        """PCI address of a device, `0000:1a:00.0`."""
        text = ctypes.create_string_buffer(32)
        self.need("cuDeviceGetPCIBusId", text, 32, ordinal)
        return text.value.decode()
