#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: say what stands in a drill's way."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_diagnosis
short_description: Say what stands in a drill's way
version_added: 0.1.0
description:
  - Looks once, changes nothing, and says in sentences what is known to stop a drill, each with
    what to do about it. Pods that are Pending or whose image does not come; pods that find no
    other node; a namespace that does not go; an NVSentinel that does not cordon or drain.
options:
  namespace:
    description: Namespace of the drill.
    type: str
    required: true
  node:
    description: Node that the drill hurts; without it NVSentinel is looked at as a whole.
    type: str
  run_id:
    description:
      - Run whose fault NVSentinel must have seen on O(node) by now. Without it, a node that shows
        no fault is in order.
    type: str
  sentinel_namespace:
    description: Namespace of NVSentinel.
    type: str
    default: nvsentinel
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Say what stands in the way
  faultline.gpu.drill_diagnosis:
    namespace: drill-run-1
    node: gpu-node-1
  register: diagnosis
"""

RETURN = r"""
findings:
  description: What stands in the way, the most telling first. Empty when nothing known does.
  type: list
  elements: dict
  returned: always
  contains:
    subject:
      description: What it is about.
      type: str
    problem:
      description: What is wrong with it.
      type: str
    fix:
      description: What to do.
      type: str
seen:
  description: What was looked at, one sentence.
  type: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _diagnosis, _diagnosis_node
from ..module_utils._client import HOST, NAMESPACE, NODE, POD, Cluster, Kind, Obj
from ..module_utils._errors import FaultlineError
from ..module_utils._module import run
from ..module_utils._node_predicates import BREAKER, node_released


def sentinel(cluster: Cluster, p: dict[str, Any], node: Obj | None, pods: list[Obj]) -> list[Any]:
    """What stops NVSentinel: its modules, then the node, then the drain."""
    space, name = p["sentinel_namespace"], p["node"]
    workloads = {
        (kind, obj["metadata"]["name"]): obj | {"kind": kind}
        for kind in ("DaemonSet", "Deployment")
        for obj in cluster.list(Kind("apps/v1", kind, space))
    }
    maps = {m["metadata"]["name"]: m for m in cluster.list(Kind("v1", "ConfigMap", space))}
    config = ((maps.get("node-drainer") or {}).get("data") or {}).get("config.toml")
    events = cluster.list(Kind("v1", "Event", "default"))
    found = _diagnosis_node.modules(workloads, space)
    found += _diagnosis_node.breaker_open(maps.get(BREAKER), space)
    if node:
        host = cluster.get(HOST, name) if cluster.has(HOST) else None
        there = [
            pod
            for pod in pods
            if pod["metadata"]["namespace"] == space and pod["spec"].get("nodeName") == name
        ]
        found += _diagnosis_node.monitor(node, there, host)
        found += _diagnosis_node.not_cordoned(node, events, p["run_id"])
    return found + _diagnosis_node.not_drained(node, p["namespace"], config, events)


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Look."""
    p = module.params
    nodes, pods = cluster.list(NODE), cluster.list(POD)
    mine = [pod for pod in pods if pod["metadata"]["namespace"] == p["namespace"]]
    free = _diagnosis.room(nodes, pods)
    node = next((n for n in nodes if n["metadata"]["name"] == p["node"]), None)
    if p["node"] and not node:
        raise FaultlineError(f"There is no node {p['node']}: name one of kubectl get nodes.")
    found = _diagnosis.not_pulled(mine, cluster.list(Kind("v1", "Event", p["namespace"])))
    found += _diagnosis.not_rescheduled(mine, nodes, free, pods)
    found += _diagnosis.pending(mine, free)
    found += sentinel(cluster, p, node, pods)
    found += _diagnosis.terminating(cluster.get(NAMESPACE, p["namespace"]), mine, nodes)
    waiting = len(_diagnosis.unscheduled(mine))
    seen = f"{len(mine)} pods in {p['namespace']}, {waiting} without a node; free GPUs {free}"
    return {"findings": found, "seen": f"{seen}; {node_released(node)[1]}" if node else seen}


def main() -> None:
    """Run the module."""
    run(
        {
            "namespace": {"type": "str", "required": True},
            "node": {"type": "str"},
            "run_id": {"type": "str"},
            "sentinel_namespace": {"type": "str", "default": "nvsentinel"},
        },
        work,
    )


if __name__ == "__main__":
    main()
