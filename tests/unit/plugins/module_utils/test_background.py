# SPDX-License-Identifier: Apache-2.0
"""Processes that outlive the task that starts them."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _background as background

Start = Callable[[Callable[[], None]], int]
LIMIT = 30.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a body in the background and ends what is left of it after the test."""

    def begin(body: Callable[[], None]) -> int:
        def alone() -> None:
            # What other tests have left for the end of pytest is nothing that this process has
            # begun: it would fail here, and say so in the log.
            atexit._clear()
            body()

        return background.start(tmp_path / "pid", tmp_path / "log", alone)

    yield begin
    background.stop(tmp_path / "pid", timeout=0.1)


def at_work() -> None:
    """Does not end by itself. signal.pause() would sleep over a signal that came right before."""
    while True:
        time.sleep(0.01)


def ended(pid: int) -> bool:
    """Waits until a process is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], LIMIT)[0])
    finally:
        os.close(handle)


def test_a_process_is_known_by_its_pid_file_and_leads_a_session_of_its_own(
    start: Start, tmp_path: Path
) -> None:
    pid = start(at_work)
    assert background.running(tmp_path / "pid") == pid
    assert os.getsid(pid) not in (0, os.getsid(0))
    assert json.loads((tmp_path / "pid").read_text()) == {
        "pid": pid,
        "start_ticks": background.start_ticks(pid),
    }


def test_nobody_waits_for_a_file_that_the_process_holds(start: Start) -> None:
    reader, writer = os.pipe()
    start(at_work)
    os.close(writer)
    assert select.select([reader], [], [], LIMIT)[0], "the process still holds the caller's pipe"
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_what_the_process_says_is_in_its_log_and_its_end_removes_the_pid_file(
    start: Start, tmp_path: Path
) -> None:
    def body() -> None:
        print("said by the body")

    pid = start(body)
    assert pid == 0 or ended(pid)
    assert background.running(tmp_path / "pid") is None
    assert not (tmp_path / "pid").exists()
    assert (tmp_path / "log").read_text() == "said by the body\n"


def test_a_signal_that_comes_before_the_body_ends_the_process_and_nothing_runs_twice(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last thing that it does before the body.
    monkeypatch.setattr(os, "closerange", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    caller, pid = os.getpid(), 0
    try:
        pid = start(at_work)
    finally:
        if os.getpid() != caller:
            (tmp_path / "escaped").touch()
            os._exit(1)
    assert pid == 0 or ended(pid)
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "pid").exists()


def test_an_error_of_the_process_is_in_its_log(start: Start, tmp_path: Path) -> None:
    def body() -> None:
        raise ValueError("no such cluster")

    pid = start(body)
    assert pid == 0 or ended(pid)
    assert (tmp_path / "log").read_text() == "stopped by ValueError: no such cluster\n"
    assert not (tmp_path / "pid").exists()


def test_a_stopped_process_ends_in_order(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "at work")

    def body() -> None:
        try:
            (tmp_path / "at work").write_text("")
            at_work()
        finally:
            (tmp_path / "closed").touch()

    pid = start(body)
    (tmp_path / "at work").read_text()
    assert background.stop(tmp_path / "pid") is True
    assert ended(pid)
    assert (tmp_path / "closed").exists()
    assert not (tmp_path / "pid").exists()
    assert background.stop(tmp_path / "pid") is False


def test_a_process_that_ignores_the_request_is_killed(start: Start, tmp_path: Path) -> None:
    def body() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / "ready").touch()
        at_work()

    pid = start(body)
    # The body runs after the pid file is written.
    while not (tmp_path / "ready").exists():
        os.sched_yield()
    assert background.stop(tmp_path / "pid", timeout=0.05) is True
    assert ended(pid)
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("content", ["", '{"pid": 1', '{"pid": 999999999, "start_ticks": 1}'])
def test_a_pid_file_that_names_no_process_is_swept_away(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    assert background.running(tmp_path / "pid") is None
    assert background.stop(tmp_path / "pid") is False
    assert not (tmp_path / "pid").exists()


def test_a_process_that_has_ended_and_waits_to_be_reaped_does_not_run(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert background.start_ticks(pid) is None
    finally:
        os.waitpid(pid, 0)
    assert background.start_ticks(pid) is None
    assert background.start_ticks(os.getpid())
