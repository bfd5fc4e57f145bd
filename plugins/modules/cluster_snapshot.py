#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: remember what a cluster is like, and compare."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_snapshot
short_description: Remember what a cluster is like, and compare
version_added: 0.1.0
description:
  - V(captured) writes what a drill could change into a file, V(compared) says what is different.
  - V(same_cluster) fails when the file is about another cluster, so that nothing is undone there.
  - Looked at are nodes (labels, annotations, taints, cordon, GPUs, alarming conditions),
    namespaces, DynamoGraphDeployments and GPUFaults. Marks that NVSentinel leaves after every
    recovery are not.
options:
  state:
    description: What to do.
    type: str
    choices: [captured, compared, same_cluster]
    required: true
  path:
    description: File of the snapshot.
    type: path
    required: true
  timeout:
    description: Seconds that V(compared) waits for the cluster to be as it was.
    type: float
    default: 30
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Remember the cluster
  faultline.gpu.cluster_snapshot:
    state: captured
    path: results/run-1/before.json
"""

RETURN = r"""
equal:
  description: Whether nothing is different.
  type: bool
  returned: when O(state=compared)
differences:
  description: What is different, one sentence each.
  type: list
  elements: str
  returned: when O(state=compared)
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _run, _snapshot
from ..module_utils._client import FAULT, GRAPH, NODE, Cluster, Kind
from ..module_utils._errors import FaultlineError, WaitTimeout
from ..module_utils._module import run
from ..module_utils._watch import Snapshot, followable, wait


def kinds(cluster: Cluster) -> dict[str, Kind]:
    """What to look at, as far as the cluster knows it."""
    wanted = {
        "Node": NODE,
        "Namespace": Kind("v1", "Namespace"),
        "DynamoGraphDeployment": GRAPH,
        "GPUFault": FAULT,
    }
    return followable(cluster, wanted)


def content_of(now: Snapshot) -> dict[str, Any]:
    """The snapshot's content."""
    named = {key: list(objects.values()) for key, objects in now.items() if key != "Node"}
    return _snapshot.capture(list(now["Node"].values()), named)


def recognise(cluster: Cluster, before: dict[str, Any], path: Path) -> dict[str, Any]:
    """Raise FaultlineError when the snapshot is of another cluster."""
    system = cluster.get(Kind("v1", "Namespace"), "kube-system") or {}
    why = _snapshot.another_cluster(before, (system.get("metadata") or {}).get("uid"))
    if why:
        raise FaultlineError(
            f"This is not the cluster that {path} is about: {why}. "
            "Use the kubeconfig and context with which the run was begun."
        )
    return {}


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Capture or compare."""
    path = Path(module.params["path"])
    if module.params["state"] == "captured":
        now, _seconds = wait(cluster, kinds(cluster), lambda _now: (True, ""), 30)
        content = content_of(now)
        before = json.loads(path.read_text()) if path.exists() else {}
        if not module.check_mode:
            _run.write_json(path, content)
        diff = {"before": before, "after": content}
        return {"changed": before != content, "diff": diff}
    if not path.exists():
        raise FaultlineError(f"There is no snapshot {path} to compare with: capture one first.")
    before = json.loads(path.read_text())
    if module.params["state"] == "same_cluster":
        return recognise(cluster, before, path)
    left: list[str] = []

    def as_before(now: Snapshot) -> tuple[bool, str]:
        nonlocal left
        left = _snapshot.differences(before, content_of(now))
        return not left, "; ".join(left)

    try:
        wait(cluster, kinds(cluster), as_before, module.params["timeout"])
    except WaitTimeout:
        return {"equal": False, "differences": left}
    return {"equal": True, "differences": []}


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {
                "type": "str",
                "choices": ["captured", "compared", "same_cluster"],
                "required": True,
            },
            "path": {"type": "path", "required": True},
            "timeout": {"type": "float", "default": 30},
        },
        work,
    )


if __name__ == "__main__":
    main()
