#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what a drill needs of a cluster, and what of it is missing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_info
short_description: What a drill needs of a cluster, and what of it is missing
version_added: 0.1.0
description:
  - Checks every precondition of a drill and says for each one that is not met what to do.
options:
  min_gpu_nodes:
    description: Least number of GPU nodes that are marked for drills, Ready and schedulable.
    type: int
    default: 2
  gpus:
    description: GPUs that the drill's workers and one spare pod need.
    type: int
    default: 3
  sentinel_namespace:
    description: Namespace of NVSentinel.
    type: str
    default: nvsentinel
  namespace:
    description: Namespace that the drill will make, and remove afterwards; it must not be there.
    type: str
  run_id:
    description: Run to which O(namespace) may belong already.
    type: str
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Look at the platform
  faultline.gpu.platform_info:
  register: platform
"""

RETURN = r"""
problems:
  description: What is missing and what to do about it, one sentence each. Empty when all is there.
  type: list
  elements: str
  returned: always
nodes:
  description: GPU nodes that may be hurt, and their free GPUs.
  type: dict
  returned: always
versions:
  description: Versions found.
  type: dict
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import FAULT, GRAPH, NAMESPACE, NODE, POD, Cluster, Kind
from ..module_utils._module import run
from ..module_utils._platform import (
    drainer_problem,
    free_by_node,
    namespace_problem,
    node_problems,
    usable_nodes,
    workload_problem,
)

SENTINEL = {
    "DaemonSet": ("syslog-health-monitor-regular", "platform-connectors"),
    "Deployment": ("fault-quarantine", "node-drainer", "fault-remediation"),
}
SERVICE = "fault-injection-system"


def software(cluster: Cluster, sentinel: str) -> list[str]:
    """What of the software is missing."""
    problems = []
    if not cluster.has(GRAPH):
        problems.append(
            "The cluster knows no DynamoGraphDeployment: install the Dynamo platform's operator."
        )
    if not cluster.has(FAULT):
        problems.append("The fault service is missing: run the role faultline.gpu.fault_service.")
    for kind, names in SENTINEL.items():
        for name in names:
            found = cluster.get(Kind("apps/v1", kind), name, sentinel)
            problems += workload_problem(found, f"NVSentinel's {name} in {sentinel}")
    agents = cluster.get(Kind("apps/v1", "DaemonSet"), "gpu-fault-injector-kernel", SERVICE)
    problems += workload_problem(agents, f"The fault service's agent in {SERVICE}")
    return problems


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Look."""
    p = module.params
    nodes, pods = cluster.list(NODE), cluster.list(POD)
    free = free_by_node(usable_nodes(nodes), pods)
    problems = software(cluster, p["sentinel_namespace"])
    if p["namespace"]:
        config = cluster.get(Kind("v1", "ConfigMap"), "node-drainer", p["sentinel_namespace"])
        text = ((config or {}).get("data") or {}).get("config.toml")
        problems += drainer_problem(text, p["namespace"])
    there = cluster.get(NAMESPACE, p["namespace"]) if p["namespace"] else None
    problems += namespace_problem(there, p["run_id"])
    problems += node_problems(nodes, free, p["min_gpu_nodes"], p["gpus"])
    version = cluster.dynamic.version
    return {
        "problems": problems,
        "nodes": free,
        "versions": {"kubernetes": version["kubernetes"]["gitVersion"]},
    }


def main() -> None:
    """Run the module."""
    run(
        {
            "min_gpu_nodes": {"type": "int", "default": 2},
            "gpus": {"type": "int", "default": 3},
            "sentinel_namespace": {"type": "str", "default": "nvsentinel"},
            "namespace": {"type": "str"},
            "run_id": {"type": "str"},
        },
        work,
    )


if __name__ == "__main__":
    main()
