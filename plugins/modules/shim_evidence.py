#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: wait for what the CUDA shim itself says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: shim_evidence
short_description: Wait for what the CUDA shim itself says
version_added: 0.1.0
description:
  - The agent of each node reads the shim's own counters out of the processes that have it and
    reports them in a GPUHost. This module waits for that report and changes nothing.
options:
  state:
    description:
      - V(built) waits until every GPU host has the build O(build_id).
      - V(inert) waits until a process of every worker pod has the shim mapped and answered no call.
      - V(hit) waits until calls were answered by a fault on O(node) while O(fault) is armed there;
        on no other node may there be any.
    type: str
    choices: [built, inert, hit]
    required: true
  namespace:
    description: Namespace of the worker pods.
    type: str
  node:
    description: Node on which calls must have been answered by the fault.
    type: str
  fault:
    description: Name of the fault that must be armed. Required for V(hit).
    type: str
  build_id:
    description: Build of the shim.
    type: str
  timeout:
    description: Seconds to wait.
    type: float
    default: 60
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Every worker proves the shim
  faultline.gpu.shim_evidence:
    state: inert
    namespace: drill-1
"""

RETURN = r"""
seen:
  description: What was seen last, one sentence.
  type: str
  returned: always
hits:
  description: Calls that were answered by a fault, by node.
  type: dict
  returned: always
processes:
  description: The processes of the namespace with the shim's counters.
  type: list
  elements: dict
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import HOST, NODE, Cluster, Kind
from ..module_utils._errors import FaultlineError, WaitFailed
from ..module_utils._module import run
from ..module_utils._shim_predicates import shim_hits, shim_processes, shim_proven
from ..module_utils._watch import Snapshot, wait

GPU_NODES = Kind(NODE.api_version, NODE.kind, label_selector="nvidia.com/gpu.present=true")


def built(now: Snapshot, build_id: str) -> tuple[bool, str]:
    """Whether every GPU host reports the build."""
    hosts = {
        h["metadata"]["name"]: (h.get("status") or {}).get("shimBuilds") or []
        for h in now["hosts"].values()
    }
    names = [name for _namespace, name in now["nodes"]]
    lacking = [name for name in names if build_id not in hosts.get(name, [])]
    if not names:
        return False, "there is no GPU node"
    return not lacking, (
        f"build {build_id} is missing on {', '.join(lacking)}"
        if lacking
        else f"build {build_id} on {len(names)} hosts"
    )


def armed(now: Snapshot, node: str, fault: str) -> bool:
    """Whether the control page of a node holds the fault."""
    host = now["hosts"].get(("", node), {})
    entries = ((host.get("status") or {}).get("page") or {}).get("entries") or []
    return any(entry.get("faultId") == fault for entry in entries)


def hit(now: Snapshot, namespace: str, node: str, fault: str) -> tuple[bool, str]:
    """Whether the target's calls failed, nobody else's, and the fault is still armed."""
    hits = shim_hits(now["hosts"].values(), namespace)
    elsewhere = {name: count for name, count in hits.items() if count and name != node}
    if elsewhere:
        raise WaitFailed(f"The fault hit GPUs it was not meant for: {elsewhere}.", hits=dict(hits))
    count = hits.get(node, 0)
    if not armed(now, node, fault):
        return False, f"{fault} is not armed in the control page of {node} (any more)"
    return count > 0, f"{count} CUDA calls failed by the shim on {node}, 0 elsewhere"


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Wait."""
    p, said = module.params, ""
    if not cluster.has(HOST):
        raise FaultlineError("The fault service is not installed: run the role fault_service.")
    kinds = {"hosts": HOST}
    if p["state"] == "built":
        kinds["nodes"] = GPU_NODES
    elif p["state"] == "inert":
        kinds["pods"] = Kind("v1", "Pod", p["namespace"])

    def condition(now: Snapshot) -> tuple[bool, str]:
        nonlocal said
        hosts = now["hosts"].values()
        if p["state"] == "built":
            good, said = built(now, p["build_id"])
        elif p["state"] == "inert":
            good, said = shim_proven(hosts, now["pods"].values(), p["namespace"])
        else:
            good, said = hit(now, p["namespace"], p["node"], p["fault"])
        return good, said

    snapshot, seconds = wait(cluster, kinds, condition, p["timeout"])
    hosts = list(snapshot["hosts"].values())
    space = p["namespace"] or ""
    return {
        "seen": said,
        "hits": dict(shim_hits(hosts, space)),
        "processes": shim_processes(hosts, space),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {"type": "str", "choices": ["built", "inert", "hit"], "required": True},
            "namespace": {"type": "str"},
            "node": {"type": "str"},
            "fault": {"type": "str"},
            "build_id": {"type": "str"},
            "timeout": {"type": "float", "default": 60},
        },
        work,
        required_if=[
            ("state", "built", ("build_id",)),
            ("state", "inert", ("namespace",)),
            ("state", "hit", ("namespace", "node", "fault")),
        ],
    )


if __name__ == "__main__":
    main()
