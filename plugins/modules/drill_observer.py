#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: keep a timeline of what happens in a cluster while a drill runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_observer
short_description: Keep a timeline of what happens in a cluster while a drill runs
version_added: 0.1.0
description:
  - Runs detached and follows nodes, DynamoGraphDeployments, GPUFaults, maintenance requests, and
    pods and Events of the drill's namespace. Each change that matters becomes a line of
    C(timeline.jsonl) with the moment at which it came in. Ends by itself after O(duration).
options:
  path:
    description: Folder of the run, as M(faultline.gpu.drill_run) returns it.
    type: path
    required: true
  state:
    description: Whether the observer runs.
    type: str
    choices: [started, stopped]
    default: started
  namespace:
    description: Namespace of the drill. Required for V(started).
    type: str
  duration:
    description: Seconds after which the observer ends by itself.
    type: int
    default: 3600
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Observe
  faultline.gpu.drill_observer:
    path: "{{ drill_run.path }}"
    namespace: drill-1
"""

RETURN = r"""
{}
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _background, _run
from ..module_utils._client import FAULT, GRAPH, MAINTENANCE, NODE, Cluster, Kind, Obj
from ..module_utils._errors import WaitTimeout
from ..module_utils._module import CLUSTER_ARGS
from ..module_utils._views import VIEWS
from ..module_utils._watch import followable, wait

PID_FILE = "observer.pid"


def kinds(cluster: Cluster, namespace: str) -> dict[str, Kind]:
    """What to follow, as far as the cluster knows it."""
    wanted = [
        NODE,
        FAULT,
        *MAINTENANCE,
        Kind(GRAPH.api_version, GRAPH.kind, namespace),
        Kind("v1", "Pod", namespace),
        Kind("v1", "Event", namespace),
        Kind("v1", "Event", "default"),
    ]
    return followable(cluster, {str(kind): kind for kind in wanted})


def observe(params: dict[str, Any], folder: Path) -> None:
    """Follow and write until the time is up.

    Connects by itself: the starting process takes its copies of keys along when it ends.
    """
    cluster = Cluster(params["kubeconfig"], params["context"])
    last: dict[tuple[str, str, str], str] = {}

    def record(received: float, op: str, obj: Obj) -> None:
        kind, meta = obj["kind"], obj["metadata"]
        view = VIEWS[kind](obj)
        key, content = (kind, meta.get("namespace") or "", meta["name"]), json.dumps(view)
        if op != "DELETED" and last.get(key) == content:
            return
        last[key] = content
        entry = {"at": received, "kind": kind, "namespace": key[1], "name": key[2], "op": op}
        _run.append(folder / _run.TIMELINE, entry | {"view": view})

    with contextlib.suppress(WaitTimeout):
        wait(
            cluster,
            kinds(cluster, params["namespace"]),
            lambda _now: (False, ""),
            params["duration"],
            record,
        )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=CLUSTER_ARGS
        | {
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "namespace": {"type": "str"},
            "duration": {"type": "int", "default": 3600},
        },
        required_if=[("state", "started", ("namespace",))],
        supports_check_mode=True,
    )
    p, folder = module.params, Path(module.params["path"])
    if not folder.is_dir():
        module.fail_json(msg=f"There is no folder {folder}: begin the run with drill_run.")
    pid_file = folder / PID_FILE
    running = _background.running(pid_file) is not None
    changed = running == (p["state"] == "stopped")
    if module.check_mode or not changed:
        module.exit_json(changed=changed)
    if p["state"] == "stopped":
        module.exit_json(changed=_background.stop(pid_file))
    # Nothing of the cluster is read here: the client's copies of keys belong to one process.
    log = folder / "observer.log"
    if not _background.start(pid_file, log, lambda: observe(p, folder)):
        module.fail_json(msg=f"The observer did not start; see {log}.")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
