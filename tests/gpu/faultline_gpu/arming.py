# SPDX-License-Identifier: Apache-2.0
"""Arms the control page through the service's own writer, and says how to run under the shim."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from faultline_service.page import Entry, Page

from .signatures import TREE

LIBRARY = TREE / "shim/build/libfaultline.so"


def entry(gpu_uuid: str, code: int, xid: int = 43, **changes: Any) -> Entry:
    """A sticky fault of live contexts on one GPU, as an XID that one application causes."""
    values: dict[str, Any] = {
        "fault_id": "gpu-test",
        "xid": xid,
        "gpu_uuid": gpu_uuid,
        "code_live": code,
        "code_new": 0,
        "code_nvml": 0,
        "classes": "SQT",
        "not_after": 0,
    }
    return Entry(**(values | changes))


def arm(page: Path, gpu_uuid: str, code: int, **changes: Any) -> None:
    """Make one fault the only armed one of a page."""
    Page(page).write([entry(gpu_uuid, code, **changes)])


def arm_genuine(page: Path, gpu_uuid: str, code: int, xid: int) -> None:
    """Make the shim run a kernel that really faults."""
    writer = Page(page)
    writer.allow_genuine(True)
    writer.write([entry(gpu_uuid, code, xid, mode="genuine")])


def disarm(page: Path) -> None:
    """End every fault of a page."""
    Page(page).write([])


def plain() -> dict[str, str]:
    """Environment of a process without any preload."""
    return {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "FAULTLINE_CONTROL")}


def preloaded(page: Path, library: Path = LIBRARY) -> dict[str, str]:
    """Environment of a process with the shim; the page is made when there is none."""
    Page(page)
    return plain() | {"LD_PRELOAD": str(library), "FAULTLINE_CONTROL": str(page)}
