#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: restart NATS and etcd of the Dynamo platform."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_services
short_description: Restart NATS and etcd of the Dynamo platform
version_added: 0.1.0
description:
  - Finds the StatefulSets of NATS and etcd by the labels of the chart. What is not there is no
    error; newer charts have no etcd.
  - V(restarted) scales each to 0, waits until its pods are gone, scales it back to what it was and
    waits until it is ready. The number of replicas is written on the StatefulSet in the same change
    that takes them away, so that V(restored) can put them back after the process was killed.
  - V(restored) finishes restarts that were interrupted and touches nothing else.
options:
  state:
    description: What to do.
    type: str
    choices: [restarted, restored]
    default: restarted
  namespace:
    description: Namespace of the Dynamo platform.
    type: str
    default: dynamo-system
  release:
    description: Name of its Helm release, the label C(app.kubernetes.io/instance).
    type: str
    default: dynamo-platform
  components:
    description: What to restart, by the label C(app.kubernetes.io/component).
    type: list
    elements: str
    default: [nats, etcd]
  run_namespace:
    description: Namespace whose DynamoGraphDeployments may be hurt.
    type: str
  shared:
    description: Whether DynamoGraphDeployments of other namespaces may be hurt, too.
    type: bool
    default: false
  delete_volumes:
    description: Whether the services come back empty. Their volume claims are deleted, for good.
    type: bool
    default: false
  timeout:
    description: Seconds until all pods must be gone, and again until all must be ready.
    type: float
    default: 300
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Restart NATS and etcd
  faultline.gpu.platform_services:
    run_namespace: drill-run-1

- name: Finish a restart that was interrupted
  faultline.gpu.platform_services:
    state: restored
"""

RETURN = r"""
services:
  description: StatefulSets that are restarted or restored, and the replicas that each has again.
  type: dict
  returned: always
seen:
  description: What was seen last, one sentence.
  type: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._client import GRAPH, Cluster, Kind, Obj
from ..module_utils._errors import FaultlineError
from ..module_utils._module import run
from ..module_utils._services import (
    INSTANCE,
    empty,
    owned,
    remembered,
    scaled,
    services,
    sharing_problem,
    up,
    volumes,
    wanted,
)
from ..module_utils._watch import Snapshot, wait

SET = Kind("apps/v1", "StatefulSet")


class Restart:
    """One restart of some StatefulSets of a namespace."""

    def __init__(self, cluster: Cluster, params: dict[str, Any], found: list[Obj]) -> None:
        self.cluster, self.p, self.found = cluster, params, found
        self.sizes = {s["metadata"]["name"]: wanted(s) for s in found}
        space = params["namespace"]
        self.sets = Kind(
            SET.api_version, SET.kind, space, label_selector=f"{INSTANCE}={params['release']}"
        )
        self.pods = Kind("v1", "Pod", space)
        self.claims = Kind("v1", "PersistentVolumeClaim", space)

    def lost(self) -> list[str]:
        """Volume claims that are deleted."""
        if not self.p["delete_volumes"]:
            return []
        claims = self.cluster.list(self.claims)
        return [name for service in self.found for name in volumes(claims, service)]

    def down(self) -> None:
        """Scale to 0 and wait until the pods are gone."""
        for name, size in self.sizes.items():
            self._scale(name, 0, size)

        def gone(now: Snapshot) -> tuple[bool, str]:
            sets, pods = now["sets"].values(), list(now["pods"].values())
            left = [name for service in self.found for name in owned(pods, service)]
            idle, seen = empty(sets, self.sizes)
            return idle and not left, f"pods still there: {', '.join(left) or 'none'}; {seen}"

        wait(self.cluster, {"sets": self.sets, "pods": self.pods}, gone, self.p["timeout"])

    def forget(self, names: list[str]) -> None:
        """Delete volume claims and wait until they are gone: a new pod would take the old ones."""
        for name in names:
            self.cluster.delete(self.claims, name, self.p["namespace"])

        def gone(now: Snapshot) -> tuple[bool, str]:
            left = [key[1] for key in now["claims"] if key[1] in names]
            return not left, f"volume claims still there: {', '.join(left)}"

        if names:
            wait(self.cluster, {"claims": self.claims}, gone, self.p["timeout"])

    def back(self) -> str:
        """Scale to what it was, wait until all is ready, and only then forget how it was."""
        for name, size in self.sizes.items():
            self._scale(name, size, size)

        def ready(now: Snapshot) -> tuple[bool, str]:
            return up(now["sets"].values(), self.sizes)

        now, _seconds = wait(self.cluster, {"sets": self.sets}, ready, self.p["timeout"])
        for name, size in self.sizes.items():
            self._scale(name, size, None)
        return ready(now)[1]

    def _scale(self, name: str, replicas: int, kept: int | None) -> None:
        self.cluster.patch(SET, name, scaled(replicas, kept), self.p["namespace"])


def nothing(p: dict[str, Any], every: list[Obj]) -> str:
    """Why there is nothing to do."""
    if every and p["state"] == "restored":
        return "no restart was interrupted"
    if every:
        names = ", ".join(s["metadata"]["name"] for s in every)
        return f"{names}: scaled to 0 by somebody else, so there is nothing to restart"
    what = " and ".join(p["components"])
    return (
        f"neither of {what} runs as a StatefulSet of the release {p['release']} in "
        f"{p['namespace']}, so there is nothing to restart"
    )


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Restart or restore."""
    p = module.params
    label = f"{INSTANCE}={p['release']}"
    listed = cluster.list(Kind(SET.api_version, SET.kind, p["namespace"], label_selector=label))
    every = services(listed, p["components"])
    restored = p["state"] == "restored"
    found = [s for s in every if (remembered(s) if restored else wanted(s))]
    if not found:
        return {"services": {}, "seen": nothing(p, every), "diff": {"before": {}, "after": {}}}
    if not restored and not p["shared"] and cluster.has(GRAPH):
        for problem in sharing_problem(cluster.list(GRAPH), p["run_namespace"]):
            raise FaultlineError(problem)
    restart = Restart(cluster, p, found)
    lost = [] if restored else restart.lost()
    diff = {
        "before": {
            s["metadata"]["name"]: {"replicas": s["spec"].get("replicas", 1), "restarted": False}
            for s in found
        }
        | ({"volumes": lost} if lost else {}),
        "after": {
            name: {"replicas": size, "restarted": not restored}
            for name, size in restart.sizes.items()
        },
    }
    result = {"changed": True, "services": restart.sizes, "diff": diff}
    if module.check_mode:
        return result | {"seen": "nothing was done in check mode"}
    if not restored:
        restart.down()
        restart.forget(lost)
    return result | {"seen": restart.back()}


def main() -> None:
    """Run the module."""
    run(
        {
            "state": {
                "type": "str",
                "choices": ["restarted", "restored"],
                "default": "restarted",
            },
            "namespace": {"type": "str", "default": "dynamo-system"},
            "release": {"type": "str", "default": "dynamo-platform"},
            "components": {"type": "list", "elements": "str", "default": ["nats", "etcd"]},
            "run_namespace": {"type": "str"},
            "shared": {"type": "bool", "default": False},
            "delete_volumes": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 300},
        },
        work,
    )


if __name__ == "__main__":
    main()
