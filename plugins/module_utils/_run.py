# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what it was about, how far it came, what it saw.

`run.json` is written before anything is changed, so that a fresh process can undo the run.
`progress.jsonl` gets a line when a phase starts and when it ends.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
RUN_FILE = "run.json"
PROGRESS = "progress.jsonl"
TIMELINE = "timeline.jsonl"


def new_run_id(now: datetime | None = None) -> str:
    """A run id that sorts by time and fits a label: `run-<date>-<time>-<4 hex digits>`."""
    moment = now or datetime.now(UTC)
    return f"run-{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def stamp(moment: float | None = None) -> str:
    """RFC 3339 time stamp in UTC with milliseconds, of epoch seconds or of now."""
    at = datetime.fromtimestamp(time.time() if moment is None else moment, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def load(folder: Path) -> dict[str, Any]:
    """Content of `run.json`, empty when there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / RUN_FILE).read_text())
    except FileNotFoundError:
        return {}
    return content


def save(folder: Path, content: Mapping[str, Any]) -> None:
    """Replace `run.json` in one step, so that a reader never sees half of it."""
    write_json(folder / RUN_FILE, content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON to `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(content, indent=2, sort_keys=False) + "\n")
    draft.replace(path)


def point_latest(results: Path, run_id: str) -> None:
    """Let `results/latest` point to the run's folder."""
    draft = results / f".latest-{os.getpid()}"
    draft.symlink_to(run_id)
    draft.replace(results / "latest")


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one JSON line in a single write, so that lines of two processes never mix."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(entry) + "\n").encode())
    finally:
        os.close(handle)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Entries of a JSON lines file; empty when there is none. A torn last line is left out."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    # By its end: what is torn off may look whole, with a brace of its own at the end.
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def phases(progress: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry per phase that was begun, in order: the `phases` of report.json.

    A phase that was begun and never ended (the process was killed) counts as failed.
    """
    found: dict[int, dict[str, Any]] = {}
    begun: dict[int, float] = {}
    for entry in progress:
        number = entry["number"]
        if entry["status"] == "started":
            begun[number] = entry["at"]
            found[number] = {
                "number": number,
                "name": entry["name"],
                "status": "failed",
                "seconds": None,
                "gate": entry["gate"],
                "evidence": "the drill ended before this phase did",
                "started_at": stamp(entry["at"]),
            }
        else:
            found[number] |= {
                "status": entry["status"],
                "evidence": entry["evidence"],
                "seconds": round(entry["at"] - begun[number], 1),
            }
    return [found[number] for number in sorted(found)]
