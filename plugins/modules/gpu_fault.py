#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: make a GPU faulty, or end its faults."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_fault
short_description: Make a GPU faulty, or end its faults
version_added: 0.1.0
description:
  - A fault is an object of kind GPUFault. The agent of the node writes the kernel log line, arms
    the CUDA shim, keeps the evidence in the status and ends the fault at its deadline by itself.
options:
  state:
    description: V(absent) ends and removes the fault O(name), or all faults of O(run_id).
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the fault; made from run id, XID and node when not given.
    type: str
  run_id:
    description: Run that the fault belongs to. It stands in the kernel log line.
    type: str
    required: true
  xid:
    description: XID, 1 to 1000.
    type: int
  node:
    description: Node of the GPU.
    type: str
  gpu_index:
    description: Number of the GPU on its node.
    type: int
  gpu_uuid:
    description: UUID of the GPU.
    type: str
  pci_address:
    description: PCI address of the GPU.
    type: str
  effects:
    description: What to do, C(kernelLog) writes the line, C(cuda) lets CUDA calls fail.
    type: list
    elements: str
    choices: [kernelLog, cuda]
    default: [kernelLog, cuda]
  duration:
    description: Seconds after which the fault ends by itself.
    type: int
    default: 900
  timeout:
    description: Seconds to wait for the agent.
    type: float
    default: 60
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Let a GPU fall off the bus
  faultline.gpu.gpu_fault:
    run_id: run-1
    xid: 79
    node: gpu-node-1
    gpu_index: 0
"""

RETURN = r"""
fault:
  description: The GPUFault, with the evidence in its status.
  type: dict
  returned: when O(state=present)
removed:
  description: Names of the faults that were removed.
  type: list
  elements: str
  returned: when O(state=absent)
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import FAULT, Cluster, Kind, Obj
from ..module_utils._errors import FaultlineError, WaitFailed
from ..module_utils._module import run
from ..module_utils._watch import Snapshot, wait


def definition(p: dict[str, Any], name: str) -> Obj:
    """The GPUFault that the options describe."""
    chosen = {
        "index": p["gpu_index"],
        "uuid": p["gpu_uuid"],
        "pciAddress": p["pci_address"],
    }
    return {
        "apiVersion": FAULT.api_version,
        "kind": FAULT.kind,
        "metadata": {
            "name": name,
            "labels": {"faultline.dev/run": p["run_id"], "faultline.dev/node": p["node"]},
        },
        "spec": {
            "xid": p["xid"],
            "node": p["node"],
            "gpu": {key: value for key, value in chosen.items() if value is not None},
            "durationSeconds": p["duration"],
            "effects": p["effects"],
            "runId": p["run_id"],
        },
    }


def active(snapshot: Snapshot, effects: list[str]) -> tuple[bool, str]:
    """Whether the agent has done all effects and has seen each of them take hold."""
    fault = next(iter(snapshot["fault"].values()), None)
    if not fault:
        return False, "the fault is not there"
    status = fault.get("status") or {}
    log, cuda = status.get("kernelLog") or {}, status.get("cuda") or {}
    if status.get("phase") in ("Failed", "Recovered"):
        why = status.get("message") or status.get("reason")
        raise WaitFailed(f"The agent could not inject the fault: {why}")
    line = "kernelLog" not in effects or bool((log.get("journal") or {}).get("seen"))
    armed = "cuda" not in effects or bool(cuda.get("armed"))
    seen = f"phase {status.get('phase') or 'none'}, line in the journal: {line}, armed: {armed}"
    return status.get("phase") == "Active" and line and armed, seen


def present(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Create the fault unless it is there, and wait for the evidence."""
    p = module.params
    name = p["name"] or f"{p['run_id']}-xid-{p['xid']}-{p['node']}"
    wanted = definition(p, name)
    before = cluster.get(FAULT, name)
    if before and any(before["spec"].get(k) != v for k, v in wanted["spec"].items()):
        raise FaultlineError(f"There is another fault of the name {name}: end it first.")
    diff = {"before": (before or {}).get("spec") or {}, "after": wanted["spec"]}
    if module.check_mode:
        return {"changed": not before, "fault": before or wanted, "diff": diff}
    if not before:
        cluster.apply(wanted, "faultline")
    kinds = {"fault": Kind(FAULT.api_version, FAULT.kind, name=name)}
    snapshot, seconds = wait(cluster, kinds, lambda now: active(now, p["effects"]), p["timeout"])
    fault = next(iter(snapshot["fault"].values()))
    return {"changed": not before, "fault": fault, "seconds": seconds, "diff": diff}


def absent(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Delete the faults, and wait until the agents have let them go."""
    p = module.params
    if not cluster.has(FAULT):
        return {"removed": []}
    label = f"faultline.dev/run={p['run_id']}"
    mine = Kind(FAULT.api_version, FAULT.kind, name=p["name"], label_selector=label)
    found = [fault["metadata"]["name"] for fault in cluster.list(mine)]
    diff = {"before": found, "after": []}
    if module.check_mode or not found:
        return {"changed": bool(found), "removed": found, "diff": diff}
    for name in found:
        cluster.delete(FAULT, name)

    def gone(now: Snapshot) -> tuple[bool, str]:
        left = [key[1] for key in now["fault"]]
        return not left, f"the agent has not ended {', '.join(left)} yet"

    wait(cluster, {"fault": mine}, gone, p["timeout"])
    return {"changed": True, "removed": found, "diff": diff}


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Do what the options say."""
    return (present if module.params["state"] == "present" else absent)(module, cluster)


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str"},
            "run_id": {"type": "str", "required": True},
            "xid": {"type": "int"},
            "node": {"type": "str"},
            "gpu_index": {"type": "int"},
            "gpu_uuid": {"type": "str"},
            "pci_address": {"type": "str"},
            "effects": {
                "type": "list",
                "elements": "str",
                "choices": ["kernelLog", "cuda"],
                "default": ["kernelLog", "cuda"],
            },
            "duration": {"type": "int", "default": 900},
            "timeout": {"type": "float", "default": 60},
        },
        work,
        required_if=[
            ("state", "present", ("xid", "node")),
            ("state", "present", ("gpu_index", "gpu_uuid", "pci_address"), True),
        ],
        mutually_exclusive=[("gpu_index", "gpu_uuid", "pci_address")],
    )


if __name__ == "__main__":
    main()
