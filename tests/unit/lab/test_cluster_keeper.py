# SPDX-License-Identifier: Apache-2.0
"""What keeps processes running hears of every end, also of one that nobody expects."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import keeper
from lab.cluster.keeper import Keeper

FORK = multiprocessing.get_context("fork")


class EndsAtOnce(subprocess.Popen[bytes]):
    """A child that has ended before its starter does anything else."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


def in_a_process_of_its_own(body: Any) -> int | None:
    """Exit code of a process that does it: a keeper waits for every child of its process."""
    process = FORK.Process(target=body)
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def test_a_process_that_has_ended_when_the_stop_comes_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper.subprocess, "Popen", EndsAtOnce)

    def body() -> None:
        subject = Keeper({"quitter": ["false"]}, tmp_path, 0.0)
        subject.stop()
        subject.start("quitter")
        subject.keep()

    assert in_a_process_of_its_own(body) == 0


def test_a_stop_that_comes_just_before_the_wait_is_not_lost(tmp_path: Path) -> None:
    def body() -> None:
        for _ in range(400):
            subject = Keeper({"stayer": ["sleep", "600"]}, tmp_path, 0.0)
            signal.signal(signal.SIGALRM, lambda *_, subject=subject: subject.stop())
            subject.start("stayer")
            begun = time.monotonic()
            # Where the first one was lost the second one, eight seconds later, brings it to light.
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 6e-5), 8)
            subject.keep()
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert time.monotonic() - begun < 8

    assert in_a_process_of_its_own(body) == 0


def test_a_stop_at_any_moment_ends_all_of_many_that_end_all_the_time(tmp_path: Path) -> None:
    commands = {f"quitter-{n}": ["false"] for n in range(3)} | {"stayer": ["sleep", "600"]}

    def body() -> None:
        for after in range(1, 40):
            subject = Keeper(commands, tmp_path, 0.0)
            signal.signal(signal.SIGALRM, lambda *_, subject=subject: subject.stop())
            signal.setitimer(signal.ITIMER_REAL, after / 1000 + after / 77777)
            for name in commands:
                subject.start(name)
            subject.keep()
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)

    assert in_a_process_of_its_own(body) == 0
