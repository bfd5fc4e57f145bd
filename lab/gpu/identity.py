# SPDX-License-Identifier: Apache-2.0
"""Which GPUs a lab node has. The only place that knows; everything else asks."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

NAME = "NVIDIA H100 80GB HBM3"
DRIVER = "570.148.08"
MOST = 6


@dataclass(frozen=True)
class Gpu:
    """One GPU: minor number, `GPU-…` UUID, PCI address with function digit."""

    index: int
    uuid: str
    pci: str
    name: str = NAME

    @property
    def pci_key(self) -> str:
        """Address as the kernel driver logs it: domain, bus and device."""
        return self.pci.rsplit(".", 1)[0]

    def information(self) -> str:
        """Content of /proc/driver/nvidia/gpus/<pci>/information."""
        rows = {
            "Model": self.name,
            "IRQ": "41",
            "GPU UUID": self.uuid,
            "Video BIOS": "96.00.da.00.0c",
            "Bus Type": "PCIe",
            "Bus Location": self.pci,
            "Device Minor": str(self.index),
            "GPU Firmware": DRIVER,
            "GPU Excluded": "No",
        }
        return "".join(f"{key + ':':<16}\t {value}\n" for key, value in rows.items())


def gpus(node: str, count: int) -> list[Gpu]:
    """GPUs of a node. The node's number is the digits its name ends in, else 1.

    Every node of a lab has addresses of its own, because all nodes share one kernel log: the
    address says which node a line belongs to. Sixteen nodes fit into a PCI domain, by the first
    digit of the bus. Raises ValueError unless `count` is 1 to 6.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"a lab node has 1 to {MOST} GPUs, not {count}")
    digits = re.search(r"(\d+)$", node)
    number = int(digits.group(1)) if digits else 1
    made = []
    for index in range(count):
        domain, bus = f"{number // 16:04x}", f"{number % 16:x}{'abcdef'[index]}"
        key = uuid.uuid5(uuid.NAMESPACE_DNS, f"{node}/{index}.gpu.faultline.dev")
        made.append(Gpu(index, f"GPU-{key}", f"{domain}:{bus}:00.0"))
    return made
