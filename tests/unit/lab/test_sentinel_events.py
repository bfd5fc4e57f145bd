# SPDX-License-Identifier: Apache-2.0
"""From a kernel line to the condition of a node, in the stand-in of NVSentinel."""

from __future__ import annotations

from typing import Any

import pytest

from lab.sentinel import parse
from lab.sentinel.connector import LONGEST, condition
from lab.sentinel.parse import HEALTHY, Event

Object = dict[str, Any]
GPU = "GPU-11111111-1111-1111-1111-111111111111"
UUIDS = {"0000:1a:00": GPU}
HEAD = "[1.2] NVRM: Xid (PCI:0000:1a:00)"


def parsed(line: str) -> Event:
    found = parse.parse(line, "gpu-node-1", UUIDS)
    assert found
    return found


@pytest.mark.parametrize(
    ("line", "action"),
    [
        (f"{HEAD}: 79, pid=1, GPU has fallen off the bus.", "RESTART_BM"),
        (f"{HEAD}: 119, pid=1, Timeout", "COMPONENT_RESET"),
        ("[1.2] NVRM: Xid (PCI:0000:9f:00): 119, pid=1, Timeout", "RESTART_VM"),
        (f"{HEAD}: 74, pid=1, NVLink", "CONTACT_SUPPORT"),
        (f"{HEAD}: 94, pid=1, Contained", "NONE"),
        (f"{HEAD}: 31, pid=1, MMU Fault", "NONE"),
        (f"{HEAD}: 4711, pid=1, of no catalogue", "CONTACT_SUPPORT"),
        (
            f"{HEAD}: 154, GPU recovery action changed (None) to (GPU Reset Required)",
            "COMPONENT_RESET",
        ),
        (f"{HEAD}: 154, GPU recovery action changed to (Drain and Reset)", "COMPONENT_RESET"),
        (f"{HEAD}: 154, GPU recovery action changed to (Node Reboot Required)", "RESTART_BM"),
        (f"{HEAD}: 154, GPU recovery action changed to (None)", "NONE"),
        (f"{HEAD}: 154, GPU recovery action changed", "CONTACT_SUPPORT"),
    ],
)
def test_an_xid_has_the_action_of_the_catalogue_and_is_fatal_unless_it_is_none(
    line: str, action: str
) -> None:
    found = parsed(line)
    assert (found.action, found.fatal) == (action, action != "NONE")


@pytest.mark.parametrize(
    "line",
    ["Xid (PCI:0000:1a:00): 79", "NVRM: GPU at PCI:0000:1a:00: GPU-1", "usb 1-1: new device"],
)
def test_other_lines_say_nothing(line: str) -> None:
    assert parse.parse(line, "gpu-node-1", UUIDS) is None


def test_the_recorded_acknowledgement_of_a_reset_heals_that_gpu_only() -> None:
    line = f"GPU reset executed: {GPU}, success: true run=gold-3back"
    found = parsed(line)
    assert (found.healthy, found.check) == (True, "SysLogsXIDError")
    assert found.entities == (("PCI", "0000:1a:00"), ("GPU_UUID", GPU))


def test_registers_of_xid_74_become_entities_only_where_they_can_be_read() -> None:
    registers = "link 3(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x1)"
    entities = dict(parsed(f"{HEAD}: 74, NVLink: fatal error detected on {registers}").entities)
    assert (entities["NVLINK"], entities["REG0"]) == ("3", "0" * 15 + "1" + "0" * 16)
    assert entities["REG6"] == "0" * 31 + "1"
    assert "NVLINK" not in dict(parsed(f"{HEAD}: 74, NVLink: fatal error").entities)


def after(*events: Event) -> Object:
    """The condition of the check after these events, a minute apart."""
    node: Object = {"status": {"conditions": []}}
    for minute, event in enumerate(events):
        at = {"seconds": 1795507332 + 60 * minute, "nanos": 0}
        node = {
            "status": {
                "conditions": [condition(node, event.content() | {"generatedTimestamp": at})]
            }
        }
    found: Object = node["status"]["conditions"][0]
    return found


def test_a_condition_keeps_its_transition_time_while_faults_are_added() -> None:
    found = after(parsed(f"{HEAD}: 79 run=a"), parsed(f"{HEAD}: 79 run=b"))
    assert found["message"].count("ErrorCode:79") == 2
    assert found["lastTransitionTime"] == "2026-11-24T08:02:12Z"
    assert found["lastHeartbeatTime"] == "2026-11-24T08:03:12Z"


def test_semicolons_of_a_line_do_not_make_an_entry_of_a_condition() -> None:
    assert "one. two run=a Recommended" in after(parsed(f"{HEAD}: 79, one; two run=a"))["message"]


def test_a_healthy_event_about_one_gpu_leaves_the_faults_of_another() -> None:
    other = parse.parse("[1] NVRM: Xid (PCI:0000:2a:00): 79", "gpu-node-1", UUIDS)
    reset = parsed(f"GPU reset executed: {GPU}, success: true")
    assert other
    found = after(parsed(f"{HEAD}: 119 run=a"), other, reset)
    assert (found["status"], "0000:1a:00" in found["message"]) == ("True", False)
    assert "PCI:0000:2a:00" in found["message"]


def test_a_healthy_event_about_nothing_in_particular_clears_everything() -> None:
    healthy = Event("gpu-node-1", parse.CHECK, True, HEALTHY)
    found = after(parsed(f"{HEAD}: 79 run=a"), parsed(f"{HEAD}: 119 run=b"), healthy)
    assert (found["status"], found["message"]) == ("False", HEALTHY)
    assert found["reason"] == "SysLogsXIDErrorIsHealthy"


def test_a_message_that_grows_too_long_keeps_one_short_entry_per_fault() -> None:
    text = "x" * 300
    many = [parsed(f"{HEAD}: {code}, {text} run={n}") for n, code in enumerate((79, 79, 119))]
    message = after(*many)["message"]
    assert len(message) <= LONGEST
    entries = message.removesuffix(";").split(";")
    assert [entry.split()[0] for entry in entries] == ["ErrorCode:79", "ErrorCode:119"]
    assert {len(entry) for entry in entries} == {72}
