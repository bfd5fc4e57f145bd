#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: write the report of a drill."""

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
    description: Result of M(faultline.gpu.cluster_snapshot), or C(equal) null if not compared.
    type: dict
    default: {equal: null, differences: []}
  versions:
    description: Versions of what took part.
    type: dict
    default: {}
attributes:
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

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _run, _traffic
from ..module_utils._measures import Subject, measures
from ..module_utils._report import junit, verdict


def windows(phases: list[dict[str, Any]], progress: list[dict[str, Any]]) -> dict[str, Any]:
    """Stretches of time whose latency is reported apart: phases 3 (baseline) and 10 (recovered)."""
    spans: dict[str, Any] = {}
    names = {3: "baseline", 10: "recovered"}
    for number, name in names.items():
        times = [p["at"] for p in progress if p["number"] == number]
        if len(times) > 1:
            spans[name] = (times[0], times[-1])
    return spans


def build(module: AnsibleModule, folder: Path) -> dict[str, Any]:
    """The report of the run in `folder`."""
    record, progress = _run.load(folder), _run.read_lines(folder / _run.PROGRESS)
    phases = _run.phases(progress)
    compared = {
        "equal": module.params["before_after"].get("equal"),
        "differences": module.params["before_after"].get("differences") or [],
    }
    word, reason = verdict(phases, len(module.params["phases"]), compared)
    subject = Subject(
        run_id=record["run_id"],
        namespace=record.get("namespace", ""),
        graph=record.get("graph", ""),
        target_node=record.get("target_node", ""),
        replicas=int(record.get("replicas", 0)),
    )
    return {
        "run_id": record["run_id"],
        "verdict": word,
        "reason": reason,
        "started_at": record["started_at"],
        "ended_at": _run.stamp(),
        "subject": {
            k: record.get(k) for k in ("namespace", "graph", "target_node", "replicas", "xid")
        },
        "phases": phases,
        "measures": measures(
            _run.read_lines(folder / _run.TIMELINE),
            _traffic.read(folder),
            subject,
            windows(phases, progress),
        ),
        "before_after": compared,
        "versions": module.params["versions"],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "phases": {"type": "list", "elements": "dict", "required": True},
            "before_after": {"type": "dict", "default": {"equal": None, "differences": []}},
            "versions": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["path"])
    if not _run.load(folder):
        module.fail_json(msg=f"There is no record of a run in {folder}: begin one with drill_run.")
    report = build(module, folder)
    if not module.check_mode:
        try:
            _run.write_json(folder / "report.json", report)
            (folder / "junit.xml").write_text(junit(report, module.params["phases"]))
        except OSError as exc:
            module.fail_json(msg=f"Cannot write the report: {exc}.")
    module.exit_json(changed=not module.check_mode, report=report, path=str(folder))


if __name__ == "__main__":
    main()
