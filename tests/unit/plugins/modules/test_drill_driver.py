# SPDX-License-Identifier: Apache-2.0
"""Who drives a run, who may take it over, and what becomes of what a killed driver has left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.action import drill_run
from ansible_collections.faultline.gpu.plugins.module_utils import _driver
from fake_api import Run

Object = dict[str, Any]
WAITS = [sys.executable, "-c", "import sys; sys.stdin.read()"]


class Waiting:
    """A process that is at work until it is told, or killed; with more of an environment."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(WAITS, stdin=subprocess.PIPE, env=os.environ | environment)
        self.driver = _driver.describe(self.process.pid)

    def end(self) -> None:
        """Let it end, if it has not."""
        self.process.communicate()


@pytest.fixture
def other() -> Iterator[Waiting]:
    """Another process that is at work."""
    found = Waiting()
    yield found
    found.end()


@pytest.fixture
def gone() -> _driver.Driver:
    """A driver that was."""
    found = Waiting()
    found.end()
    return found.driver


def begun_by(results: Path, driver: _driver.Driver) -> Object:
    """A run that a process has begun; what takes it over."""
    (results / "run-1").mkdir()
    record = {"run_id": "run-1", "started_at": "then", "driver": driver}
    (results / "run-1/run.json").write_text(json.dumps(record))
    return {"results_dir": str(results), "run_id": "run-1", "state": "taken_over"}


def test_a_run_whose_process_is_at_work_is_not_taken_over(
    tmp_path: Path, run: Run, other: Waiting
) -> None:
    taken = run(drill_run, **begun_by(tmp_path, other.driver))
    assert taken["failed"] is True
    assert taken["msg"].startswith(f"Run run-1 is under way: process {other.process.pid} on ")
    assert json.loads((tmp_path / "run-1/run.json").read_text())["driver"] == other.driver


@pytest.mark.parametrize("elsewhere", [{"host": "far"}, {"pid_namespace": "pid:[1]"}])
def test_a_run_begun_where_its_process_cannot_be_seen_is_only_taken_over_by_force(
    tmp_path: Path, run: Run, gone: _driver.Driver, elsewhere: Object
) -> None:
    given = begun_by(tmp_path, gone | elsewhere)
    assert "cannot be seen from here" in run(drill_run, **given)["msg"]
    assert run(drill_run, **given, force=True)["changed"] is True


@pytest.mark.parametrize("case", ["forced", "over"])
def test_a_run_is_taken_over_from_a_living_process_by_force_or_when_it_is_over(
    tmp_path: Path, run: Run, other: Waiting, case: str
) -> None:
    given = begun_by(tmp_path, other.driver)
    if case == "over":
        (tmp_path / "run-1/report.json").write_text("{}")
    taken = run(drill_run, **given, force=case == "forced")
    assert (taken["changed"], taken["path"]) == (True, str(tmp_path / "run-1"))
    assert taken["run"]["driver"] == _driver.current()
    assert run(drill_run, **given)["changed"] is False


@pytest.mark.parametrize(
    "change", [{}, {"pid": 2**22 + 1}, {"start_ticks": 1}, {"pid": None}, {"start_ticks": None}]
)
def test_a_run_whose_process_is_gone_is_taken_over(
    tmp_path: Path, run: Run, gone: _driver.Driver, change: Object
) -> None:
    assert run(drill_run, **begun_by(tmp_path, gone | change))["changed"] is True


def test_a_record_without_a_driver_can_be_taken_over(tmp_path: Path, run: Run) -> None:
    given = begun_by(tmp_path, {})
    assert run(drill_run, **given)["run"]["driver"] == _driver.current()


