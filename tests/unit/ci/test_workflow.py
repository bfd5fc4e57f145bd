# SPDX-License-Identifier: Apache-2.0
"""The nightly workflow bounds its time, pins what it runs, keeps its secret and cleans up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]
TREE = Path(__file__).parents[3]
PATH = TREE / ".github/workflows/hw-fault-tests.yml"
TEXT = PATH.read_text()
WORKFLOW: Object = yaml.safe_load(TEXT)
# YAML 1.1 reads the key `on` as true.
TRIGGERS: Object = WORKFLOW[True]  # type: ignore[index]
JOBS: Object = WORKFLOW["jobs"]
GITLAB: Object = list(yaml.safe_load_all((TREE / ".gitlab-ci.example.yml").read_text()))[-1]


def steps(job: str) -> list[Object]:
    found: list[Object] = JOBS[job]["steps"]
    return found


def step(job: str, words: str) -> Object:
    """The one step whose command has these words."""
    (found,) = [s for s in steps(job) if words in s.get("run", "")]
    return found


def test_it_runs_every_night_at_two_and_by_hand_with_a_backend() -> None:
    assert TRIGGERS["schedule"] == [{"cron": "0 2 * * *"}]
    backend = TRIGGERS["workflow_dispatch"]["inputs"]["backend"]
    assert backend["type"] == "choice"
    assert backend["options"] == ["vllm", "sglang", "trtllm"]
    assert backend["default"] == "vllm"


def test_it_may_read_the_repository_and_nothing_else() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert [job for job in JOBS.values() if "permissions" in job] == []


def test_one_run_at_a_time_and_none_is_cut_off() -> None:
    assert WORKFLOW["concurrency"]["group"]
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_an_hour_and_its_drill_less_so_that_time_is_left_to_clean_up(job: str) -> None:
    assert JOBS[job]["timeout-minutes"] == 60
    drill = step(job, "pytest " if job == "hw-fault-tests" else "make drill")
    assert drill["timeout-minutes"] == 45
    bounded = sum(s.get("timeout-minutes", 0) for s in steps(job))
    assert bounded < 60


def test_every_action_is_pinned_by_its_full_hash_with_the_version_beside_it() -> None:
    lines = [line.strip() for line in TEXT.splitlines() if "uses:" in line]
    assert len(lines) >= 5
    for line in lines:
        assert re.fullmatch(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    versions = {line.split("@")[0]: line for line in lines}
    assert set(lines) == set(versions.values()), "one action in two versions"


@pytest.mark.parametrize("job", JOBS)
def test_the_checkout_leaves_no_token_behind(job: str) -> None:
    (found,) = [s for s in steps(job) if s.get("uses", "").startswith("actions/checkout@")]
    assert found["with"]["persist-credentials"] is False


def test_the_kubeconfig_is_the_owners_alone_and_is_removed_in_the_end() -> None:
    write = step("hw-fault-tests", "base64 -d")
    assert write["env"] == {"KUBECONFIG_BASE64": "${{ secrets.KUBECONFIG }}"}
    assert "umask 077" in write["run"]
    assert 'chmod 600 "$RUNNER_TEMP/kubeconfig"' in write["run"]
    last = steps("hw-fault-tests")[-1]
    assert last["run"] == 'rm -f "$RUNNER_TEMP/kubeconfig"'
    assert last["if"] == "always()"
    # In no other step, and in no command, where a log or a process list would show it.
    assert TEXT.count("secrets.") == 1
    assert "secrets." not in "".join(s.get("run", "") for s in steps("hw-fault-tests"))


@pytest.mark.parametrize("job", JOBS)
def test_results_are_uploaded_and_the_cluster_is_put_back_whatever_happened(job: str) -> None:
    rows = steps(job)
    drill = next(i for i, s in enumerate(rows) if s.get("timeout-minutes") == 45)
    assert len(rows) > drill + 2
    assert [s.get("name") for s in rows[drill + 1 :] if s.get("if") != "always()"] == []
    (upload,) = [s for s in rows if s.get("uses", "").startswith("actions/upload-artifact@")]
    assert upload["with"]["path"].startswith("results/")
    undo = step(job, "make cleanup" if job == "hw-fault-tests" else "make lab-down")
    # What the undoing reports belongs to the results, and it needs the kubeconfig.
    assert drill < rows.index(undo) < rows.index(upload)


def test_the_test_is_the_one_of_this_tree_in_a_namespace_of_its_own() -> None:
    assert JOBS["hw-fault-tests"]["env"]["NAMESPACE"] == "ci-hw-fault-${{ github.run_id }}"
    command = step("hw-fault-tests", "pytest ")["run"]
    assert (TREE / "playbooks/provision.yml").exists()
    assert "tests/fault_tolerance/deploy/test_hw_faults.py" in command
    for words in (
        "--enable-hw-faults",
        '--hw-fault-backend="$BACKEND"',
        '--namespace="$NAMESPACE"',
        # The examples name images that no registry has.
        '--image="${!image}"',
        "--skip-service-restart",
        "--junit-xml=results/",
    ):
        assert words in command
    rows = steps("hw-fault-tests")
    provision = step("hw-fault-tests", "playbooks/provision.yml")
    assert rows.index(provision) < rows.index(step("hw-fault-tests", "pytest "))


def test_nothing_that_a_person_types_stands_in_a_command() -> None:
    for job in JOBS:
        for found in steps(job):
            assert "${{" not in found.get("run", ""), found["name"]


def test_playbooks_and_make_targets_that_ci_calls_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    texts = [TEXT, (TREE / ".gitlab-ci.example.yml").read_text(), (TREE / "docs/ci.md").read_text()]
    for text in texts:
        for name in re.findall(r"playbooks/\w+\.yml", text):
            assert (TREE / name).exists(), name
        for name in re.findall(r"make ([a-z][\w-]*)", text):
            assert name in targets, name


def test_the_lab_job_asks_for_no_gpu_and_no_secret() -> None:
    assert JOBS["lab-drill"]["runs-on"].startswith("ubuntu-")
    assert step("lab-drill", "make drill")["run"] == "sudo make drill"
    assert "secrets." not in yaml.safe_dump(JOBS["lab-drill"])


def test_the_example_for_gitlab_does_the_same() -> None:
    job = GITLAB["hw-fault-tests"]
    assert job["timeout"] == "60 minutes"
    assert job["resource_group"]
    assert job["variables"]["NAMESPACE"] == "ci-hw-fault-$CI_PIPELINE_ID"
    assert "timeout --signal=INT 45m pytest" in job["script"][0]
    ours = step("hw-fault-tests", "pytest ")["run"]
    options = set(re.findall(r"--[\w-]+", ours))
    assert options <= set(re.findall(r"--[\w-]+", job["script"][0]))
    assert any("make cleanup" in line for line in job["after_script"])
    assert job["artifacts"]["when"] == "always"
    assert "chmod 600" in job["before_script"][0]
