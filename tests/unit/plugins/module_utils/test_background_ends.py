# SPDX-License-Identifier: Apache-2.0
"""Ends of processes that meet: those of others' children, and those that come by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _background as background

FAILS = """
import sys
from pathlib import Path
from ansible_collections.faultline.gpu.plugins.module_utils import _background as background
folder = Path(sys.argv[1])
print("started", background.start(folder / "none" / "pid", folder / "log", lambda: None))
"""


def test_the_end_of_somebody_elses_child_is_left_to_them(tmp_path: Path) -> None:
    child = subprocess.Popen(["false"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    background.start(tmp_path / "pid", tmp_path / "log", lambda: None)
    assert child.wait() == 1


def test_a_process_that_ends_by_itself_while_it_is_stopped_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    (tmp_path / "pid").write_text("it was there when the file was read")
    monkeypatch.setattr(background, "running", lambda _file: child.pid)
    assert background.stop(tmp_path / "pid") is True
    assert not (tmp_path / "pid").exists()


def test_a_process_that_cannot_begin_does_not_go_on_with_its_starters_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILS, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "started 0\n"
    assert done.stderr.startswith("stopped by FileNotFoundError: ")
    assert done.stderr.count("\n") == 1, "no traceback"


def test_a_process_counts_as_started_when_it_is_prepared(tmp_path: Path) -> None:
    def prepare() -> None:
        (tmp_path / "prepared").touch()

    pid = background.start(tmp_path / "pid", tmp_path / "log", signal.pause, prepare)
    assert pid
    assert (tmp_path / "prepared").exists()
    background.stop(tmp_path / "pid")
