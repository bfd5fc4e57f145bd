#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: wait for what NVSentinel does with a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_quarantine
short_description: Wait for what NVSentinel does with a node
version_added: 0.1.0
description:
  - V(quarantined) waits until NVSentinel has detected this run's fault and has cordoned the node.
  - V(drained) waits until its drainer has emptied the node of the pods of O(namespace). With
    O(timeline) it also asks that a pod was really evicted; pods also leave for other reasons.
  - V(released) waits until the node is schedulable, healthy and out of NVSentinel's hands.
  - Nothing is changed; cordons are NVSentinel's to make and to take back.
options:
  state:
    description: What to wait for.
    type: str
    choices: [quarantined, drained, released]
    required: true
  node:
    description: Name of the node.
    type: str
    required: true
  run_id:
    description: Run whose id must stand in the condition's message. Required for V(quarantined).
    type: str
  namespace:
    description: Namespace whose pods must leave. Required for V(drained).
    type: str
  timeline:
    description: The C(timeline.jsonl) that M(faultline.gpu.drill_observer) keeps.
    type: path
  timeout:
    description: Seconds to wait.
    type: float
    default: 180
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Wait for NVSentinel
  faultline.gpu.node_quarantine:
    state: quarantined
    node: gpu-node-1
    run_id: run-1
"""

RETURN = r"""
seen:
  description: What was seen last, one sentence.
  type: str
  returned: always
seconds:
  description: Seconds waited.
  type: float
  returned: always
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _run
from ..module_utils._client import Cluster, Kind
from ..module_utils._errors import WaitTimeout
from ..module_utils._module import run
from ..module_utils._predicates import node_drained, node_quarantined, node_released
from ..module_utils._watch import Snapshot, wait


def evicted(timeline: Path, node: str, namespace: str) -> list[str]:
    """Pods of the namespace on the node that the eviction API was asked to end."""
    rows = _run.read_lines(timeline)
    return sorted(
        {
            row["name"]
            for row in rows
            if row["kind"] == "Pod"
            and row["namespace"] == namespace
            and row["view"]["node"] == node
            and row["view"].get("disruption") == "EvictionByEvictionAPI"
        }
    )


def waiting_for(cluster: Cluster, node: str) -> str:
    """The newest reason that NVSentinel's drainer gives for not going on."""
    events = cluster.list(Kind("v1", "Event", "default"))
    said = [
        f"{e['reason']}: {e['message']}"
        for e in events
        if e.get("type") == "NodeDraining" and e["involvedObject"].get("name") == node
    ]
    return f" The drainer says {said[-1]}" if said else ""


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Wait."""
    p, said = module.params, ""
    kinds = {"node": Kind("v1", "Node", name=p["node"])}
    if p["state"] == "drained":
        kinds["pods"] = Kind("v1", "Pod", p["namespace"])

    def condition(now: Snapshot) -> tuple[bool, str]:
        nonlocal said
        node = next(iter(now["node"].values()), None)
        if p["state"] == "quarantined":
            good, said = node_quarantined(node, p["run_id"])
        elif p["state"] == "drained":
            good, said = node_drained(node, now["pods"].values())
            if p["timeline"]:
                names = evicted(Path(p["timeline"]), p["node"], p["namespace"])
                said += f"; evicted: {', '.join(names) or 'no pod'}"
                good = good and bool(names)
        else:
            good, said = node_released(node)
        return good, said

    try:
        _snapshot, seconds = wait(cluster, kinds, condition, p["timeout"])
    except WaitTimeout as error:
        more = waiting_for(cluster, p["node"]) if p["state"] == "drained" else ""
        raise WaitTimeout(f"{error}{more}", **error.details) from error
    return {"seen": said, "seconds": round(seconds, 2)}


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {
                "type": "str",
                "choices": ["quarantined", "drained", "released"],
                "required": True,
            },
            "node": {"type": "str", "required": True},
            "run_id": {"type": "str"},
            "namespace": {"type": "str"},
            "timeline": {"type": "path"},
            "timeout": {"type": "float", "default": 180},
        },
        work,
        required_if=[
            ("state", "quarantined", ("run_id",)),
            ("state", "drained", ("namespace",)),
        ],
    )


if __name__ == "__main__":
    main()
