#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of this name: write the report of a drill."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_report
short_description: Write the report of a drill
version_added: 0.1.0
description:
  - Reads what was recorded while a drill ran and writes C(report.json) and C(junit.xml) beside it.
  - The verdict follows from the phases and from the comparison with the state before the drill.
author: The faultline.gpu maintainers (@faultline-gpu)
options:
  path:
    description: Folder of the run, as M(faultline.gpu.drill_run) returns it.
    type: path
    required: true
  phases:
    description: All phases that were planned, in order, with C(number) and C(name).
    type: list
    elements: dict
    required: true
  before_after:
    description:
      - Result of M(faultline.gpu.cluster_snapshot), or C(equal) null if not compared.
      - With C(not_undone), sentences about what failed on the way back and no snapshot shows.
    type: dict
    default: {equal: null, differences: []}
  versions:
    description: Versions of what took part.
    type: dict
    default: {}
attributes:
  action:
    description: Runs inside Ansible, on the controller; there is no process on the host.
    support: full
  check_mode:
    description: Returns the report and writes nothing.
    support: full
  diff_mode:
    description: A report has no earlier state.
    support: none
  action_group:
    description: Part of the action group of this collection.
    support: full
    membership: faultline.gpu.gpu
"""

EXAMPLES = r"""
- name: Write the report
  faultline.gpu.drill_report:
    path: "{{ drill_run.path }}"
    phases:
      - {number: 1, name: Deploy}
    before_after: "{{ drill_after }}"
"""

RETURN = r"""
report:
  description: Content of C(report.json).
  type: dict
  returned: always
"""
