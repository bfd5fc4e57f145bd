#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: wait for many objects by watch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_watch
short_description: Wait for many objects by watch, with one deadline
version_added: 0.1.0
description:
  - Follows all objects that O(resources) select and returns when each of them meets every condition
    of O(until). One deadline holds for the whole set. No object at all is never success.
options:
  resources:
    description:
      - What to follow, each with C(api_version), C(kind) and optionally C(namespace), C(name),
        C(label_selector), C(field_selector), and C(until) in place of O(until).
    type: list
    elements: dict
    required: true
  until:
    description:
      - Conditions that every object must meet, each with a dotted C(path) and one of C(equals),
        C(in), C(regex), C(present), C(same_as) (another path). A path may end in
        C([type=Ready].status).
      - The word C(ready) stands for what readiness means for Deployments, DaemonSets, StatefulSets
        and Pods.
    type: list
    elements: raw
    default: [ready]
  fail_if:
    description: Conditions of the same form; one object that meets one of them ends the wait.
    type: list
    elements: raw
    default: []
  min_count:
    description: Least number of objects.
    type: int
    default: 1
  timeout:
    description: Seconds to wait.
    type: float
    default: 120
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Everything of the lab is Ready
  faultline.gpu.k8s_watch:
    resources:
      - {api_version: apps/v1, kind: Deployment, namespace: nvsentinel}
      - {api_version: apps/v1, kind: DaemonSet, namespace: nvsentinel}
"""

RETURN = r"""
count:
  description: Number of objects.
  type: int
  returned: always
objects:
  description: Which they are, each with C(kind), C(namespace) and C(name).
  type: list
  elements: dict
  returned: always
seconds:
  description: Seconds waited.
  type: float
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import Cluster, Kind
from ..module_utils._conditions import check, meets
from ..module_utils._errors import FaultlineError, WaitFailed
from ..module_utils._module import run
from ..module_utils._watch import Snapshot, wait


def kinds_of(resources: list[dict[str, Any]]) -> dict[str, Kind]:
    """The kinds to follow; raises FaultlineError for an unknown key."""
    found = {}
    for number, resource in enumerate(resources):
        try:
            found[str(number)] = Kind(**{k: v for k, v in resource.items() if k != "until"})
        except TypeError as error:
            raise FaultlineError(f"resources[{number}] cannot be used: {error}.") from error
    return found


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Wait."""
    p = module.params
    rules = {str(n): r.get("until", p["until"]) for n, r in enumerate(p["resources"])}
    for rule in [*(rule for found in rules.values() for rule in found), *p["fail_if"]]:
        check(rule)

    def condition(now: Snapshot) -> tuple[bool, str]:
        objects = [(key, obj) for key, objects in now.items() for obj in objects.values()]
        waiting = []
        for key, obj in objects:
            name = f"{obj['kind']}/{obj['metadata']['name']}"
            for rule in p["fail_if"]:
                good, seen = meets(obj, rule)
                if good:
                    raise WaitFailed(f"{name} cannot become what is waited for: {seen}.")
            waiting += [f"{name}: {s}" for g, s in (meets(obj, r) for r in rules[key]) if not g]
        if len(objects) < p["min_count"]:
            return False, f"{len(objects)} objects, {p['min_count']} wanted"
        return not waiting, "; ".join(waiting[:8]) or f"{len(objects)} objects"

    snapshot, seconds = wait(cluster, kinds_of(p["resources"]), condition, p["timeout"])
    objects = [
        {"kind": obj["kind"], "namespace": namespace, "name": name}
        for found in snapshot.values()
        for (namespace, name), obj in found.items()
    ]
    return {"count": len(objects), "objects": objects, "seconds": round(seconds, 2)}


def main() -> None:
    """Run the module."""
    run(
        {
            "resources": {"type": "list", "elements": "dict", "required": True},
            "until": {"type": "list", "elements": "raw", "default": ["ready"]},
            "fail_if": {"type": "list", "elements": "raw", "default": []},
            "min_count": {"type": "int", "default": 1},
            "timeout": {"type": "float", "default": 120},
        },
        work,
    )


if __name__ == "__main__":
    main()
