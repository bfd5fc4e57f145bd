#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: keep the record of a drill."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_run
short_description: Keep the record of a drill
version_added: 0.1.0
description:
  - Makes the folder of a run; its C(run.json) keeps what a fresh process needs to undo the run.
  - The record is written before anything is changed; facts given later are added to it.
author: The faultline.gpu maintainers (@faultline-gpu)
options:
  results_dir:
    description: Folder that holds one folder per run and the link C(latest).
    type: path
    required: true
  run_id:
    description:
      - Name of the run, a label value of at most 32 lower-case letters, digits and dashes.
      - Made from the time when it is not given.
    type: str
  facts:
    description: What to add to the record. Keys that are there already are replaced.
    type: dict
    default: {}
attributes:
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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _run


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "results_dir": {"type": "path", "required": True},
            "run_id": {"type": "str"},
            "facts": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    run_id = module.params["run_id"] or _run.new_run_id()
    if not _run.RUN_ID.fullmatch(run_id):
        module.fail_json(
            msg=f"Run id '{run_id}' cannot be a label: use at most 32 lower-case letters, "
            "digits and dashes, beginning and ending with a letter or digit."
        )
    results = Path(module.params["results_dir"]).absolute()
    folder = results / run_id
    try:
        before = _run.load(folder)
        after = {"run_id": run_id, "started_at": _run.stamp()} | before | module.params["facts"]
        if before != after and not module.check_mode:
            _run.save(folder, after)
            _run.point_latest(results, run_id)
    except (OSError, ValueError) as exc:
        module.fail_json(msg=f"Cannot keep the record of the run in {folder}: {exc}.")
    module.exit_json(
        changed=before != after,
        run_id=run_id,
        path=str(folder),
        run=after,
        diff={"before": before, "after": after},
    )


if __name__ == "__main__":
    main()