def test_what_a_killed_driver_has_left_at_work_is_ended_but_for_what_belongs_to_the_run(
    tmp_path: Path, run: Run, gone: _driver.Driver, other: Waiting
) -> None:
    marked = {_driver.VARIABLE: _driver.mark(gone)}
    module, load = Waiting(**marked), Waiting(**marked)
    given = begun_by(tmp_path, gone)
    known = {"pid": load.process.pid, "start_ticks": load.driver["start_ticks"]}
    (tmp_path / "run-1/traffic.pid").write_text(json.dumps(known))
    run(drill_run, check=True, **given)
    assert module.process.poll() is None
    run(drill_run, **given)
    assert module.process.wait(60) == -signal.SIGKILL
    assert load.process.poll() is other.process.poll() is None
    load.end()


def test_what_works_for_a_living_driver_is_left_alone_when_it_is_ousted(
    tmp_path: Path, run: Run, other: Waiting
) -> None:
    module = Waiting(**{_driver.VARIABLE: _driver.mark(other.driver)})
    run(drill_run, **begun_by(tmp_path, other.driver), force=True)
    assert module.process.poll() is None
    module.end()


def test_the_newest_run_is_taken_over_unless_another_is_named(tmp_path: Path, run: Run) -> None:
    for name in ("run-1", "run-2"):
        run(drill_run, results_dir=str(tmp_path), run_id=name)
    given = {"results_dir": str(tmp_path), "state": "taken_over"}
    assert run(drill_run, **given)["run_id"] == "run-2"
    assert run(drill_run, **given, run_id="run-1")["run_id"] == "run-1"
    assert run(drill_run, **given)["run_id"] == "run-2"


@pytest.mark.parametrize("there", ["nothing", "a copy under another name"])
def test_what_is_no_folder_of_a_run_is_not_taken_over_and_is_named(
    tmp_path: Path, run: Run, there: str
) -> None:
    if there != "nothing":
        run(drill_run, results_dir=str(tmp_path), run_id="run-1")
        shutil.move(tmp_path / "run-1", tmp_path / "copy")
        (tmp_path / "latest").unlink()
        (tmp_path / "latest").symlink_to("copy")
    result = run(drill_run, results_dir=str(tmp_path), state="taken_over")
    assert result["msg"].startswith(f"There is no record of a run in {tmp_path}/latest: ")
    assert not (tmp_path / "run-1").exists()


def test_a_torn_record_is_named_and_left_as_it_is(tmp_path: Path, run: Run) -> None:
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1/run.json").write_text("{")
    result = run(drill_run, results_dir=str(tmp_path), run_id="run-1", state="taken_over")
    assert result["msg"].startswith(f"Cannot keep the record of the run in {tmp_path}/run-1: ")


def test_a_play_that_is_a_step_of_a_longer_run_is_driven_by_what_runs_it(
    tmp_path: Path, run: Run, other: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = begun_by(tmp_path, other.driver)
    monkeypatch.setenv(_driver.VARIABLE, _driver.mark(other.driver))
    assert run(drill_run, **given)["changed"] is False
    monkeypatch.setenv(_driver.VARIABLE, "abc")
    assert "FAULTLINE_DRIVER is 'abc'" in run(drill_run, **given)["msg"]


def test_a_run_of_a_living_process_cannot_be_added_to_by_another(
    tmp_path: Path, run: Run, other: Waiting
) -> None:
    begun_by(tmp_path, other.driver)
    given = {"results_dir": str(tmp_path), "run_id": "run-1", "facts": {"a": 1}}
    assert "is under way" in run(drill_run, **given)["msg"]
    other.end()
    assert run(drill_run, **given)["run"]["driver"] == _driver.current()


def test_a_run_that_is_over_is_not_begun_once_more(
    tmp_path: Path, run: Run, gone: _driver.Driver
) -> None:
    begun_by(tmp_path, gone)
    (tmp_path / "run-1/report.json").write_text("{}")
    said = run(drill_run, results_dir=str(tmp_path), run_id="run-1")["msg"]
    assert said.startswith(f"Run run-1 is over, and its report is in {tmp_path / 'run-1'}: choose")
