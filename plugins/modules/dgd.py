#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: make, change, wait for and remove a DynamoGraphDeployment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dgd
short_description: Make, change, restart, wait for and remove a DynamoGraphDeployment
version_added: 0.1.0
description:
  - Applies a DynamoGraphDeployment of either API version with a field manager of its own and waits
    until it serves with one generation of pods, restarts it, or deletes it and waits until its pods
    are gone.
  - A deployment that cannot come up ends the wait at once, with the pod, container and reason.
options:
  state:
    description:
      - V(settled) changes nothing and only waits.
      - V(restarted) replaces all pods, one component after the other, or those of O(component).
    type: str
    choices: [present, absent, settled, restarted]
    default: present
  name:
    description:
      - Name of the DynamoGraphDeployment; taken from O(definition) or O(src) when not given.
    type: str
  namespace:
    description: Namespace.
    type: str
    required: true
  definition:
    description:
      - The whole object, of C(nvidia.com/v1alpha1) or C(nvidia.com/v1beta1); it is applied as it is
        written. Namespace and name in it are replaced by those given here.
    type: dict
  src:
    description: Path of a YAML file with the object, in place of O(definition).
    type: path
  model:
    description: Model (name or path) for all workers and for whoever else names one.
    type: str
  image:
    description: Image for the main container of all components.
    type: str
  tensor_parallel:
    description: Tensor parallel size and GPUs of all components that ask for GPUs.
    type: int
  replicas:
    description: Number of replicas by component.
    type: dict
  envs:
    description: Environment variables for all workers, values by name.
    type: dict
  logging:
    description: Logs of all components.
    type: dict
    suboptions:
      jsonl:
        description: Whether lines are JSON.
        type: bool
        default: true
      level:
        description: Level, such as V(debug); stays as it is when not given.
        type: str
  router_mode:
    description: How the frontend spreads requests, such as V(kv).
    type: str
  grove:
    description: Whether the operator makes Grove's pod cliques; V(false) means Deployments.
    type: bool
  labels:
    description:
      - Labels to add to the object. With C(faultline.dev/run) among them, an object of that name
        that is not of this run is refused.
    type: dict
    default: {}
  adopt:
    description:
      - Take over an object of that name that is not of this run, with all fields that are set here,
        also where somebody else owns them.
    type: bool
    default: false
  component:
    description:
      - Which component V(restarted) restarts. Workers restart together, whichever is named, because
        the operator knows one generation of all workers; they need one spare GPU for it.
    type: str
  restart_id:
    description:
      - Name of a restart; one that was asked for before changes nothing. Every run is a restart of
        its own when not given.
    type: str
  shim:
    description: Ask that all worker pods have the shim (true) or none has (false).
    type: bool
  healthy_nodes:
    description:
      - Ask that every pod of the deployment is on a node that is Ready, schedulable, without an XID
        condition and not in NVSentinel's hands.
    type: bool
    default: false
  fail_fast:
    description:
      - End the wait when a pod cannot become Ready, such as one whose image cannot be pulled, that
        crashed three times, ran out of memory or finds no node, or when the operator has failed.
      - Pods that are ending, that were there before the change, and pods on nodes that are out of
        service do not count.
    type: bool
    default: true
  trouble_grace:
    description:
      - Seconds that a trouble may last which can pass by itself. A pod that finds no node (counted
        while no pod of the deployment is ending), an image or container that the kubelet tries
        again, an operator that calls the deployment failed.
    type: float
    default: 30
  wait:
    description: Whether V(absent) waits until object and pods are gone.
    type: bool
    default: true
  timeout:
    description: Seconds to wait.
    type: float
    default: 600
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Deploy
  faultline.gpu.dgd:
    namespace: drill-1
    definition: "{{ lookup('ansible.builtin.file', 'agg.yaml') | from_yaml }}"

- name: Deploy a file of either version with another model on two GPUs each
  faultline.gpu.dgd:
    namespace: drill-1
    src: deploy/v1alpha1/disagg.yaml
    model: Qwen/Qwen3-8B
    tensor_parallel: 2
    replicas: {prefill: 1, decode: 2}

- name: Restart all of it, once
  faultline.gpu.dgd:
    state: restarted
    namespace: drill-1
    name: agg
    restart_id: after-maintenance
"""

RETURN = r"""
dgd:
  description: The object as v1beta1; in check mode as it would be, in the version of its file.
  type: dict
  returned: when O(state) is not V(absent)
pods:
  description: Its pods, each with C(name), C(node), C(component), C(worker) and C(uid).
  type: list
  elements: dict
  returned: when O(state) is not V(absent)
