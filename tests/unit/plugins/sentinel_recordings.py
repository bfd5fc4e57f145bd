# SPDX-License-Identifier: Apache-2.0
"""What the real NVSentinel was recorded doing with a node, as far as a drill looks at it.

A story is a list of (seconds since the kernel line was written, what changed). Changes: `xid` (the
message of the condition, None when it is False), `cordon`, `state` (the state label), `events`
(number of health events in the quarantine annotation, None when it is gone), `by_hand` (the mark of
a manual un-cordon) and `pods` (those of the drill's namespace that are on the node). Seconds, order
and values are those of the recordings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
Story = list[tuple[float, Object]]
NODE = "gpu-node-2"


def message(xid: int, *runs: str) -> str:
    """A condition's message: one entry per fault, oldest first."""
    return "".join(
        f"ErrorCode:{xid} PCI:0000:2a:00 GPU_UUID:GPU-22222222-2222-2222-2222-222222222222 "
        f"MESSAGE=[6085126.134786] NVRM: Xid (PCI:0000:2a:00): {xid}, pid=4242, name=python3, "
        f"GPU has fallen off the bus. run={run} Recommended Action=RESTART_BM;"
        for run in runs
    )


FREE: Object = {"state": None, "events": None, "cordon": False}
S1: Story = [
    (-1.118, {"pods": ["nf5jj"]}),
    (7.663, {"xid": message(79, "gold-1")}),
    (7.704, {"state": "quarantined", "events": 1, "cordon": True}),
    (7.74, {"state": "draining"}),
    (10.724, {"pods": []}),
    (17.793, {"state": "drain-succeeded"}),
    (17.823, {"state": "remediating"}),
    (17.847, {"state": "remediation-succeeded"}),
    (94.809, {"xid": None}),
    (94.856, {"events": 0}),
    (94.874, FREE),
]
S1B_SIGTERM_IGNORED: Story = [
    (-0.311, {"pods": ["xvfz6"]}),
    (2.004, {"xid": message(79, "gold-1b")}),
    (2.037, {"state": "quarantined", "events": 1, "cordon": True}),
    (2.079, {"state": "draining"}),
    (62.667, {"pods": []}),
    (72.121, {"state": "drain-succeeded"}),
    (72.143, {"state": "remediating"}),
    (72.191, {"state": "remediation-succeeded"}),
    (132.08, {"events": 0}),
    (132.089, FREE),
    (132.115, {"xid": None}),
]
S3D_CORDON_BEFORE_CONDITION: Story = [
    (-0.425, {}),
    (7.404, {"state": "quarantined", "events": 1, "cordon": True}),
    (7.426, {"state": "drain-succeeded"}),
    (7.449, {"xid": message(119, "gold-3d")}),
    (7.545, {"state": "remediating"}),
    (7.576, {"state": "remediation-succeeded"}),
    (52.49, {"xid": None}),
    (52.536, {"events": 0}),
    (52.732, FREE),
]
S5_UNCORDONED_BY_HAND: Story = [
    (-0.481, {"pods": ["5vnkr"]}),
    (7.719, {"xid": message(79, "gold-5")}),
    (7.758, {"state": "quarantined", "events": 1, "cordon": True}),
    (7.807, {"state": "draining"}),
    (10.222, {"cordon": False}),
    (10.226, {"state": None, "events": None, "by_hand": True}),
    (10.812, {"pods": []}),
]
S6A_MORE_FAULTS: Story = [
    (-0.429, {"pods": ["bsszj"]}),
    (10.99, {"xid": message(79, "gold-6a1")}),
    (11.026, {"state": "quarantined", "events": 1, "cordon": True}),
    (11.079, {"state": "draining"}),
    (13.461, {"pods": []}),
    (21.117, {"state": "drain-succeeded"}),
    (21.132, {"state": "remediating"}),
    (21.171, {"state": "remediation-succeeded"}),
    (41.0, {"xid": message(79, "gold-6a1", "gold-6a2")}),
    (41.032, {"state": "remediating"}),
    (41.076, {"state": "remediation-succeeded"}),
    (55.998, {"xid": message(79, "gold-6a1", "gold-6a2") + message(74, "gold-6a3")}),
    (56.042, {"events": 2}),
    (56.066, {"state": "remediation-failed"}),
    (77.929, {"xid": None}),
    (78.015, {"events": 0}),
    (78.033, FREE),
    (78.092, {"pods": ["4qqt5"]}),
]
S7_CORDONED_BY_A_HUMAN: Story = [
    (-2.3, {"pods": ["l9bdc"]}),
    (-2.129, {"cordon": True}),
    (6.7, {"xid": message(79, "gold-7")}),
    (6.733, {"state": "quarantined", "events": 1}),
    (6.75, {"state": "draining"}),
    (9.911, {"pods": []}),
    (16.778, {"state": "drain-succeeded"}),
    (16.799, {"state": "remediating"}),
    (16.84, {"state": "remediation-succeeded"}),
    (40.174, {"xid": None}),
    (40.206, {"events": 0}),
    (40.217, {"state": None, "events": None}),
    (45.412, {"cordon": False}),
]


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
