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
  definition:
    description:
      - The DynamoGraphDeployment that is to be deployed in O(namespace). Its image references and
        pull secrets are looked at; nothing is pulled.
    type: dict
    default: {}
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

from ..module_utils._client import FAULT, GRAPH, NAMESPACE, NODE, POD, Cluster, Kind, Obj
from ..module_utils._errors import FaultlineError
from ..module_utils._images import image_problems, pull_secrets
from ..module_utils._module import run
from ..module_utils._platform import (
    SENTINEL,
    drainer_problem,
    free_by_node,
    namespace_problem,
    node_problems,
    operator_problem,
    opt_out_problems,
    usable_nodes,
    workload_problem,
)

SPACE = "fault-injection-system"
SERVICE = {
    ("DaemonSet", "gpu-fault-injector-kernel"): "agent",
    ("Deployment", "fault-injection-api"): "API",
}


def software(cluster: Cluster, sentinel: str) -> list[str]:
    """What of the software is missing."""
    # One LIST of each kind; a GET of each object would be as many round trips as objects.
    found: dict[tuple[str, str, str], Obj] = {}
    for kind in ("DaemonSet", "Deployment"):
        for obj in cluster.list(Kind("apps/v1", kind)):
            meta = obj["metadata"]
            found[kind, meta["namespace"], meta["name"]] = obj | {"kind": kind}
    problems = []
    if not cluster.has(GRAPH):
        problems.append(
            "The cluster knows no DynamoGraphDeployment: install the Dynamo platform's operator."
        )
    problems += operator_problem(found.values())
    if not cluster.has(FAULT):
        problems.append("The fault service is missing: run the role faultline.gpu.fault_service.")
    for kind, names in SENTINEL.items():
        for name in names:
            there = found.get((kind, sentinel, name))
            what, fix = f"NVSentinel's {name} in {sentinel}", "enable it in the chart's values"
            problems += workload_problem(there, what, fix)
    for (kind, name), what in SERVICE.items():
        there = found.get((kind, SPACE, name))
        fix = "run playbooks/provision.yml"
        problems += workload_problem(there, f"The fault service's {what} in {SPACE}", fix)
    return problems


def secrets(cluster: Cluster, definition: Obj, namespace: str) -> list[str]:
    """Pull secrets of a definition that are in the namespace, or that may not be looked at."""
    there = []
    for name in pull_secrets(definition):
        try:
            found = cluster.get(Kind("v1", "Secret"), name, namespace)
        except FaultlineError as error:
            if error.details.get("status") != 403:
                raise
            there.append(name)
        else:
            there += [name] if found else []
    return there


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
        problems += namespace_problem(cluster.get(NAMESPACE, p["namespace"]), p["run_id"])
        mine = [pod for pod in pods if pod["metadata"]["namespace"] == p["namespace"]]
        known = secrets(cluster, p["definition"], p["namespace"])
        problems += image_problems(p["definition"], known, mine, p["namespace"])
    problems += opt_out_problems(nodes)
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
            "definition": {"type": "dict", "default": {}},
        },
        work,
    )


if __name__ == "__main__":
    main()
