# SPDX-License-Identifier: Apache-2.0
"""Does to the driver what it is told, one thing per line of stdin, and says what came of it.

Usage: modes_worker [ORDINAL]. Prints {"start": CODE} first. Then, for each line, what it found:

- `wait`: cuCtxSynchronize
- `spin MS`: a kernel that runs so long, and the wait for it; {"waiting": 0} when it begins to wait
- `work`: 256 bytes there and back, which must be what they were
- `count N`: as many waits, their codes
- `nvml`: NVML is asked for the GPU's memory

Each answer has the CUresult (`code`; of NVML its nvmlReturn_t) and microseconds (`us`).
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

from .driver import Driver, DriverError
from .faults import HEAD

SPIN = f"""{HEAD}
.visible .entry faultline_spin(.param .u64 nanoseconds) {{
  .reg .u64 %now, %end; .reg .pred %more;
  ld.param.u64 %end, [nanoseconds]; mov.u64 %now, %globaltimer; add.u64 %end, %end, %now;
again:
  mov.u64 %now, %globaltimer; setp.lt.u64 %more, %now, %end; @%more bra again;
  ret;
}}
"""


class Worker:
    """A process with one context on one GPU."""

    def __init__(self, ordinal: int) -> None:
        self.driver, self.ordinal = Driver(), ordinal

    def start(self) -> None:
        """Make the context. Raises DriverError."""
        self.driver.start(self.ordinal)

    def wait(self) -> int:
        """Wait for the GPU."""
        return self.driver.call("cuCtxSynchronize")

    def count(self, number: str) -> list[int]:
        """Wait several times."""
        return [self.wait() for _ in range(int(number))]

    def work(self) -> int:
        """Copy to the GPU and back. Raises ValueError when something else comes back."""
        sent, back = (ctypes.c_ubyte * 256)(*range(256)), (ctypes.c_ubyte * 256)()
        try:
            pointer = self.driver.make("cuMemAlloc_v2", 256)
            self.driver.need("cuMemcpyHtoD_v2", pointer, sent, 256)
            self.driver.need("cuMemcpyDtoH_v2", back, pointer, 256)
            self.driver.need("cuMemFree_v2", pointer)
        except DriverError as error:
            return error.code
        if bytes(back) != bytes(sent):
            raise ValueError("what came back from the GPU is not what was sent")
        return 0

    def spin(self, milliseconds: str) -> int:
        """Launch a kernel that takes time, and wait for it. Raises DriverError when refused."""
        image = ctypes.c_char_p(SPIN.encode())
        module = self.driver.make("cuModuleLoadData", image)
        name = ctypes.c_char_p(b"faultline_spin")
        function = self.driver.make("cuModuleGetFunction", module, name)
        length = ctypes.c_uint64(int(milliseconds) * 1_000_000)
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(length))
        self.driver.need("cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, 0, arguments, None)
        say(waiting=0)
        return self.wait()

    def nvml(self) -> int:
        """Ask NVML about this GPU."""
        library, gpu = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()
        memory = (ctypes.c_ulonglong * 3)()
        code = library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(
            self.driver.uuid(self.ordinal).encode(), ctypes.byref(gpu)
        )
        return int(code or library.nvmlDeviceGetMemoryInfo(gpu, memory))


def say(**line: Any) -> None:
    """One line of JSON."""
    print(json.dumps(line), flush=True)


def main() -> None:
    """Obey until stdin ends."""
    worker = Worker(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    try:
        worker.start()
    except DriverError as error:
        say(start=error.code)
        return
    say(start=0)
    for line in sys.stdin:
        order, *arguments = line.split()
        begun = time.monotonic_ns()
        try:
            code = getattr(worker, order)(*arguments)
        except DriverError as error:
            say(refused=error.code, function=str(error))
            continue
        say(code=code, us=(time.monotonic_ns() - begun) // 1000)


if __name__ == "__main__":
    main()
