#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of this name: keep the record of a drill."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_run
short_description: Keep the record of a drill
version_added: 0.1.0
description:
  - Makes the folder of a run; its C(run.json) keeps what a fresh process needs to undo the run.
  - The record is written before anything is changed; facts given later are added to it.
  - It names the process that drives the run, so that nobody undoes a run that is still under way.
author: The faultline.gpu maintainers (@faultline-gpu)
options:
  results_dir:
    description: Folder that holds one folder per run and the link C(latest).
    type: path
    required: true
  run_id:
    description:
      - Name of the run, a label value of at most 32 lower-case letters, digits and dashes.
      - Made from the time when it is not given; the newest one with O(state=taken_over).
    type: str
  facts:
    description: What to add to the record. Keys that are there already are replaced.
    type: dict
    default: {}
  state:
    description:
      - V(present) begins the record, or adds to it.
      - V(taken_over) lets this play drive a run that another process began, to undo it. It is
        refused while there is no report of the run yet and that process is at work, or is of
        another host or container. What it has left at work is ended, once it is gone itself.
    type: str
    choices: [present, taken_over]
    default: present
  force:
    description: Whether O(state=taken_over) takes a run over from a process that is at work.
    type: bool
    default: false
attributes:
  action:
    description: Runs inside Ansible, on the controller; there is no process on the host.
    support: full
  check_mode:
    description: Says what would be written, and writes nothing.
    support: full
  diff_mode:
    description: Shows the record before and after.
    support: full
  action_group:
    description: Part of the action group of this collection.
    support: full
    membership: faultline.gpu.gpu
"""

EXAMPLES = r"""
- name: Begin a run
  faultline.gpu.drill_run:
    results_dir: results
    facts:
      namespace: drill-1
  register: drill_run

- name: Take over what an interrupted process has left
  faultline.gpu.drill_run:
    results_dir: results
    state: taken_over
"""

RETURN = r"""
run_id:
  description: Name of the run.
  type: str
  returned: always
  sample: run-20261124-131502-3f2a
path:
  description: Folder of the run.
  type: str
  returned: always
run:
  description: The whole record.
  type: dict
  returned: always
"""
