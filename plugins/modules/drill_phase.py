#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: note how far a drill has come."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_phase
short_description: Note how far a drill has come
version_added: 0.1.0
description:
  - Appends to C(progress.jsonl) of a run that a phase has begun or ended, and with what evidence.
  - The callback plugin P(faultline.gpu.drill#callback) shows these notes as they are made.
author: The faultline.gpu maintainers (@faultline-gpu)
options:
  path:
    description: Folder of the run, as M(faultline.gpu.drill_run) returns it.
    type: path
    required: true
  number:
    description: Number of the phase, from 1.
    type: int
    required: true
  name:
    description: Name of the phase.
    type: str
    required: true
  gate:
    description: What must be observed for the phase to pass.
    type: str
    required: true
  status:
    description: V(refused) says that a precondition is not met and nothing was injected.
    type: str
    choices: [started, passed, failed, refused]
    required: true
  evidence:
    description: What was observed. Required unless the phase has only begun.
    type: str
attributes:
  check_mode:
    description: Notes nothing.
    support: full
  diff_mode:
    description: A note has no earlier state.
    support: none
  action_group:
    description: Part of the action group of this collection.
    support: full
    membership: faultline.gpu.gpu
"""

EXAMPLES = r"""
- name: Say that the drill has begun
  faultline.gpu.drill_phase:
    path: "{{ drill_run.path }}"
    number: 1
    name: Deploy
    gate: DGD Ready at its generation
    status: started
"""

RETURN = r"""
phase:
  description: The note, with C(at) in seconds since the epoch.
  type: dict
  returned: always
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _run


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "number": {"type": "int", "required": True},
            "name": {"type": "str", "required": True},
            "gate": {"type": "str", "required": True},
            "status": {
                "type": "str",
                "choices": ["started", "passed", "failed", "refused"],
                "required": True,
            },
            "evidence": {"type": "str"},
        },
        required_if=[(("status"), s, ("evidence",)) for s in ("passed", "failed", "refused")],
        supports_check_mode=True,
    )
    note = {"at": time.time()} | {k: v for k, v in module.params.items() if k != "path"}
    if not module.check_mode:
        try:
            _run.append(Path(module.params["path"]) / _run.PROGRESS, note)
        except OSError as exc:
            module.fail_json(msg=f"Cannot note the progress of the run: {exc}.")
    module.exit_json(changed=not module.check_mode, phase=note)


if __name__ == "__main__":
    main()
