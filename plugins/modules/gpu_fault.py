#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: make a GPU faulty, or end its faults."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_fault
short_description: Make a GPU faulty, or end its faults
version_added: 0.1.0
description:
  - A fault is made by the fault-injection API as an object of kind GPUFault. The agent of the node
    writes the kernel log line, arms the CUDA shim, keeps the evidence in the status and ends the
    fault at its deadline by itself.
  - The API refuses nodes that are not labelled C(faultline.dev/drill=allowed), and faults on more
    nodes at a time than it was set up for. It is reached through the API server's service proxy,
    with a short-lived token of the account C(faultline-operator).
options:
  state:
    description:
      - V(absent) ends and removes the fault O(name), or all faults of O(run_id), or with
        O(delete_all) all there are. It waits until the agents have let them go, but for no agent
        whose node has left the cluster.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the fault; made from run id, XID and node when not given.
    type: str
  run_id:
    description:
      - Run that the fault belongs to. It stands in the kernel log line. Required unless
        O(delete_all).
    type: str
  delete_all:
    description:
      - With O(state=absent), end and remove the faults of all runs. Does not go with O(run_id) and
        O(name).
    type: bool
    default: false
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
  namespace:
    description:
      - Namespace whose pods the injection must leave alone. Until CUDA calls begin to fail none of
        them may be restarted or replaced, unless it is evicted; later that is the fault's doing.
    type: str
  effects:
    description: What to do, C(kernelLog) writes the line, C(cuda) lets CUDA calls fail.
    type: list
    elements: str
    choices: [kernelLog, cuda]
    default: [kernelLog, cuda]
  cuda:
    description:
      - How CUDA calls fail, and whose. What is not said is as the XID's row in the table of XIDs
        says; for most XIDs every call of an affected class fails, in every process on the GPU.
      - Needs C(cuda) among the O(effects).
    type: dict
    suboptions:
      mode:
        description:
          - V(sticky) fails calls, and a process that was hit stays failed, as after a real fault.
          - V(once) fails one call of each process, V(transient) fails calls as long as the fault
            lasts; nothing stays.
          - V(hang) blocks a call until the fault ends, or for O(cuda.delay_microseconds), and then
            fails it as V(sticky) does. Teardown passes, so that a process can still end.
          - V(slow) makes calls take O(cuda.delay_microseconds) longer; none fails.
          - V(genuine) lets a kernel really fault on the GPU, so that the driver itself fails the
            process. Only for XIDs 13, 31 and 43, and where the fault service was set up with
            C(fault_service_allow_genuine).
        type: str
        choices: [sticky, once, transient, hang, slow, genuine]
      classes:
        description:
          - Calls that are hit, letters of C(S) (work, such as copies and launches), C(Q) (waiting
            and asking for results), C(I) (new contexts), C(T) (teardown) and C(N) (NVML).
          - Which code they fail with is the XID's row's, one each for work, new contexts and NVML.
        type: str
      after_calls:
        description: Calls of each process that pass first.
        type: int
      probability:
        description: Chance of a call to be hit, above 0 and at most 1; 1 when it is not given.
        type: float
      seed:
        description: Chooses which calls are hit by chance, the same ones in every run.
        type: int
      delay_microseconds:
        description: What V(slow) adds to a call, and the longest that V(hang) blocks one.
        type: int
      not_before_seconds:
        description: Seconds from the injection until calls are hit; less than O(duration).
        type: int
      target:
        description:
          - Which processes on the GPU are hit, all of them when it is not given. A process must
            match all that is given.
        type: dict
        suboptions:
          pod_uid:
            description: UID of the pod that a process is in.
            type: str
          mig_uuid:
            description: UUID of the MIG instance that a process uses, C(MIG-…).
            type: str
          pid:
            description: Number of the one process, as the node sees it.
            type: int
          rank:
            description: Rank of a process, by the variables that launchers set.
            type: int
  duration:
    description: Seconds after which the fault ends by itself, from 1 to 7200.
    type: int
    default: 900
  timeout:
    description: Seconds to wait for the agent.
    type: float
    default: 60
  api_url:
    description: Address of the API, C(http://host:port), where the service proxy is not to be used.
    type: str
  api_token:
    description: Token for the audience C(faultline); made for the occasion when not given.
    type: str
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Let a GPU fall off the bus
  faultline.gpu.gpu_fault:
    run_id: run-1
    xid: 79
    node: gpu-node-1
    gpu_index: 0

- name: Let every tenth call of one pod take 20 ms longer, without a line in the kernel log
  faultline.gpu.gpu_fault:
    run_id: run-1
    xid: 79
    node: gpu-node-1
    gpu_uuid: GPU-7f1d3c5e-0d2b-4a6e-9c41-3b5a7d9e1f20
    effects: [cuda]
    cuda:
      mode: slow
      delay_microseconds: 20000
      probability: 0.1
      target:
        pod_uid: 9d249f14-4b37-4b66-a3d1-6515ff5199fe
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

from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import FAULT, NODE, Cluster, Kind, Obj
from ..module_utils._errors import FaultlineError, WaitFailed
from ..module_utils._fault_api import connect
from ..module_utils._fault_options import CUDA_OPTION, check, name_of, request_of, same, spec_of
from ..module_utils._module import run
from ..module_utils._objects import conditions
from ..module_utils._watch import Snapshot, wait

# What the agent holds a fault by until it has disarmed it.
AGENT = "faultline.dev/agent"
OVER = ("Failed", "Recovered")


def active(snapshot: Snapshot, effects: list[str]) -> tuple[bool, str]:
    """Whether the agent has done all effects and has seen each of them take hold."""
    fault = next(iter(snapshot["fault"].values()), None)
    if not fault:
        return False, "the fault is not there"
    status = fault.get("status") or {}
    log, cuda = status.get("kernelLog") or {}, status.get("cuda") or {}
    if status.get("phase") in OVER:
        why = status.get("message") or status.get("reason")
        raise WaitFailed(f"The agent could not inject the fault: {why}")
    if status.get("phase") == "Active" and "cuda" in effects and cuda.get("armed") is False:
        raise WaitFailed(
            f"CUDA calls do not fail: {status.get('message')}. Leave cuda out of the effects, or "
            "say with cuda.classes which calls shall fail."
        )
    line = "kernelLog" not in effects or bool((log.get("journal") or {}).get("seen"))
    armed = "cuda" not in effects or bool(cuda.get("armed"))
    seen = f"phase {status.get('phase') or 'none'}, line in the journal: {line}, armed: {armed}"
    return status.get("phase") == "Active" and line and armed, seen


def armed(faults: Iterable[Obj]) -> bool:
    """Whether the agent says of one of them that CUDA calls fail."""
    return any(((f.get("status") or {}).get("cuda") or {}).get("armed") for f in faults)


def of_run(run_id: str | None, name: str | None = None) -> Kind:
    """The faults of a run, or the one of that name; without a run those of all."""
    label = f"faultline.dev/run={run_id}" if run_id else None
    return Kind(FAULT.api_version, FAULT.kind, name=name, label_selector=label)


def left_alone(cluster: Cluster, p: dict[str, Any]) -> list[Obj]:
    """Pods that the injection must leave alone: none once CUDA calls fail by a fault of the run.

    Effects may come one by one: what calls fail of may end its process while the line is written.
    """
    if not p["namespace"] or armed(cluster.list(of_run(p["run_id"]))):
        return []
    return cluster.list(Kind("v1", "Pod", p["namespace"]))


def restarts(pod: Obj) -> int:
    """How often the containers of a pod were restarted."""
    rows = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(row.get("restartCount", 0) for row in rows)


def disturbed(before: Iterable[Obj], now: Iterable[Obj]) -> list[str]:
    """Pods that were restarted or replaced since; one that is evicted is NVSentinel's doing."""
    there = {pod["metadata"]["uid"]: pod for pod in now}
    found = []
    for old in before:
        new = there.get(old["metadata"]["uid"])
        leaving = new and new["metadata"].get("deletionTimestamp")
        evicted = new and conditions(new).get("DisruptionTarget", {}).get("status") == "True"
        if not new or restarts(new) > restarts(old) or (leaving and not evicted):
            found.append(old["metadata"]["name"])
    return found


def refuse_over(name: str, status: Obj) -> None:
    """Raise FaultlineError for a fault that will not come to life again."""
    if status.get("phase") in OVER:
        raise FaultlineError(
            f"The fault {name} is over already ({status.get('reason')}: {status.get('message')}). "
            "Remove it with state=absent, or give another name, to make one anew."
        )


def present(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Create the fault unless it is there, and wait for the evidence."""
    p = module.params
    if p["delete_all"]:
        raise FaultlineError("delete_all ends faults: it goes with state=absent.")
    check(p)
    name = p["name"] or name_of(p)
    wanted, before = spec_of(p), cluster.get(FAULT, name)
    if before and not same(wanted, before["spec"]):
        raise FaultlineError(f"There is another fault of the name {name}: end it first.")
    refuse_over(name, (before or {}).get("status") or {})
    there = (before or {}).get("spec") or {}
    # What the API server adds of itself is there already, and no difference.
    diff = {"before": there, "after": there | wanted}
    if module.check_mode:
        planned = {"metadata": {"name": name}, "spec": wanted}
        return {"changed": not before, "fault": before or planned, "diff": diff}
    pods = left_alone(cluster, p)
    if not before:
        api = connect(cluster, p["api_url"], p["api_token"])
        api.inject(p["xid"], request_of(p, name))
    kinds = {"fault": Kind(FAULT.api_version, FAULT.kind, name=name)}
    if p["namespace"]:
        kinds["pods"] = Kind("v1", "Pod", p["namespace"])

    def injected(now: Snapshot) -> tuple[bool, str]:
        good, seen = active(now, p["effects"])
        hurt = disturbed(pods, now.get("pods", {}).values())
        if not before and not armed(now["fault"].values()) and hurt:
            raise WaitFailed(
                f"Pods of {p['namespace']} were restarted or replaced before CUDA calls failed: "
                f"{', '.join(hurt)} ({seen})."
            )
        return good, seen

    snapshot, seconds = wait(cluster, kinds, injected, p["timeout"])
    fault = next(iter(snapshot["fault"].values()))
    return {"changed": not before, "fault": fault, "seconds": seconds, "diff": diff}


def vanished(cluster: Cluster, node: str) -> bool:
    """Whether a node has left the cluster; False for who may not look, as the agent will say."""
    try:
        return cluster.get(NODE, node) is None
    except FaultlineError:
        return False


def let_go(cluster: Cluster, fault: Obj) -> None:
    """Do for a fault what its agent would, which went with the node."""
    meta = fault["metadata"]
    left = [one for one in meta["finalizers"] if one != AGENT]
    cluster.patch(FAULT, meta["name"], {"metadata": {"finalizers": left}})


def absent(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Delete the faults, and wait until the agents have let them go."""
    p = module.params
    if p["delete_all"] and (p["run_id"] or p["name"]):
        raise FaultlineError(
            "delete_all ends the faults of all runs: leave out run_id and name, or delete_all to "
            "end those alone."
        )
    if not cluster.has(FAULT):
        return {"removed": []}
    mine = of_run(None) if p["delete_all"] else of_run(p["run_id"], p["name"])
    faults = cluster.list(mine)
    found = [fault["metadata"]["name"] for fault in faults]
    diff = {"before": {"faults": found}, "after": {"faults": []}}
    if module.check_mode or not found:
        return {"changed": bool(found), "removed": found, "diff": diff}
    for fault in faults:
        cluster.delete(FAULT, fault["metadata"]["name"])
        held = fault["metadata"].get("finalizers") or []
        if AGENT in held and vanished(cluster, fault["spec"]["node"]):
            let_go(cluster, fault)

    def gone(now: Snapshot) -> tuple[bool, str]:
        left = [key[1] for key in now["fault"]]
        return not left, f"the agent has not ended {', '.join(left)} yet"

    wait(cluster, {"fault": mine}, gone, p["timeout"])
    return {"changed": True, "removed": found, "diff": diff}


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Do what the options say."""
    p = module.params
    if not p["run_id"] and not p["delete_all"]:
        raise FaultlineError(
            "missing required arguments: run_id, which must not be empty; or delete_all with "
            "state=absent, for the faults of all runs."
        )
    return (present if p["state"] == "present" else absent)(module, cluster)


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str"},
            "run_id": {"type": "str"},
            "delete_all": {"type": "bool", "default": False},
            "xid": {"type": "int"},
            "node": {"type": "str"},
            "gpu_index": {"type": "int"},
            "gpu_uuid": {"type": "str"},
            "pci_address": {"type": "str"},
            "namespace": {"type": "str"},
            "effects": {
                "type": "list",
                "elements": "str",
                "choices": ["kernelLog", "cuda"],
                "default": ["kernelLog", "cuda"],
            },
            "cuda": CUDA_OPTION,
            "duration": {"type": "int", "default": 900},
            "timeout": {"type": "float", "default": 60},
            "api_url": {"type": "str"},
            "api_token": {"type": "str", "no_log": True},
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