restart_id:
  description: Name of the restart.
  type: str
  returned: when O(state) is V(restarted)
trouble:
  description: What ended the wait, with C(pod), C(container), C(reason) and C(message).
  type: dict
  returned: when a pod cannot become Ready
seen:
  description: What was seen last, one sentence.
  type: str
  returned: always
seconds:
  description: Seconds waited.
  type: float
  returned: always
"""

import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import GRAPH, Cluster, Kind, Obj
from ..module_utils._dgd_edits import edit
from ..module_utils._dgd_overlay import kind_in
from ..module_utils._dgd_restart import ALL, ONE, restart_of_all, restart_of_one
from ..module_utils._dgd_spec import DeploymentSpec
from ..module_utils._errors import FaultlineError
from ..module_utils._module import run
from ..module_utils._objects import COMPONENT_LABEL, HASH_LABEL, RUN_LABEL, run_of
from ..module_utils._settling import Settling, kinds
from ..module_utils._watch import Snapshot, wait

MANAGER = "faultline-dgd"


def settle(module: AnsibleModule, cluster: Cluster, name: str, **more: Any) -> dict[str, Any]:
    """Wait until the deployment serves with one generation of pods."""
    p = module.params
    settling = Settling(p["shim"], p["healthy_nodes"], p["fail_fast"], p["trouble_grace"], **more)
    follow = settling.follows(p["namespace"], name)
    snapshot, seconds = wait(cluster, follow, settling, p["timeout"], again=settling.again)
    rows = [
        {
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
            "node": pod["spec"].get("nodeName"),
            "component": pod["metadata"]["labels"].get(COMPONENT_LABEL),
            "worker": HASH_LABEL in pod["metadata"]["labels"],
        }
        for pod in snapshot["pods"].values()
    ]
    graph = next(iter(snapshot["graph"].values()))
    return {"dgd": graph, "pods": rows, "seen": settling.said, "seconds": round(seconds, 2)}


def remove(module: AnsibleModule, cluster: Cluster, name: str) -> dict[str, Any]:
    """Delete in the foreground, then wait until object and pods are gone."""
    namespace = module.params["namespace"]
    before = cluster.get(GRAPH, name, namespace) if cluster.has(GRAPH) else None
    diff = {"before": before or {}, "after": {}}
    stranger = foreign(before, module.params["labels"])
    if stranger:
        seen = f"left alone: {stranger.partition(', not')[0]}"
        return {"changed": False, "seen": seen, "seconds": 0.0}
    if not before or module.check_mode:
        return {"changed": bool(before), "seen": f"no DGD {name}", "seconds": 0.0, "diff": diff}
    cluster.delete(GRAPH, name, namespace, propagationPolicy="Foreground")
    if not module.params["wait"]:
        return {"changed": True, "seen": f"DGD {name} is going", "seconds": 0.0, "diff": diff}

    def gone(now: Snapshot) -> tuple[bool, str]:
        left = [key[1] for objects in now.values() for key in objects]
        return not left, f"left: {', '.join(left)}" if left else f"DGD {name} and its pods are gone"

    _snapshot, seconds = wait(cluster, kinds(namespace, name), gone, module.params["timeout"])
    return {"changed": True, "seen": f"DGD {name} is gone", "seconds": seconds, "diff": diff}


def foreign(graph: Obj | None, labels: dict[str, str]) -> str | None:
    """Why an object is not of the run that is asked for, None if it may be changed."""
    run_id = labels.get(RUN_LABEL)
    if not graph or run_id is None:
        return None
    found = run_of(graph)
    if found == run_id:
        return None
    whose = f"belongs to run {found}" if found else f"has no label {RUN_LABEL}"
    meta = graph["metadata"]
    return (
        f"DGD {meta['name']} is in {meta['namespace']} already and {whose}, not to run {run_id}: "
        "remove it, choose another name, or take it over with `adopt: true`."
    )


def differs(before: Obj, after: Obj, given: Obj) -> bool:
    """Whether an apply changes specification, labels or the annotations that it gives."""
    old, new = before["metadata"], after["metadata"]
    notes = old.get("annotations") or {}
    return (
        old.get("generation") != new.get("generation")
        or (old.get("labels") or {}) != (new.get("labels") or {})
        or any(notes.get(k) != v for k, v in (given["metadata"].get("annotations") or {}).items())
    )


def planned(changed: bool, after: Obj, diff: Obj) -> dict[str, Any]:
    """Result of check mode."""
    seen = "nothing was changed: check mode"
    return {"changed": changed, "dgd": after, "pods": [], "seen": seen, "seconds": 0.0} | diff


def names_of_pods(cluster: Cluster, namespace: str, name: str) -> set[str]:
    """Pods of a deployment by name."""
    return {pod["metadata"]["name"] for pod in cluster.list(kinds(namespace, name)["pods"])}


def deploy(module: AnsibleModule, cluster: Cluster, spec: DeploymentSpec) -> dict[str, Any]:
    """Apply the object in its own version and wait."""
    p, body = module.params, spec.spec()
    name, namespace = spec.name, p["namespace"]
    body["apiVersion"] = spec.api_version
    labels = {**(body["metadata"].get("labels") or {}), **p["labels"]}
    body["metadata"] |= {"labels": labels} if labels else {}
    before = cluster.get(kind_in(spec.schema), name, namespace)
    stranger = foreign(before, p["labels"])
    if stranger and not p["adopt"]:
        raise FaultlineError(stranger)
    known = names_of_pods(cluster, namespace, name) if before else set()
    after = cluster.apply(body, MANAGER, force=bool(stranger), dry_run=module.check_mode)
    changed = not before or differs(before, after, body)
    diff = {"diff": {"before": (before or {}).get("spec") or {}, "after": after["spec"]}}
    if module.check_mode:
        return planned(changed, after, diff)
    known = known if changed else set()
    return {"changed": changed} | diff | settle(module, cluster, name, known=known)


def restart(module: AnsibleModule, cluster: Cluster, name: str) -> dict[str, Any]:
    """Ask for a restart, unless it was asked for before, and wait until it has ended."""
    p, namespace = module.params, module.params["namespace"]
    graph = cluster.get(GRAPH, name, namespace)
    if not graph:
        raise FaultlineError(f"There is no DGD {name} in {namespace}: deploy it first.")
    restart_id = p["restart_id"] or uuid.uuid4().hex[:12]
    if p["component"]:
        body, manager = restart_of_one(graph, p["component"], restart_id), ONE
    else:
        body, manager = restart_of_all(graph, restart_id), ALL
    known = names_of_pods(cluster, namespace, name)
    before = cluster.get(Kind(body["apiVersion"], GRAPH.kind), name, namespace) or graph
    # Whoever asked for the last restart owns the field; nothing is lost by asking for another.
    after = cluster.apply(body, manager, force=manager == ALL, dry_run=module.check_mode)
    changed = before["metadata"].get("generation") != after["metadata"].get("generation")
    diff = {"diff": {"before": before["spec"], "after": after["spec"]}, "restart_id": restart_id}
    if module.check_mode:
        return planned(changed, after, diff)
    known = known if changed else set()
    ends = restart_id if manager == ALL else None
    return {"changed": changed} | diff | settle(module, cluster, name, known=known, restart_id=ends)


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Do what the options say."""
    p, spec = module.params, None
    if p["src"] or p["definition"] is not None:
        spec = (
            DeploymentSpec(p["src"]) if p["src"] else DeploymentSpec.from_mapping(p["definition"])
        )
        edit(spec, p)
        spec.name = p["name"] or spec.name
        spec.namespace = p["namespace"]
    name = spec.name if spec else p["name"]
    if not name:
        raise FaultlineError("Which DynamoGraphDeployment? Give `name` or a `definition` with one.")
    if p["state"] == "absent":
        return remove(module, cluster, name)
    if p["state"] == "restarted":
        return restart(module, cluster, name)
    if p["state"] == "settled" or not spec:
        return settle(module, cluster, name)
    return deploy(module, cluster, spec)


LOGGING = {"jsonl": {"type": "bool", "default": True}, "level": {"type": "str"}}


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {
                "type": "str",
                "choices": ["present", "absent", "settled", "restarted"],
                "default": "present",
            },
            "name": {"type": "str"},
            "namespace": {"type": "str", "required": True},
            "definition": {"type": "dict"},
            "src": {"type": "path"},
            "model": {"type": "str"},
            "image": {"type": "str"},
            "tensor_parallel": {"type": "int"},
            "replicas": {"type": "dict"},
            "envs": {"type": "dict"},
            "logging": {"type": "dict", "options": LOGGING},
            "router_mode": {"type": "str"},
            "grove": {"type": "bool"},
            "labels": {"type": "dict", "default": {}},
            "adopt": {"type": "bool", "default": False},
            "component": {"type": "str"},
            "restart_id": {"type": "str"},
            "shim": {"type": "bool"},
            "healthy_nodes": {"type": "bool", "default": False},
            "fail_fast": {"type": "bool", "default": True},
            "trouble_grace": {"type": "float", "default": 30},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 600},
        },
        work,
        mutually_exclusive=[("definition", "src")],
        required_if=[("state", "present", ("definition", "src"), True)],
    )


if __name__ == "__main__":
    main()
