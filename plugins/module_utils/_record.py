# SPDX-License-Identifier: Apache-2.0
"""What is written into the folder of a run: the record, the notes of progress, the report.

Each function returns the result of the module of the same purpose; `check` writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import _background, _driver, _run, _traffic
from ._errors import FaultlineError
from ._measures import Subject, measures
from ._report import junit, verdict

# Phases whose latency is reported apart.
WINDOWS = {3: "baseline", 10: "recovered"}


def keep(
    results_dir: str,
    run_id: str | None,
    facts: Mapping[str, Any],
    check: bool,
    driver: _driver.Driver | None = None,
) -> dict[str, Any]:
    """Add facts to the record of a run, which is begun if need be; `driver` is this process's.

    Raises FaultlineError for a run id that is no label, when the record cannot be kept, when
    another process is at work on a run of this id, and when a run of this id is over already.
    """
    run_id = run_id or _run.new_run_id()
    if not _run.RUN_ID.fullmatch(run_id):
        raise FaultlineError(
            f"Run id '{run_id}' cannot be a label: use at most 32 lower-case letters, "
            "digits and dashes, beginning and ending with a letter or digit."
        )
    results = Path(results_dir).absolute()
    folder, by = results / run_id, driver or _driver.current()
    before = _read(folder)
    if _driver.alive(before.get("driver")):
        _driver.refuse_if_driven(before, by)
    if before.get("driver") not in (None, by) and (folder / "report.json").exists():
        raise FaultlineError(
            f"Run {run_id} is over, and its report is in {folder}: choose another run id "
            "(drill_run_id), or remove the folder."
        )
    begun = {"run_id": run_id, "started_at": _run.stamp()} | before
    return _write(folder, before, begun | {"driver": by} | dict(facts), check)


def _read(folder: Path) -> dict[str, Any]:
    try:
        return _run.load(folder)
    except (OSError, ValueError) as error:
        raise FaultlineError(f"Cannot keep the record of the run in {folder}: {error}.") from error


def _write(
    folder: Path, before: dict[str, Any], after: dict[str, Any], check: bool
) -> dict[str, Any]:
    try:
        if before != after and not check:
            _run.save(folder, after)
            if not before:
                _run.point_latest(folder.parent, folder.name)
    except OSError as error:
        raise FaultlineError(f"Cannot keep the record of the run in {folder}: {error}.") from error
    return {
        "changed": before != after,
        "run_id": after["run_id"],
        "path": str(folder),
        "run": after,
        "diff": {"before": before, "after": after},
    }


def take_over(results_dir: str, run_id: str | None, force: bool, check: bool) -> dict[str, Any]:
    """Let this process drive a run that is there, the newest unless named, to undo it.

    What a driver that is gone has left at work is ended, but for the load and the timeline, which
    the way back stops itself. Raises FaultlineError when there is no such run, and, unless forced,
    while another process drives it or may do so. A run with a report is over, whoever began it.
    """
    link = Path(results_dir).absolute() / (run_id or "latest")
    folder, by = link.resolve(), _driver.current()
    record = _read(folder)
    if record.get("run_id") != folder.name:
        raise FaultlineError(
            f"There is no record of a run in {link}: drill_results_dir names the folder of all "
            "runs, drill_run_id one of them, and a run's folder has the run's name."
        )
    if not force and not (folder / "report.json").exists():
        _driver.refuse_if_driven(record, by)
    if not check:
        _driver.end_left(record.get("driver"), _outliving(folder))
    return _write(folder, record, record | {"driver": by}, check)


def _outliving(folder: Path) -> list[int]:
    """Processes that belong to the run itself, by their pid files."""
    return [pid for file in folder.glob("*.pid") if (pid := _background.running(file))]


def note(path: str, content: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Append to the progress of a run what has become of a phase, with the moment."""
    entry = {"at": time.time()} | dict(content)
    if not check:
        try:
            _run.append(Path(path) / _run.PROGRESS, entry)
        except OSError as error:
            raise FaultlineError(f"Cannot note the progress of the run: {error}.") from error
    return {"changed": not check, "phase": entry}


def windows(progress: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Begin and end (seconds since the epoch) of the phases whose latency is reported apart."""
    spans = {}
    for number, name in WINDOWS.items():
        times = [entry["at"] for entry in progress if entry["number"] == number]
        if len(times) > 1:
            spans[name] = (times[0], times[-1])
    return spans


def build(
    folder: Path,
    planned: Sequence[Mapping[str, Any]],
    before_after: Mapping[str, Any],
    versions: Mapping[str, Any],
) -> dict[str, Any]:
    """Content of report.json for the run in `folder`, whose plan was `planned`.

    `before_after` has `equal`, `differences` and, of steps of the way back that failed and that the
    comparison cannot see, `not_undone`.
    """
    record, progress = _run.load(folder), _run.read_lines(folder / _run.PROGRESS)
    phases = _run.phases(progress)
    not_undone = list(before_after.get("not_undone") or [])
    compared = {
        "equal": False if not_undone else before_after.get("equal"),
        "differences": [*(before_after.get("differences") or []), *not_undone],
    }
    word, reason = verdict(phases, len(planned), compared)
    subject = Subject(
        run_id=record["run_id"],
        namespace=record.get("namespace", ""),
        graph=record.get("graph", ""),
        target_node=record.get("target_node", ""),
        replicas=int(record.get("replicas", 0)),
    )
    timeline = _run.read_lines(folder / _run.TIMELINE)
    return {
        "run_id": record["run_id"],
        "verdict": word,
        "reason": reason,
        "started_at": record["started_at"],
        "ended_at": _run.stamp(),
        "subject": {
            k: record.get(k)
            for k in ("namespace", "graph", "target_node", "replicas", "xid", "cuda_mode")
        },
        "phases": phases,
        "measures": measures(timeline, _traffic.read(folder), subject, windows(progress)),
        "before_after": compared,
        "versions": dict(versions),
    }


def report(
    path: str,
    planned: Sequence[Mapping[str, Any]],
    before_after: Mapping[str, Any],
    versions: Mapping[str, Any],
    check: bool,
) -> dict[str, Any]:
    """Judge the run in the folder `path`, and write report.json and junit.xml there.

    Raises FaultlineError when there is no run, and when the report cannot be written.
    """
    folder = Path(path)
    if not _run.load(folder):
        raise FaultlineError(f"There is no record of a run in {folder}: begin one with drill_run.")
    content = build(folder, planned, before_after, versions)
    if not check:
        try:
            _run.write_json(folder / "report.json", content)
            (folder / "junit.xml").write_text(junit(content, planned))
        except OSError as error:
            raise FaultlineError(f"Cannot write the report: {error}.") from error
    return {"changed": not check, "report": content, "path": str(folder)}
