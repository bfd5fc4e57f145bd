# SPDX-License-Identifier: Apache-2.0
"""What the real NVSentinel was recorded doing with a node, as far as a drill looks at it.

A story is a list of (seconds since the kernel line was written, what changed). Changes: `xid` (the
message of the condition, None when it is False), `cordon`, `state` (the state label), `events`
(number of health events in the quarantine annotation, None when it is gone), `by_hand` (the mark of
a manual un-cordon) and `pods` (those of the drill's namespace that are on the node).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]
Story = list[tuple[float, Object]]
FOLDER = Path(__file__).parents[2] / "data" / "recordings" / "nvsentinel"
NODE = "gpu-node-2"
# What a recovery takes back in one update.
FREE: Object = {"state": None, "events": None, "cordon": False}


def of_node(change: Object) -> Object:
    """What a row's change of a node is in a story."""
    found: Object = {}
    labels, annotations = change.get("labels", {}), change.get("annotations", {})
    if "dgxc.nvidia.com/nvsentinel-state" in labels:
        found["state"] = labels["dgxc.nvidia.com/nvsentinel-state"]
    if "quarantineHealthEvent" in annotations:
        text = annotations["quarantineHealthEvent"]
        found["events"] = None if text is None else len(json.loads(text))
    if "quarantinedNodeUncordonedManually" in annotations:
        found["by_hand"] = annotations["quarantinedNodeUncordonedManually"] == "True"
    if "unschedulable" in change.get("spec", {}):
        found["cordon"] = bool(change["spec"]["unschedulable"])
    condition = change.get("conditions", {}).get("SysLogsXIDError")
    if condition:
        found["xid"] = condition["message"] if condition["status"] == "True" else None
    return found


def story(name: str) -> Story:
    """The story in a recording of `NODE`, from the state before it on."""
    (path,) = FOLDER.glob(f"{name}-*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    now: Object = {}
    told: Story = []
    here: list[str] = []
    for row in rows:
        change: Object = {}
        if row["kind"] == "Node" and row["op"] != "SNAPSHOT_AFTER":
            assert row["name"] == NODE, f"{name} is about {row['name']}"
            change = of_node(row["change"])
        elif row["kind"] == "Pod" and (row["op"] == "DELETED" or "nodeName" in row["change"]):
            pod = row["name"].rpartition("-")[2]
            here = [p for p in here if p != pod] if row["op"] == "DELETED" else [*here, pod]
            change = {"pods": here}
        now |= change
        if change and row["op"] != "SNAPSHOT_BEFORE":
            told.append((row["t"], change))
        elif change:
            # One moment for everything that was there before.
            told = [(row["t"], dict(now))]
    return told


S1 = story("s1")
S1B_SIGTERM_IGNORED = story("s1b")
S3D_CORDON_BEFORE_CONDITION = story("s3d")
S5_UNCORDONED_BY_HAND = story("s5")
S6A_MORE_FAULTS = story("s6a")
S7_CORDONED_BY_A_HUMAN = story("s7")


def message(xid: int, run: str) -> str:
    """A condition's message about one fault."""
    return (
        f"ErrorCode:{xid} PCI:0000:2a:00 GPU_UUID:GPU-22222222-2222-2222-2222-222222222222 "
        f"MESSAGE=[6085126.134786] NVRM: Xid (PCI:0000:2a:00): {xid}, pid=4242, name=python3, "
        f"GPU has fallen off the bus. run={run} Recommended Action=RESTART_BM;"
    )


def node_of(now: Object) -> Object:
    """The node in which all of these changes are made."""
    annotations = {}
    if now.get("events") is not None:
        annotations["quarantineHealthEvent"] = json.dumps([{"isFatal": True}] * now["events"])
        annotations["quarantineHealthEventIsCordoned"] = "True"
    if now.get("by_hand"):
        annotations["quarantinedNodeUncordonedManually"] = "True"
    xid = now.get("xid")
    conditions = [
        {"type": "Ready", "status": "True"},
        {
            "type": "SysLogsXIDError",
            "status": "True" if xid else "False",
            "message": xid or "No Health Failures",
        },
    ]
    state = {"dgxc.nvidia.com/nvsentinel-state": now["state"]} if now.get("state") else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": state, "annotations": annotations},
        "spec": {"unschedulable": True} if now.get("cordon") else {},
        "status": {"conditions": conditions},
    }


def moments(story: Story) -> Iterator[tuple[float, Object, list[Object]]]:
    """After every change: seconds, the node, and the namespace's pods, one of them elsewhere."""
    now: Object = {}
    for seconds, change in story:
        now |= change
        here = [(name, NODE) for name in now.get("pods", [])]
        pods = [
            {"metadata": {"name": name, "namespace": "drill"}, "spec": {"nodeName": node}}
            for name, node in [*here, ("mtppw", "gpu-node-1"), ("pending", None)]
        ]
        yield seconds, node_of(now), pods
