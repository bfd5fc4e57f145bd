# SPDX-License-Identifier: Apache-2.0
"""What keeps a cluster running starts again whatever ends, and nothing once it is told to stop."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
from lab_plans import cluster

from lab.cluster.config import boot_id
from lab.cluster.supervisor import Supervisor

FORK = multiprocessing.get_context("fork")
QUITTER, STAYER = "quitter", "stayer"
LIMIT = 60.0


def eventually(folder: Path, name: str, other_than: int = 0) -> int:
    """The id of a process, as soon as one is written down that is not the given one."""
    deadline = time.monotonic() + LIMIT
    while True:
        # The file is empty for a moment while it is written.
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = int((folder / f"run/{name}.pid").read_text())
            if found != other_than:
                return found
        assert time.monotonic() < deadline, f"{name} was not started"
        time.sleep(0.01)


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, ForkProcess]]:
    """Folder and process of a supervisor of one process that always ends and one that stays.

    The first is nearly always waiting to be started again, for the parameter's seconds.
    """
    plan = cluster(state=str(tmp_path), nodes=0)
    plan.folder.mkdir()
    subject = Supervisor(plan)
    subject.least_seconds = request.param
    subject.commands = {STAYER: ["sleep", "600"], QUITTER: ["false"]}
    process = FORK.Process(target=subject.run)
    process.start()
    yield plan.folder, process
    process.terminate()
    process.join(LIMIT)
    assert process.exitcode == 0


@pytest.mark.parametrize("run", [0.5], indirect=True)
def test_an_id_is_written_down_in_one_step(run: tuple[Path, ForkProcess]) -> None:
    folder, _ = run
    eventually(folder, QUITTER)
    with (folder / f"run/{QUITTER}.pid").open() as file:
        first = file.read()
        eventually(folder, QUITTER, other_than=int(first))
        file.seek(0)
        assert file.read() == first


def test_a_node_has_no_boot_id_before_it_runs(tmp_path: Path) -> None:
    plan = cluster(state=str(tmp_path), nodes=2)
    for node in plan.members:
        boot_id(plan, node.name).parent.mkdir(parents=True)
        boot_id(plan, node.name).write_text("of the life before\n")
    subject = Supervisor(plan)
    subject.commands = {}
    process = FORK.Process(target=subject.run)
    process.start()
    process.join(LIMIT)
    assert process.exitcode == 0
    assert not any(boot_id(plan, node.name).exists() for node in plan.members)


@pytest.mark.parametrize("run", [0.5], indirect=True)
def test_a_process_that_ends_while_another_waits_to_be_started_is_started_again_too(
    run: tuple[Path, ForkProcess],
) -> None:
    folder, _ = run
    for _ in range(3):
        first = eventually(folder, STAYER)
        eventually(folder, QUITTER, other_than=eventually(folder, QUITTER))
        os.kill(first, signal.SIGKILL)
        eventually(folder, STAYER, other_than=first)


# So long that the signal comes while it waits, on a slow machine too.
@pytest.mark.parametrize("run", [4.0], indirect=True)
def test_a_signal_ends_all_and_starts_nothing_that_was_waiting(
    run: tuple[Path, ForkProcess],
) -> None:
    folder, process = run
    stayer = eventually(folder, STAYER)
    last = eventually(folder, QUITTER)
    process.terminate()
    process.join(LIMIT)
    assert process.exitcode == 0
    assert eventually(folder, QUITTER) == last
    with pytest.raises(ProcessLookupError):
        os.kill(stayer, 0)
