#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: choose the GPU that a drill lets die."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_target
short_description: Choose the GPU that a drill lets die
version_added: 0.1.0
description:
  - Chooses the node of a worker pod, provided that another node has room for its workers.
  - With O(gpu=true) also names the GPU of that worker, as the node's agent reports it.
options:
  namespace:
    description: Namespace of the DynamoGraphDeployment.
    type: str
    required: true
  name:
    description: Its name.
    type: str
    required: true
  node:
    description: Take this node, or fail.
    type: str
  gpu:
    description: Whether to wait for the report that says which GPU the worker uses.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for that report.
    type: float
    default: 30
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Choose the target
  faultline.gpu.drill_target:
    namespace: drill-1
    name: agg
"""

RETURN = r"""
node:
  description: Name of the node.
  type: str
  returned: always
gpu_uuid:
  description: UUID of the worker's GPU.
  type: str
  returned: when O(gpu=true)
pod:
  description: Name of the worker pod.
  type: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import HOST, NODE, POD, Cluster, Kind
from ..module_utils._errors import FaultlineError
from ..module_utils._module import run
from ..module_utils._objects import GRAPH_LABEL, HASH_LABEL, ready_pod
from ..module_utils._platform import choose_target, free_by_node, usable_nodes
from ..module_utils._shim_predicates import shim_processes
from ..module_utils._watch import Snapshot, wait


def gpu_of(now: Snapshot, namespace: str, pod: str) -> str | None:
    """UUID of the first GPU that a process of the pod may see."""
    for process in shim_processes(now["hosts"].values(), namespace):
        if process.get("pod") == pod and process.get("gpus"):
            return str(process["gpus"][0])
    return None


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Choose."""
    p = module.params
    label = f"{GRAPH_LABEL}={p['name']}"
    pods = cluster.list(Kind("v1", "Pod", p["namespace"], label_selector=label))
    free = free_by_node(usable_nodes(cluster.list(NODE)), cluster.list(POD))
    node = choose_target(pods, free, p["node"])
    pod = next(
        x["metadata"]["name"]
        for x in pods
        if x["spec"].get("nodeName") == node
        and HASH_LABEL in x["metadata"]["labels"]
        and ready_pod(x)
    )
    result: dict[str, Any] = {"node": node, "pod": pod, "free": free}
    if p["gpu"]:
        if not cluster.has(HOST):
            raise FaultlineError("The fault service is not installed: it knows the pods' GPUs.")

        def known(now: Snapshot) -> tuple[bool, str]:
            return bool(gpu_of(now, p["namespace"], pod)), f"no agent reports a GPU of {pod}"

        snapshot, _seconds = wait(cluster, {"hosts": HOST}, known, p["timeout"])
        result["gpu_uuid"] = gpu_of(snapshot, p["namespace"], pod)
    return result


def main() -> None:
    """Run the module."""
    run(
        {
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "node": {"type": "str"},
            "gpu": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 30},
        },
        work,
    )


if __name__ == "__main__":
    main()
