#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: make, change, wait for and remove a DynamoGraphDeployment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dgd
short_description: Make, change, wait for and remove a DynamoGraphDeployment
version_added: 0.1.0
description:
  - Applies a DynamoGraphDeployment with a field manager of its own and waits until it serves with
    one generation of pods, or deletes it and waits until its pods are gone.
options:
  state:
    description: V(settled) changes nothing and only waits.
    type: str
    choices: [present, absent, settled]
    default: present
  name:
    description: Name of the DynamoGraphDeployment; taken from O(definition) when not given.
    type: str
  namespace:
    description: Namespace.
    type: str
    required: true
  definition:
    description: The whole object. Namespace and name in it are replaced by those given here.
    type: dict
  labels:
    description: Labels to add to the object.
    type: dict
    default: {}
  shim:
    description: Ask that all worker pods have the shim (true) or none has (false).
    type: bool
  healthy_nodes:
    description:
      - Ask that every pod of the deployment is on a node that is Ready, schedulable, without an XID
        condition and not in NVSentinel's hands.
    type: bool
    default: false
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
"""

RETURN = r"""
dgd:
  description: The object.
  type: dict
  returned: when O(state) is not V(absent)
pods:
  description: Its pods, each with C(name), C(node), C(component), C(worker) and C(uid).
  type: list
  elements: dict
  returned: when O(state) is not V(absent)
seen:
  description: What was seen last, one sentence.
  type: str
  returned: always
seconds:
  description: Seconds waited.
  type: float
  returned: always
"""

import copy
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import GRAPH, NODE, Cluster, Kind, Obj
from ..module_utils._errors import FaultlineError
from ..module_utils._module import run
from ..module_utils._predicates import (
    GRAPH_LABEL,
    HASH_LABEL,
    graph_settled,
    on_healthy_nodes,
)
from ..module_utils._watch import Snapshot, wait

MANAGER = "faultline-dgd"


def kinds(namespace: str, name: str) -> dict[str, Kind]:
    """What is followed to know a deployment's state."""
    return {
        "graph": Kind(GRAPH.api_version, GRAPH.kind, namespace, name),
        "pods": Kind("v1", "Pod", namespace, label_selector=f"{GRAPH_LABEL}={name}"),
    }


def settle(module: AnsibleModule, cluster: Cluster, name: str) -> dict[str, Any]:
    """Wait until the deployment serves with one generation of pods."""
    p = module.params
    said = ""

    def settled(now: Snapshot) -> tuple[bool, str]:
        nonlocal said
        graph = next(iter(now["graph"].values()), None)
        pods = list(now["pods"].values())
        good, said = graph_settled(graph, pods, p["shim"])
        if good and p["healthy_nodes"]:
            good, where = on_healthy_nodes(pods, now["nodes"].values())
            said = f"{said}; {where}"
        return good, said

    follow = kinds(p["namespace"], name) | ({"nodes": NODE} if p["healthy_nodes"] else {})
    snapshot, seconds = wait(cluster, follow, settled, p["timeout"])
    rows = [
        {
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
            "node": pod["spec"].get("nodeName"),
            "component": pod["metadata"]["labels"].get("nvidia.com/dynamo-component"),
            "worker": HASH_LABEL in pod["metadata"]["labels"],
        }
        for pod in snapshot["pods"].values()
    ]
    graph = next(iter(snapshot["graph"].values()))
    return {"dgd": graph, "pods": rows, "seen": said, "seconds": round(seconds, 2)}


def remove(module: AnsibleModule, cluster: Cluster, name: str) -> dict[str, Any]:
    """Delete in the foreground, then wait until object and pods are gone."""
    namespace = module.params["namespace"]
    before = cluster.get(GRAPH, name, namespace) if cluster.has(GRAPH) else None
    diff = {"before": before or {}, "after": {}}
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


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Do what the options say."""
    p = module.params
    body: Obj = copy.deepcopy(p["definition"] or {})
    name = p["name"] or (body.get("metadata") or {}).get("name")
    if not name:
        raise FaultlineError("Which DynamoGraphDeployment? Give `name` or a `definition` with one.")
    if p["state"] == "absent":
        return remove(module, cluster, name)
    if p["state"] == "settled":
        return settle(module, cluster, name)
    if body.get("kind") != GRAPH.kind:
        raise FaultlineError(f"The definition is a {body.get('kind')}, not a {GRAPH.kind}.")
    meta = {"name": name, "namespace": p["namespace"]}
    given = body.get("metadata") or {}
    labels = {**(given.get("labels") or {}), **p["labels"]}
    body["metadata"] = {**given, **meta, **({"labels": labels} if labels else {})}
    before = cluster.get(GRAPH, name, p["namespace"])
    after = cluster.apply(body, MANAGER, dry_run=module.check_mode)
    changed = not before or (
        before["metadata"].get("generation") != after["metadata"].get("generation")
        or (before["metadata"].get("labels") or {}) != (after["metadata"].get("labels") or {})
    )
    diff = {"before": (before or {}).get("spec") or {}, "after": after["spec"]}
    if module.check_mode:
        return {
            "changed": changed,
            "dgd": after,
            "pods": [],
            "seen": "",
            "seconds": 0.0,
            "diff": diff,
        }
    return {"changed": changed, "diff": diff} | settle(module, cluster, name)


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {
                "type": "str",
                "choices": ["present", "absent", "settled"],
                "default": "present",
            },
            "name": {"type": "str"},
            "namespace": {"type": "str", "required": True},
            "definition": {"type": "dict"},
            "labels": {"type": "dict", "default": {}},
            "shim": {"type": "bool"},
            "healthy_nodes": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 600},
        },
        work,
        required_if=[("state", "present", ("definition",))],
    )


if __name__ == "__main__":
    main()
