# SPDX-License-Identifier: Apache-2.0
"""The record of a run, its verdict and its JUnit file."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _report as report
from ansible_collections.faultline.gpu.plugins.module_utils import _run as run

PLAN = [{"number": 1, "name": "Deploy"}, {"number": 2, "name": "CUDA setup"}]
SAME = {"equal": True, "differences": []}


def phase(number: int, status: str = "passed") -> dict:
    return {
        "number": number,
        "name": f"P{number}",
        "status": status,
        "seconds": 1.0,
        "gate": "g",
        "evidence": f"e{number}",
    }


def test_run_ids_fit_a_label() -> None:
    made = run.new_run_id()
    assert run.RUN_ID.fullmatch(made)
    assert len(made) <= 32


@pytest.mark.parametrize("bad", ["", "Run", "a" * 33, "-a", "a-", "a_b", "a/../b"])
def test_a_run_id_that_is_no_label_is_not_one(bad: str) -> None:
    assert not run.RUN_ID.fullmatch(bad)


def test_latest_points_to_the_newest_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run.save(tmp_path / name, {"run_id": name})
        run.point_latest(tmp_path, name)
    assert run.load(tmp_path / "latest")["run_id"] == "two"


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run.append(tmp_path / "x", {"a": 1})
    with (tmp_path / "x").open("a") as file:
        file.write('{"a": 2, "b": "cut o')
    assert run.read_lines(tmp_path / "x") == [{"a": 1}]


def test_a_phase_that_never_ended_counts_as_failed() -> None:
    begun = {"number": 1, "name": "Deploy", "gate": "g", "status": "started", "at": 10.0}
    ended = begun | {"status": "passed", "evidence": "seen", "at": 12.5}
    assert run.phases([begun])[0]["status"] == "failed"
    assert run.phases([begun, ended])[0] | {"started_at": ""} == {
        "number": 1,
        "name": "Deploy",
        "gate": "g",
        "status": "passed",
        "evidence": "seen",
        "seconds": 2.5,
        "started_at": "",
    }


@pytest.mark.parametrize(
    ("phases", "compared", "word", "why"),
    [
        ([phase(1), phase(2)], SAME, "passed", None),
        ([phase(1)], SAME, "failed", "only 1 of 2"),
        ([phase(1), phase(2, "failed")], SAME, "failed", "e2"),
        ([phase(1, "refused")], SAME, "refused", "e1"),
        ([phase(1), phase(2), phase(3, "failed")], SAME, "invalid", "e3"),
        ([phase(1), phase(2)], {"equal": None, "differences": []}, "failed", "not compared"),
        ([phase(1), phase(2)], {"equal": False, "differences": ["Node/a"]}, "failed", "Node/a"),
    ],
)
def test_the_verdict_follows_from_phases_and_from_what_was_left_behind(
    phases: list, compared: dict, word: str, why: str | None
) -> None:
    verdict, reason = report.verdict(phases, 2, compared)
    assert verdict == word
    assert (reason is None) if why is None else (why in (reason or ""))


def junit_of(phases: list, compared: dict) -> ET.Element:
    word, reason = report.verdict(phases, 2, compared)
    content = {
        "run_id": "r",
        "verdict": word,
        "reason": reason,
        "phases": phases,
        "before_after": compared,
    }
    return ET.fromstring(report.junit(content, PLAN))[0]


def test_junit_has_a_case_per_planned_phase_and_one_for_what_is_left() -> None:
    suite = junit_of([phase(1), phase(2)], SAME)
    assert [c.get("name") for c in suite] == [
        "01 Deploy",
        "02 CUDA setup",
        "cluster is as it was before",
    ]
    assert suite.get("failures") == suite.get("errors") == suite.get("skipped") == "0"


def test_junit_tells_failed_refused_and_never_reached_apart() -> None:
    failed = junit_of([phase(1, "failed")], SAME)
    assert failed.get("failures") == "1"
    assert failed.find("testcase/failure").get("message") == "e1"
    assert failed[1].find("skipped") is not None
    refused = junit_of([phase(1, "refused")], SAME)
    assert refused.find("testcase/error").get("type") == "refused"
    assert refused.get("failures") == "0"


def test_junit_never_shows_green_when_the_verdict_is_not_passed() -> None:
    suite = junit_of([phase(1), phase(2)], {"equal": None, "differences": []})
    assert suite.get("failures") == "1"


def test_the_schema_of_the_report_is_valid_itself() -> None:
    import jsonschema

    schema = json.loads(Path("data/report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
