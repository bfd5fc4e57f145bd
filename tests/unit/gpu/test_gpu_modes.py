# SPDX-License-Identifier: Apache-2.0
"""The scenarios of modes and targets, run against the stand-in for the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faultline_gpu import modes
from gpu_stage import GPU, TRAP, fits


@pytest.mark.parametrize(
    "scenario",
    [s for s in modes.SCENARIOS if s not in (modes.waiting, modes.other_gpu)],
    ids=lambda scenario: scenario.__name__,
)
def test_a_mode_does_to_processes_what_its_scenario_expects(
    lab: Path, scenario: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than a process may have to wait for its turn on a machine that has more to do.
    monkeypatch.setattr(modes, "SLOW_US", 500_000)
    monkeypatch.setattr(modes, "DEADLINE_S", 3.0)
    found = modes.row(scenario, lab / "page", GPU)
    assert found["held"], found
    fits("modes", {"gpu": GPU, "rows": {scenario.__name__: found}})


def test_another_gpu_than_the_faulted_one_works_on(lab: Path) -> None:
    table = lab / "gpus.tsv"
    other = GPU.replace("1111", "9999")
    table.write_text(f"{table.read_text()}1\t{other}\t0000:1b:00.0\tLab GPU\n")
    found = modes.row(modes.other_gpu, lab / "page", GPU)
    assert found["seen"] == (TRAP.code, 0)


def test_a_kernel_that_the_driver_refuses_is_no_wait_that_was_seen(lab: Path) -> None:
    found = modes.row(modes.waiting, lab / "page", GPU)
    assert found["held"] is False
    assert found["seen"]["refused"] == 801


def test_a_scenario_whose_process_ends_is_not_held(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTLINE_LAB_GPUS", str(lab / "none"))
    found = modes.row(modes.sticky, lab / "page", GPU)
    assert found["held"] is False
    fits("modes", {"gpu": GPU, "rows": {"sticky": found}})
