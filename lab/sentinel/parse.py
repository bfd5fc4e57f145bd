# SPDX-License-Identifier: Apache-2.0
"""From a line of the kernel's journal to a health event. Pure functions.

Patterns and the catalogue of actions are the detector's own (NVSentinel around v1.19): what it
makes of an XID, not what the XID means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")
RESET_ACK = re.compile(r"GPU reset executed: (GPU-[0-9a-fA-F-]+), success: (true|false)")
RECOVERY_ACTION = re.compile(r".*\((.*?)\)", re.DOTALL)
REGISTERS = re.compile(r"link (\d+)\(((?:0x[0-9a-fA-F]+, ){6}0x[0-9a-fA-F]+)\)")

AGENT = "syslog-health-monitor"
CHECK = "SysLogsXIDError"
CHECKS = (CHECK, "SysLogsSXIDError", "SysLogsGPUFallenOff")
HEALTHY = "No Health Failures"
ACTIONS = {
    "NONE": 0,
    "COMPONENT_RESET": 2,
    "CONTACT_SUPPORT": 5,
    "RESTART_VM": 15,
    "RESTART_BM": 24,
}


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


RESTART_BM = _numbers("79")
RESTART_VM = _numbers("151")
RESET = _numbers("46 48 62 64 95 109-110 119-120 136 140 143 155-156 158")
NONE = _numbers(
    "8 11 13-14 25 31-32 37-41 43-45 60 63 66-72 75-77 80 82-86 88-89 92-94 96-108 121 126-135"
    " 137 139 141 152-153 157 160-161"
)


def action_of(xid: int, line: str) -> str:
    """Recommended action; any number that is not in the catalogue asks for support."""
    if xid == 154:
        said = RECOVERY_ACTION.match(line)
        text = said.group(1) if said else ""
        known = {
            "GPU Reset Required": "COMPONENT_RESET",
            "Drain and Reset": "COMPONENT_RESET",
            "Node Reboot Required": "RESTART_BM",
            "None": "NONE",
        }
        return next((a for key, a in known.items() if key in text), "CONTACT_SUPPORT")
    for numbers, action in (
        (RESTART_BM, "RESTART_BM"),
        (RESTART_VM, "RESTART_VM"),
        (RESET, "COMPONENT_RESET"),
        (NONE, "NONE"),
    ):
        if xid in numbers:
            return action
    return "CONTACT_SUPPORT"


@dataclass(frozen=True)
class Event:
    """One health event, healthy or not, about a node or about some of its GPUs."""

    node: str
    check: str
    healthy: bool
    message: str
    action: str = "NONE"
    code: str = ""
    entities: tuple[tuple[str, str], ...] = field(default=())

    @property
    def fatal(self) -> bool:
        """Fatal means nothing but: something is to be done."""
        return not self.healthy and self.action != "NONE"

    def content(self) -> dict[str, Any]:
        """The event as the `spec` of a HealthEvent."""
        return {
            "nodeName": self.node,
            "checkName": self.check,
            "isHealthy": self.healthy,
            "isFatal": self.fatal,
            "message": self.message,
            "recommendedAction": self.action,
            "errorCode": [self.code] if self.code else [],
            "entitiesImpacted": [{"entityType": t, "entityValue": v} for t, v in self.entities],
        }


def pci_key(address: str) -> str:
    """Address as the metadata file knows it: four digits of domain, lower case, no function."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain[-4:]}:{rest.split('.')[0]}"


def parse(message: str, node: str, uuids: dict[str, str]) -> Event | None:
    """The event that a journal message means, None for most messages.

    `uuids` maps PCI keys to GPU UUIDs. The address goes into the event as it was written, without
    a function digit.
    """
    ack = RESET_ACK.search(message)
    if ack and ack.group(2) == "true":
        pci = next((p for p, u in uuids.items() if u == ack.group(1)), "")
        about = (("PCI", pci), ("GPU_UUID", ack.group(1)))
        return Event(node, CHECK, True, HEALTHY, entities=about)
    found = XID.search(message)
    if not found:
        return None
    address, xid = found.group(1).split(".")[0], int(found.group(2))
    entities = [("PCI", address)]
    uuid = uuids.get(pci_key(address))
    if uuid:
        entities.append(("GPU_UUID", uuid))
    action = action_of(xid, message)
    if action == "COMPONENT_RESET" and not uuid:
        # A GPU that the metadata does not know cannot be reset alone.
        action = "RESTART_VM"
    registers = REGISTERS.search(message) if xid == 74 else None
    if registers:
        entities.append(("NVLINK", registers.group(1)))
        for i, value in enumerate(registers.group(2).split(", ")):
            entities.append((f"REG{i}", f"{int(value, 16):032b}"))
    text = f"MESSAGE={message}"
    return Event(node, CHECK, False, text, action, str(xid), tuple(entities))


def condition_text(event: dict[str, Any]) -> str:
    """The event as an entry of the condition's message, without the closing `;`."""
    parts = [f"ErrorCode:{code}" for code in event["errorCode"]]
    parts += [f"{e['entityType']}:{e['entityValue']}" for e in event["entitiesImpacted"]]
    parts.append(event["message"].replace(";", "."))
    return " ".join(parts) + f" Recommended Action={event['recommendedAction']}"
