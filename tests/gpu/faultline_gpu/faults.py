# SPDX-License-Identifier: Apache-2.0
"""Kernels that really fault, as PTX text that the driver compiles itself: no toolkit is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from .driver import Driver

HEAD = ".version 7.8\n.target sm_80\n.address_size 64\n"
FAR = 1 << 42  # beyond every mapping of a process: user addresses end at 1 << 47


@dataclass(frozen=True)
class Fault:
    """A genuine fault: CUresult it leaves, XID the kernel logs for it, body of its kernel."""

    code: int
    xid: int
    body: str
    before: str = ""


FAULTS = {
    "trap": Fault(719, 43, "trap;"),
    "wild": Fault(700, 31, f"add.u64 %p, %p, {FAR}; st.global.u32 [%p], %v;"),
    "misaligned": Fault(716, 13, "add.u64 %p, %p, 1; st.global.u32 [%p], %v;"),
    "assert": Fault(
        710,
        43,
        """
        mov.u64 %m, said; cvta.global.u64 %m, %m; mov.u64 %p, 1;
        { .param .b64 a; st.param.b64 [a], %m; .param .b64 b; st.param.b64 [b], %m;
          .param .b32 c; st.param.b32 [c], %v; .param .b64 d; st.param.b64 [d], %m;
          .param .b64 e; st.param.b64 [e], %p;
          call.uni __assertfail, (a, b, c, d, e); }
        """,
        """
        .extern .func __assertfail
          (.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
        .global .align 1 .b8 said[10] = {102, 97, 117, 108, 116, 108, 105, 110, 101, 0};
        """,
    ),
}


def ptx(kind: str) -> str:
    """PTX of the kernel `faultline_fault` (one address) that has this fault."""
    fault = FAULTS[kind]
    return f"""{HEAD}{fault.before}
.visible .entry faultline_fault(.param .u64 at) {{
  .reg .u64 %p, %m; .reg .u32 %v;
  ld.param.u64 %p, [at]; mov.u32 %v, 1;
  {fault.body}
  ret;
}}
"""


class Trap:
    """A faulting kernel that is loaded and ready, so that setting it off is one launch."""

    def __init__(self, driver: Driver, kind: str) -> None:
        """Load it into the current context. Raises DriverError when the driver refuses it."""
        self.driver, self.fault = driver, FAULTS[kind]
        self.image = ptx(kind).encode() + b"\0"
        # A stream of its own, non-blocking: it waits for nobody, captures do not mind it.
        self.stream = driver.make("cuStreamCreate", 1)
        module = driver.make("cuModuleLoadData", ctypes.c_char_p(self.image))
        self.function = driver.make(
            "cuModuleGetFunction", module, ctypes.c_char_p(b"faultline_fault")
        )
        self.address = ctypes.c_uint64(driver.make("cuMemAlloc_v2", 4096))
        self.arguments = (ctypes.c_void_p * 1)(ctypes.addressof(self.address))

    def spring(self) -> int:
        """Launch one thread and return at once; returns the launch's CUresult."""
        shape = (1, 1, 1, 1, 1, 1, 0)
        launch = (self.function, *shape, self.stream, self.arguments, None)
        return self.driver.call("cuLaunchKernel", *launch)
