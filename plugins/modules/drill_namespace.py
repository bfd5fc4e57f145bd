#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the namespace of a drill, and those that outlived their time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_namespace
short_description: Make the namespace of a drill, or remove those that outlived their time
version_added: 0.1.0
description:
  - V(present) makes a namespace that says whose it is (labels C(faultline.dev/run),
    C(faultline.dev/drill=allowed), C(app.kubernetes.io/managed-by=faultline.gpu)) and until when
    it may live (annotation C(faultline.dev/expires-at)). One that is there already must be of the
    same run; it keeps the time it says.
  - V(swept) removes the namespaces that carry all these labels and whose time is over, of whatever
    run, and waits until they are gone. Nothing else is touched.
options:
  state:
    description: What to do.
    type: str
    choices: [present, swept]
    default: present
  name:
    description: Name of the namespace. Required for V(present).
    type: str
  run_id:
    description: Run that it belongs to. Required for V(present).
    type: str
  ttl:
    description: Seconds that it may live.
    type: float
    default: 7200
  timeout:
    description: Seconds that V(swept) waits until the namespaces are gone.
    type: float
    default: 300
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Make the namespace of this run
  faultline.gpu.drill_namespace:
    name: drill-run-1
    run_id: run-1

- name: Remove what earlier runs have left
  faultline.gpu.drill_namespace:
    state: swept
"""

RETURN = r"""
expires_at:
  description: Until when the namespace may live, RFC 3339 in UTC.
  type: str
  returned: when O(state=present)
removed:
  description: Namespaces whose time was over.
  type: list
  elements: str
  returned: when O(state=swept)
seen:
  description: What goes and what stays, one sentence.
  type: str
  returned: when O(state=swept)
kept:
  description: Other namespaces of this collection, and why each stays.
  type: dict
  returned: when O(state=swept)
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import NAMESPACE, Cluster, Kind
from ..module_utils._errors import FaultlineError
from ..module_utils._module import run
from ..module_utils._namespace import EXPIRES, MANAGED, expiry, owner_labels, remaining, sorted_out
from ..module_utils._platform import namespace_problem
from ..module_utils._watch import Snapshot, wait

MANAGER = "faultline-platform"


def make(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Make the namespace; one of the same run keeps its time."""
    p = module.params
    before = cluster.get(NAMESPACE, p["name"])
    for problem in namespace_problem(before, p["run_id"]):
        raise FaultlineError(problem)
    if before and before["metadata"].get("deletionTimestamp"):
        raise FaultlineError(
            f"Namespace {p['name']} is being removed: wait until it is gone, or name another."
        )
    was = (before or {"metadata": {}})["metadata"]
    end = (was.get("annotations") or {}).get(EXPIRES) or expiry(datetime.now(UTC), p["ttl"])
    wanted = {"labels": owner_labels(p["run_id"]), "annotations": {EXPIRES: end}}
    body = {
        "apiVersion": NAMESPACE.api_version,
        "kind": NAMESPACE.kind,
        "metadata": {"name": p["name"], **wanted},
    }
    there = {
        part: {key: (was.get(part) or {}).get(key) for key in marks}
        for part, marks in wanted.items()
        if before
    }
    changed = there != wanted
    if changed:
        cluster.apply(body, MANAGER, dry_run=module.check_mode)
    return {"changed": changed, "expires_at": end, "diff": {"before": there, "after": wanted}}


def sweep(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Remove the namespaces whose time is over."""
    mine = Kind("v1", "Namespace", label_selector="=".join(MANAGED))
    over, kept = sorted_out(cluster.list(mine), datetime.now(UTC))
    names = sorted(n["metadata"]["name"] for n in over)
    diff = {"before": {"namespaces": names}, "after": {"namespaces": []}}
    stay = [f"{name} {why}" for name, why in sorted(kept.items())]
    seen = "; ".join([f"over: {', '.join(names) or 'none'}", *stay])
    result = {"changed": bool(names), "removed": names, "kept": kept, "seen": seen, "diff": diff}
    if module.check_mode or not names:
        return result
    uids = {n["metadata"]["name"]: n["metadata"]["uid"] for n in over}
    for name, uid in uids.items():
        try:
            cluster.delete(NAMESPACE, name, preconditions={"uid": uid})
        except FaultlineError as error:
            # One of the same name that was made since the list is somebody's new one.
            if error.details.get("status") != 409:
                raise

    def gone(now: Snapshot) -> tuple[bool, str]:
        left = [
            f"{name} ({'; '.join(remaining(found)) or 'ask playbooks/diagnose.yml'})"
            for (_space, name), found in now["namespaces"].items()
            if found["metadata"]["uid"] == uids.get(name)
        ]
        return not left, f"still there: {', '.join(left)}" if left else "all are gone"

    wait(cluster, {"namespaces": mine}, gone, module.params["timeout"])
    return result


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Make or sweep."""
    return {"present": make, "swept": sweep}[module.params["state"]](module, cluster)


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {"type": "str", "choices": ["present", "swept"], "default": "present"},
            "name": {"type": "str"},
            "run_id": {"type": "str"},
            "ttl": {"type": "float", "default": 7200},
            "timeout": {"type": "float", "default": 300},
        },
        work,
        required_if=[("state", "present", ("name", "run_id"))],
    )


if __name__ == "__main__":
    main()
