# SPDX-License-Identifier: Apache-2.0
"""The actions that keep a drill's record: drill_run, drill_phase, drill_report."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.faultline.gpu.plugins.action import drill_phase, drill_report, drill_run
from ansible_collections.faultline.gpu.plugins.module_utils import _driver
from fake_api import Run

Object = dict[str, Any]
TREE = Path(__file__).parents[4]
PLAN = [{"number": number, "name": f"P{number}"} for number in range(1, 4)]
SAME = {"equal": True, "differences": []}


def test_a_run_is_made_with_its_facts_and_latest_points_to_it(tmp_path: Path, run: Run) -> None:
    result = run(drill_run, results_dir=str(tmp_path), run_id="run-1", facts={"graph": "agg"})
    assert (result["changed"], result["run_id"]) == (True, "run-1")
    assert result["path"] == str(tmp_path / "run-1")
    kept = json.loads((tmp_path / "latest/run.json").read_text())
    assert kept == result["run"] == result["diff"]["after"]
    assert kept["graph"] == "agg"
    assert result["diff"]["before"] == {}


def test_the_same_facts_again_change_nothing_and_new_ones_are_added(
    tmp_path: Path, run: Run
) -> None:
    given = {"results_dir": str(tmp_path), "run_id": "run-1"}
    begun = run(drill_run, **given, facts={"graph": "agg"})["run"]["started_at"]
    assert run(drill_run, **given, facts={"graph": "agg"})["changed"] is False
    assert run(drill_run, **given)["changed"] is False
    more = run(drill_run, **given, facts={"target_node": "n"})
    assert more["changed"] is True
    assert more["run"] == {
        "run_id": "run-1",
        "started_at": begun,
        "driver": _driver.current(),
        "graph": "agg",
        "target_node": "n",
    }


def test_check_mode_writes_no_record(tmp_path: Path, run: Run) -> None:
    result = run(drill_run, check=True, results_dir=str(tmp_path / "results"), facts={"a": 1})
    assert (result["changed"], result["run"]["a"]) == (True, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("run_id", ["Run_1", "run-", "a/../b", "x" * 33])
def test_a_run_id_that_cannot_be_a_label_is_refused_before_anything_is_touched(
    tmp_path: Path, run: Run, run_id: str
) -> None:
    result = run(drill_run, results_dir=str(tmp_path), run_id=run_id)
    assert result["failed"] is True
    assert result["msg"].startswith(f"Run id '{run_id}' cannot be a label: use at most 32")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").touch()
    result = run(drill_run, results_dir=str(tmp_path / "file"), run_id="run-1")
    assert result["failed"] is True
    assert result["msg"].startswith("Cannot keep the record of the run in ")


def test_a_damaged_record_is_named_and_left_as_it_is(tmp_path: Path, run: Run) -> None:
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1/run.json").write_text("{")
    result = run(drill_run, results_dir=str(tmp_path), run_id="run-1", facts={"a": 1})
    assert result["msg"].startswith("Cannot keep the record of the run in ")
    assert (tmp_path / "run-1/run.json").read_text() == "{"


@pytest.fixture
def folder(tmp_path: Path, run: Run) -> Path:
    facts = {"graph": "agg", "namespace": "drill", "replicas": 2, "target_node": "n", "xid": 79}
    run(drill_run, results_dir=str(tmp_path), run_id="run-1", facts=facts)
    return tmp_path / "run-1"


def note(run: Run, folder: Path, number: int, status: str, **more: Any) -> Object:
    given = {"path": str(folder), "number": number, "name": f"P{number}", "gate": "g"}
    return run(drill_phase, **given, status=status, **more)


def test_a_note_is_appended_and_returned(folder: Path, run: Run) -> None:
    begun = note(run, folder, 1, "started")
    ended = note(run, folder, 1, "passed", evidence="seen")
    rows = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert rows == [begun["phase"], ended["phase"]]
    assert begun["changed"] is True
    assert [(r["status"], r["evidence"]) for r in rows] == [("started", None), ("passed", "seen")]
    assert rows[0]["at"] <= rows[1]["at"]
    assert "path" not in rows[0]


@pytest.mark.parametrize("status", ["passed", "failed", "refused"])
def test_a_phase_cannot_end_without_evidence(folder: Path, run: Run, status: str) -> None:
    result = note(run, folder, 1, status)
    assert result["failed"] is True
    assert f"status is {status} but all of the following are missing: evidence" in result["msg"]
    assert not (folder / "progress.jsonl").exists()


def test_check_mode_notes_nothing(folder: Path, run: Run) -> None:
    given = {"path": str(folder), "number": 1, "name": "P1", "gate": "g", "status": "started"}
    result = run(drill_phase, check=True, **given)
    assert result["phase"]["name"] == "P1"
    assert not (folder / "progress.jsonl").exists()


def test_a_note_without_a_run_says_so(tmp_path: Path, run: Run) -> None:
    result = note(run, tmp_path / "gone", 1, "started")
    assert result["failed"] is True
    assert result["msg"].startswith("Cannot note the progress of the run: ")


def passed(run: Run, folder: Path, *numbers: int) -> None:
    for number in numbers:
        note(run, folder, number, "started")
        note(run, folder, number, "passed", evidence=f"e{number}")


def lines(path: Path, *rows: Object) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def report(run: Run, folder: Path, check: bool = False, **more: Any) -> Object:
    return run(drill_report, check=check, path=str(folder), phases=PLAN, **more)


def schema() -> jsonschema.Draft202012Validator:
    content = json.loads((TREE / "data/report.schema.json").read_text())
    return jsonschema.Draft202012Validator(content)


def test_a_whole_drill_is_reported_as_the_schema_wants_it(folder: Path, run: Run) -> None:
    passed(run, folder, 1, 2, 3)
    baseline = json.loads((folder / "progress.jsonl").read_text().splitlines()[-2])["at"]
    request = {"id": 1, "ended_at": baseline, "seconds": 0.1, "good": True, "error": None}
    lines(folder / "requests.jsonl", request)
    written = {
        "node": "n",
        "line": "NVRM: Xid (PCI:0000:1b:00): 79 run=run-1",
        "written_at": "2026-11-24T08:00:00Z",
    }
    fault = {"at": 1.0, "kind": "GPUFault", "namespace": "", "name": "f", "op": "ADDED"}
    lines(folder / "timeline.jsonl", fault | {"view": written})
    result = report(run, folder, before_after=SAME, versions={"kubernetes": "v1.34.4"})
    found = json.loads((folder / "report.json").read_text())
    assert found == result["report"]
    assert list(schema().iter_errors(found)) == []
    assert (found["verdict"], found["reason"]) == ("passed", None)
    assert [p["evidence"] for p in found["phases"]] == ["e1", "e2", "e3"]
    assert found["subject"]["target_node"] == "n"
    assert found["measures"]["injected_at"] == 1795507200.0
    assert found["measures"]["detect_seconds"] is None
    assert found["measures"]["latency_ms"]["baseline"]["p50"] == 100.0
    assert result["path"] == str(folder)
    assert ET.parse(folder / "junit.xml").getroot()[0].get("failures") == "0"


@pytest.mark.parametrize(
    ("compared", "verdict", "reason"),
    [
        ({"equal": False, "differences": ["Node/n is gone"]}, "failed", "Node/n is gone"),
        ({"equal": None, "differences": []}, "failed", "was not compared"),
        (None, "failed", "was not compared"),
        (SAME | {"not_undone": ["NATS could not be undone: no"]}, "failed", "NATS could not be"),
    ],
)
def test_a_drill_that_left_something_or_was_not_compared_has_not_passed(
    folder: Path, run: Run, compared: Object | None, verdict: str, reason: str
) -> None:
    passed(run, folder, 1, 2, 3)
    found = report(run, folder, before_after=compared)["report"]
    assert found["verdict"] == verdict
    assert reason in found["reason"]
    assert list(schema().iter_errors(found)) == []
    assert ET.parse(folder / "junit.xml").getroot()[0].get("failures") == "1"


@pytest.mark.parametrize(
    ("number", "status", "verdict"),
    [(1, "refused", "refused"), (2, "failed", "failed"), (3, "failed", "invalid")],
)
def test_a_drill_that_ended_early_is_reported_as_the_schema_wants_it(
    folder: Path, run: Run, number: int, status: str, verdict: str
) -> None:
    passed(run, folder, *range(1, number))
    note(run, folder, number, "started")
    note(run, folder, number, status, evidence="why")
    found = report(run, folder, before_after=SAME)["report"]
    assert (found["verdict"], found["reason"]) == (verdict, f"phase {number} P{number}: why")
    assert list(schema().iter_errors(found)) == []


def test_a_drill_of_which_only_the_record_is_left_is_reported_too(folder: Path, run: Run) -> None:
    found = report(run, folder)["report"]
    assert found["verdict"] == "failed"
    assert list(schema().iter_errors(found)) == []
    assert found["measures"]["requests_total"] == 0


def test_the_schema_refuses_a_report_that_says_less() -> None:
    found = {"run_id": "run-1", "verdict": "fine", "phases": [{"number": 1}]}
    said = " ".join(error.message for error in schema().iter_errors(found))
    for word in ("measures", "before_after", "versions", "'fine'", "'gate'"):
        assert word in said


def test_check_mode_returns_the_report_and_writes_none(folder: Path, run: Run) -> None:
    passed(run, folder, 1, 2, 3)
    result = report(run, folder, check=True, before_after=SAME)
    assert result["report"]["verdict"] == "passed"
    assert not (folder / "report.json").exists()
    assert not (folder / "junit.xml").exists()


def test_without_a_run_there_is_nothing_to_report(tmp_path: Path, run: Run) -> None:
    result = report(run, tmp_path)
    assert result["failed"] is True
    assert "There is no record of a run in" in result["msg"]
