#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a task costs: an action inside Ansible, a module that does nothing, one with a cluster.

Run it with the environment of this tree: `.venv/bin/python tests/benchmarks/action_cost.py`.
Prints seconds per task and the ratios to the action, all of one run of ansible-playbook.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TASKS = 10
TREE = Path(__file__).resolve().parents[2]
KINDS = {
    "action (drill_phase)": {
        "faultline.gpu.drill_phase": {
            "path": "{{ playbook_dir }}",
            "number": 1,
            "name": "Deploy",
            "gate": "none",
            "status": "started",
        }
    },
    "module (command)": {"ansible.builtin.command": {"argv": ["true"]}},
    "module with a cluster (k8s_watch)": {
        "faultline.gpu.k8s_watch": {
            "resources": [{"api_version": "v1", "kind": "Node"}],
            "until": [],
        }
    },
}


def main() -> None:
    """Measure the kinds of tasks one after the other."""
    kinds = {n: t for n, t in KINDS.items() if "cluster" not in n or os.environ.get("KUBECONFIG")}
    tasks = [{"name": name} | task for name, task in kinds.items() for _ in range(TASKS)]
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "tasks.yml"
        book.write_text(json.dumps(play))
        environment = os.environ | {
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
            "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all",
        }
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            str(book),
        ]
        said = subprocess.run(
            command, cwd=TREE, env=environment, capture_output=True, text=True, check=True
        ).stdout
    base = 0.0
    for name in kinds:
        found = [float(s) for s in re.findall(rf"^{re.escape(name)} -+ ([0-9.]+)s$", said, re.M)]
        mean = sum(found) / len(found)
        base = base or mean
        print(f"{name:<36}{mean:8.3f} s {mean / base:8.1f}")


if __name__ == "__main__":
    main()
