# SPDX-License-Identifier: Apache-2.0
"""The way back goes on after a step that fails, and keeps in mind what no comparison would show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils import _driver

from tests.utils.roles import TREE

NATS = {
    "what": "the restart of NATS and etcd",
    "role": "platform",
    "tasks": "restore_services",
    "needs": "services_restarted",
}
DRIVER = {"pid": 4711, "start_ticks": 815}
RUN = {"run_id": "run-1", "namespace": "n", "graph": "g", "target_node": "a"}


def way_back(folder: Path, *steps: dict[str, object]) -> str:
    """Undo steps against a cluster that is not there; what was said, with what is kept in mind."""
    undo = {
        "ansible.builtin.include_tasks": str(TREE / "playbooks/tasks/undo.yml"),
        "loop": list(steps),
        "loop_control": {"loop_var": "step"},
    }
    kept = "kept: {{ drill_not_undone | default([]) | join('; ') }}."
    told = {"ansible.builtin.debug": {"msg": kept}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [undo, told]}
    play["vars"] = {"drill_run": RUN | {"services_restarted": True}, "drill_path": str(folder)}
    return played(folder, play)


def played(folder: Path, play: dict[str, Any]) -> str:
    """What ansible-playbook says to a play, far from every cluster."""
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), str(folder / "play.yml")],
        cwd=TREE,
        env=os.environ | {"KUBECONFIG": str(folder / "none"), "ANSIBLE_STDOUT_CALLBACK": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nats_that_could_not_be_put_back_counts_by_itself(tmp_path: Path) -> None:
    said = way_back(tmp_path, NATS | {"unseen": True})
    assert "kept: the restart of NATS and etcd could not be undone: " in said


def test_what_the_comparison_shows_is_told_and_does_not_count_twice(tmp_path: Path) -> None:
    said = way_back(tmp_path, NATS, NATS)
    assert said.count("could not undo the restart of NATS and etcd: ") == 2
    assert "kept: ." in said


def test_the_report_is_given_what_counts_by_itself() -> None:
    tasks = yaml.safe_load((TREE / "playbooks/tasks/finish.yml").read_text())
    report = next(t for t in tasks if t["name"] == "Report")["faultline.gpu.drill_report"]
    assert report["before_after"]["not_undone"] == "{{ drill_not_undone | default([]) }}"
    steps = next(t for t in tasks if t["name"] == "Undo, step by step")["loop"]
    assert [s["what"] for s in steps if s.get("unseen")] == [NATS["what"]]


def test_what_works_for_a_run_bears_its_drivers_mark_from_its_beginning_on(tmp_path: Path) -> None:
    shown = [
        {"ansible.builtin.command": "printenv FAULTLINE_DRIVER", "register": "seen"},
        {"ansible.builtin.debug": {"msg": "marked '{{ seen.stdout }}'"}},
    ]
    begun = {"ansible.builtin.set_fact": {"drill_run": {"driver": DRIVER}}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [*shown, begun, *shown]}
    play["vars_files"] = [str(TREE / "playbooks/vars/defaults.yml")]
    play["environment"] = "{{ drill_environment }}"
    said = played(tmp_path, play)
    assert "marked ''" in said
    assert f"marked '{_driver.mark(DRIVER)}'" in said


@pytest.mark.parametrize("name", ["drill", "cleanup"])
def test_every_play_of_a_run_gives_that_mark_to_what_works_for_it(name: str) -> None:
    plays = yaml.safe_load((TREE / f"playbooks/{name}.yml").read_text())
    own = [play for play in plays if "hosts" in play]
    assert {play["environment"] for play in own} == {"{{ drill_environment }}"}
    assert all("vars/defaults.yml" in play["vars_files"] for play in own)
