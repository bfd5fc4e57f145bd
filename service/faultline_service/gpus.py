# SPDX-License-Identifier: Apache-2.0
"""The GPUs of a node, as its driver lists them in /proc/driver/nvidia."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PCI = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?)")


@dataclass(frozen=True)
class Gpu:
    """One GPU; `pci` has the function digit, `0000:1a:00.0`."""

    index: int
    uuid: str
    pci: str
    name: str

    def as_status(self) -> dict[str, Any]:
        """As it stands in the status of GPUFault and GPUHost."""
        facts = asdict(self)
        facts["pciAddress"] = facts.pop("pci")
        return facts

    @property
    def pci_logged(self) -> str:
        """Address as the driver writes it into the kernel log: without the function digit."""
        return self.pci.rsplit(".", 1)[0]


def _read(file: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def driver_branch(driver: Path) -> int | None:
    """Branch of the loaded driver (570 of 570.148.08), None when its file does not say."""
    try:
        said = re.search(r"\b(\d{3,4})\.\d+(\.\d+)?\b", (driver / "version").read_text())
    except OSError:
        return None
    return int(said[1]) if said else None


def on_node(driver: Path) -> list[Gpu]:
    """GPUs below `<driver>/gpus`, in PCI order, which is nvidia-smi's; empty without a driver."""
    found = []
    for file in driver.glob("gpus/*/information"):
        facts = _read(file)
        if "GPU UUID" in facts and "Bus Location" in facts:
            found.append((facts["Bus Location"].lower(), facts["GPU UUID"], facts.get("Model", "")))
    return [Gpu(i, uuid, pci, name) for i, (pci, uuid, name) in enumerate(sorted(found))]


def choose(gpus: Iterable[Gpu], target: Mapping[str, Any]) -> Gpu:
    """The GPU that `target` names by index, uuid or pciAddress.

    Raises LookupError, which lists what there is, when the node has no such GPU.
    """
    there = list(gpus)
    for gpu in there:
        if target.get("index") is not None and gpu.index == target["index"]:
            return gpu
        if target.get("uuid") and gpu.uuid.lower() == target["uuid"].lower():
            return gpu
        if target.get("pciAddress") and _same_pci(gpu, target["pciAddress"]):
            return gpu
    have = ", ".join(f"{g.index} {g.uuid} {g.pci}" for g in there) or "none"
    wanted = ", ".join(f"{key} {value}" for key, value in target.items())
    raise LookupError(f"the node has no GPU with {wanted}; it has: {have}")


def _same_pci(gpu: Gpu, address: str) -> bool:
    """Whether an address is the GPU's: domain of four or eight digits or none, function or none."""
    said = PCI.fullmatch(address.lower())
    if not said:
        return False
    return f"{int(said[1] or '0', 16):04x}:{said[2]}" in (gpu.pci, gpu.pci_logged)
