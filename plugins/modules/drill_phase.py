#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of this name: note how far a drill has come."""

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
  action:
    description: Runs inside Ansible, on the controller; there is no process on the host.
    support: full
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
