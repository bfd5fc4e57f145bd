#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: put the CUDA shim into the workers of a DynamoGraphDeployment, or take it out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_shim
short_description: Put the CUDA shim into the workers of a DGD, or take it out
version_added: 0.1.0
description:
  - Adds volumes, mounts and environment of the shim to every worker component by server-side apply
    with a field manager of its own, so that V(absent) takes out exactly what V(present) has put in.
  - This is said in the API version that the deployment is written in. One that was applied as
    C(v1alpha1) keeps its C(envs) to itself, and applying its file again stays free of conflicts.
  - The operator restarts all worker pods once. That needs one spare GPU, or the annotation
    C(nvidia.com/deployment-strategy=Recreate); neither is a reason to refuse.
options:
  state:
    description: Whether the shim is in the specification.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the DynamoGraphDeployment.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    required: true
  run_id:
    description:
      - With V(absent) the run that the deployment must belong to, by its label
        C(faultline.dev/run);
        a deployment of anybody else is left alone.
    type: str
  build_id:
    description: Build of the shim, a folder in O(host_path). Required for V(present).
    type: str
  host_path:
    description: Folder on the GPU hosts that holds the builds.
    type: path
    default: /var/lib/faultline/shim
  control_path:
    description: Folder on the GPU hosts that holds the control page.
    type: path
    default: /var/lib/faultline/control
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Attach the shim
  faultline.gpu.cuda_shim:
    name: agg
    namespace: drill-1
    build_id: 359884b78dcaeb8a
"""

RETURN = r"""
components:
  description: Names of the worker components.
  type: list
  elements: str
  returned: always
room:
  description: How a rollout finds a GPU, C(spare) or C(recreate); empty when nothing changes.
  type: str
  returned: always
generation:
  description: Generation of the DGD afterwards.
  type: int
  returned: always
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import GRAPH, NODE, POD, Cluster, Obj
from ..module_utils._dgd_overlay import kind_in, overlay, parts, schema_of, stripped
from ..module_utils._dgd_spec import BETA
from ..module_utils._errors import FaultlineError
from ..module_utils._graph_predicates import worker_components
from ..module_utils._module import run
from ..module_utils._objects import run_of
from ..module_utils._platform import free_by_node, gpu_limit
from ..module_utils._shim_predicates import SHIM_VOLUME

MANAGER = "faultline-cuda-shim"
CONTROL_VOLUME = "faultline-control"
LIBRARY = "libfaultline.so"
SHIM_AT, CONTROL_AT = "/opt/faultline/shim", "/opt/faultline/control"


def additions(host_path: str, control_path: str, build_id: str) -> Obj:
    """What the shim adds to a worker."""
    return {
        "container": {
            "env": [
                {"name": "LD_PRELOAD", "value": f"{SHIM_AT}/{LIBRARY}"},
                {"name": "FAULTLINE_CONTROL", "value": f"{CONTROL_AT}/page"},
            ],
            "volumeMounts": [
                {"name": SHIM_VOLUME, "mountPath": SHIM_AT, "readOnly": True},
                {"name": CONTROL_VOLUME, "mountPath": CONTROL_AT, "readOnly": True},
            ],
        },
        "volumes": [
            {
                "name": SHIM_VOLUME,
                "hostPath": {"path": f"{host_path}/{build_id}", "type": "Directory"},
            },
            {"name": CONTROL_VOLUME, "hostPath": {"path": control_path, "type": "Directory"}},
        ],
    }


MARKS = (SHIM_VOLUME, CONTROL_VOLUME, "FAULTLINE_CONTROL", LIBRARY)
# What can be nobody's but ours: a library of that name may be somebody else's copy.
OURS = (SHIM_VOLUME, CONTROL_VOLUME, "FAULTLINE_CONTROL", f"{SHIM_AT}/{LIBRARY}")


def take_out(module: AnsibleModule, cluster: Cluster, workers: list[str]) -> Obj:
    """Take out what bears our names where the API server has forgotten whose it is.

    Raises FaultlineError when somebody writes to the DGD at the same time.
    """
    p = module.params
    graph = cluster.get(GRAPH, p["name"], p["namespace"]) or {}
    parts = stripped(graph, workers, OURS)
    # With its version, a change that came in between is not overwritten.
    meta = {"resourceVersion": graph["metadata"]["resourceVersion"]}
    if module.check_mode:
        return graph | {"spec": graph["spec"] | {"components": parts}}
    change = {"metadata": meta, "spec": {"components": parts}}
    return cluster.patch(GRAPH, p["name"], change, p["namespace"]) or graph


