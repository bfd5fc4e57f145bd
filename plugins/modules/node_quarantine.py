#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: wait for what NVSentinel does with a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_quarantine
short_description: Wait for what NVSentinel does with a node
version_added: 0.1.0
description:
  - V(watched) waits until NVSentinel watches the node and is free to act on it. Its monitor must
    run there and have taken its place in the journal, as the fault service's agent reads it; what
    is written before that is never reported. The circuit breaker must not be tripped.
  - V(quarantined) waits until NVSentinel has detected this run's fault and has cordoned the node.
  - V(drained) waits until its drainer has emptied the node of the pods of O(namespace). With
    O(timeline) it also asks that a pod was really evicted; pods also leave for other reasons.
  - V(released) waits until the node is schedulable, healthy and out of NVSentinel's hands.
  - Nothing is changed; cordons are NVSentinel's to make and to take back.
options:
  state:
    description: What to wait for.
    type: str
    choices: [watched, quarantined, drained, released]
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
  sentinel_namespace:
    description: Namespace of NVSentinel.
    type: str
    default: nvsentinel
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
from ..module_utils._client import HOST, Cluster, Kind
from ..module_utils._errors import FaultlineError, WaitTimeout
from ..module_utils._module import run
from ..module_utils._node_predicates import (
    BREAKER,
    node_drained,
    node_quarantined,
    node_released,
    node_watched,
)
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
    events.sort(key=lambda e: str(e.get("lastTimestamp") or e["metadata"]["creationTimestamp"]))
    said = [
        f"{e['reason']}: {e['message']}"
        for e in events
        if e.get("type") == "NodeDraining" and e["involvedObject"].get("name") == node
    ]
    return f" The drainer says {said[-1]}" if said else ""


def followed(cluster: Cluster, p: dict[str, Any]) -> dict[str, Kind]:
    """What is followed for a state."""
    kinds = {"node": Kind("v1", "Node", name=p["node"])}
    if p["state"] == "drained":
        kinds["pods"] = Kind("v1", "Pod", p["namespace"])
    if p["state"] == "watched":
        if not cluster.has(HOST):
            raise FaultlineError("The fault service is not installed: run the role fault_service.")
        space, on_node = p["sentinel_namespace"], f"spec.nodeName={p['node']}"
        kinds["host"] = Kind(HOST.api_version, HOST.kind, name=p["node"])
        kinds["pods"] = Kind("v1", "Pod", space, field_selector=on_node)
        kinds["breaker"] = Kind("v1", "ConfigMap", space, BREAKER)
    return kinds


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Wait."""
    p, said = module.params, ""
    kinds = followed(cluster, p)

    def condition(now: Snapshot) -> tuple[bool, str]:
        nonlocal said
        node = next(iter(now["node"].values()), None)
        if p["state"] == "watched":
            host, breaker = (next(iter(now[k].values()), None) for k in ("host", "breaker"))
            good, said = node_watched(node, host, now["pods"].values(), breaker)
        elif p["state"] == "quarantined":
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
                "choices": ["watched", "quarantined", "drained", "released"],
                "required": True,
            },
            "node": {"type": "str", "required": True},
            "run_id": {"type": "str"},
            "namespace": {"type": "str"},
            "sentinel_namespace": {"type": "str", "default": "nvsentinel"},
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
