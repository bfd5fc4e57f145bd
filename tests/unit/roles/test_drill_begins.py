# SPDX-License-Identifier: Apache-2.0
"""What a drill must be told before it begins, and what it takes as its deployment."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.utils.roles import TREE, FaultlineError, Roles

EXAMPLE = "tests/data/deployments/vllm/disagg.yaml"
GRAPH = yaml.safe_load((TREE / EXAMPLE).read_text())


def seen_as(**given: Any) -> tuple[int, str]:
    """GPUs and name of the deployment, as the first phase hands them to the preflight."""
    first, *_ = yaml.safe_load((TREE / "playbooks/phases/01_deploy.yml").read_text())
    names = ("platform_gpus", "platform_definition", "__drill_src", "__drill_need")
    facts = {
        "deployed_gpus": "{{ platform_gpus | int }}",
        "deployed_name": "{{ platform_definition.metadata.name }}",
    }
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {name: first["vars"][name] for name in names},
        "tasks": [{"ansible.builtin.set_fact": facts}],
    }
    found = asyncio.run(Roles()._run(False, playbook=[play], extravars=given))
    return int(found["deployed_gpus"]), found["deployed_name"]


@pytest.mark.parametrize("given", [{}, {"dgd_name": "agg"}, {"dgd_definition": GRAPH}])
def test_a_drill_without_a_deployment_says_what_to_give_and_leaves_nothing(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    with pytest.raises(FaultlineError, match=r"^A drill needs the variables dgd_name and dgd_def"):
        asyncio.run(Roles().playbook("drill", drill_results_dir=str(tmp_path), **given))
    assert list(tmp_path.iterdir()) == []


def test_a_deployment_may_be_a_file_which_comes_before_the_inventorys_definition() -> None:
    assert seen_as(dgd_definition=GRAPH) == (3, "vllm-disagg")
    assert seen_as(dgd_src=str(TREE / EXAMPLE)) == (3, "vllm-disagg")
    assert seen_as(dgd_src=str(TREE / EXAMPLE), dgd_definition={"kind": "Pod"}) == (
        3,
        "vllm-disagg",
    )


def test_numbers_from_a_command_line_are_numbers() -> None:
    assert seen_as(dgd_definition=GRAPH, dgd_tensor_parallel="2") == (6, "vllm-disagg")


def test_an_xid_from_a_command_line_is_recorded_as_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    given = {"dgd_name": "vllm-disagg", "dgd_definition": GRAPH, "xid_inject_xid": "48"}
    with pytest.raises(FaultlineError, match="kubeconfig"):
        asyncio.run(Roles().playbook("drill", drill_results_dir=str(tmp_path / "runs"), **given))
    record = json.loads((tmp_path / "runs/latest/run.json").read_text())
    assert record["xid"] == 48


def test_a_diagnosis_must_know_of_which_drill() -> None:
    with pytest.raises(FaultlineError, match=r"^Say which drill is meant by its namespace"):
        asyncio.run(Roles().playbook("diagnose"))


def test_an_inventory_says_where_results_go_and_what_namespaces_are_called(
    tmp_path: Path,
) -> None:
    told = {"drill_results_dir": f"{tmp_path}/runs", "drill_namespace_prefix": "nightly"}
    inventory = tmp_path / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "group_vars/all.yml").write_text(yaml.safe_dump(told))
    local = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    hosts = {"all": {"hosts": {"localhost": local}}}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    seen = ["__drill_results_dir", "__drill_namespace_prefix", "__drill_failure_error"]
    facts = {name.removeprefix("__"): f"{{{{ {name} }}}}" for name in seen}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(TREE / "playbooks/vars/defaults.yml")],
        "tasks": [{"ansible.builtin.copy": {"dest": f"{tmp_path}/seen", "content": facts}}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    command = [program, "-i", str(inventory), str(tmp_path / "play.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TREE)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "seen").read_text())
    assert found.pop("drill_failure_error").startswith("HTTP 500|")
    assert found == told