def traces(graph: Obj, workers: list[str]) -> list[str]:
    """Names of workers that mention the shim."""
    texts = {name: json.dumps(part) for name, part in parts(graph).items() if name in workers}
    return [name for name, text in texts.items() if any(mark in text for mark in MARKS)]


def room(cluster: Cluster, graph: Obj) -> str:
    """How a rollout finds its GPUs; raises FaultlineError when it would wait for ever.

    The operator replaces worker pods one by one, so one more pod must fit on some node (recorded:
    with all GPUs in use the rollout never ends).
    """
    workers = worker_components(graph)
    strategies = [
        (((c.get("podTemplate") or {}).get("metadata") or {}).get("annotations") or {}).get(
            "nvidia.com/deployment-strategy"
        )
        for c in workers
    ]
    if all(s == "Recreate" for s in strategies):
        return "recreate"
    need = max(gpu_limit(c.get("podTemplate") or {}) for c in workers)
    free = free_by_node(
        [n for n in cluster.list(NODE) if not n["spec"].get("unschedulable")], cluster.list(POD)
    )
    if need and max(free.values(), default=0) < need:
        raise FaultlineError(
            f"A rollout of the workers needs one more pod with {need} GPU on some node, free are "
            f"{free or 'none'}: free some, or set the annotation "
            "nvidia.com/deployment-strategy=Recreate in the workers' podTemplate."
        )
    return "spare"


def preloads(graph: Obj) -> list[str]:
    """Workers that preload something of their own."""
    found = []
    for component in worker_components(graph):
        pod = (component.get("podTemplate") or {}).get("spec") or {}
        for container in pod.get("containers") or []:
            for entry in container.get("env") or []:
                theirs = LIBRARY not in str(entry.get("value"))
                if entry["name"] == "LD_PRELOAD" and container["name"] == "main" and theirs:
                    found.append(component["name"])
    return found


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Do what the options say."""
    p = module.params
    graph = cluster.get(GRAPH, p["name"], p["namespace"]) if cluster.has(GRAPH) else None
    theirs = p["run_id"] and run_of(graph) != p["run_id"]
    if p["state"] == "absent" and (not graph or theirs):
        return {"components": [], "room": "", "generation": 0}
    if not graph:
        raise FaultlineError(f"There is no DGD {p['name']} in {p['namespace']}: deploy it first.")
    names = [c["name"] for c in worker_components(graph)]
    if not names:
        raise FaultlineError(f"DGD {p['name']} has no worker component to put the shim into.")
    added, space = {}, ""
    if p["state"] == "present":
        theirs = preloads(graph)
        if theirs:
            raise FaultlineError(
                f"Component {', '.join(theirs)} sets LD_PRELOAD itself: the shim would replace it."
            )
        added = additions(p["host_path"], p["control_path"], p["build_id"])
    schema = schema_of(graph, MANAGER)
    before = graph if schema == BETA else cluster.get(kind_in(schema), p["name"], p["namespace"])
    body = overlay(graph, schema, dict.fromkeys(names, added))
    planned = cluster.apply(body, MANAGER, dry_run=True)
    changed = not before or planned["spec"] != before["spec"]
    if changed:
        space = room(cluster, graph) if p["state"] == "present" else ""
        after = planned if module.check_mode else cluster.apply(body, MANAGER)
    else:
        after = planned
    left = traces(after, names)
    if p["state"] == "absent" and left:
        after = take_out(module, cluster, names)
        changed, left = True, traces(after, names)
    if p["state"] == "absent" and left:
        raise FaultlineError(
            f"Component {', '.join(left)} still mentions the shim: somebody else put it there.",
            components=left,
        )
    return {
        "changed": changed,
        "components": names,
        "room": space,
        "generation": after["metadata"]["generation"],
        "diff": {"before": (before or graph)["spec"], "after": after["spec"]},
    }


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "run_id": {"type": "str"},
            "build_id": {"type": "str"},
            "host_path": {"type": "path", "default": "/var/lib/faultline/shim"},
            "control_path": {"type": "path", "default": "/var/lib/faultline/control"},
        },
        work,
        required_if=[("state", "present", ("build_id",))],
    )


if __name__ == "__main__":
    main()
