# SPDX-License-Identifier: Apache-2.0
"""The parts of the GPU measurements, run against the stand-in for the driver."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faultline_gpu import (
    armed,
    arming,
    bench,
    counts,
    diff,
    inert,
    launch,
    results,
    times,
    toggle,
)
from faultline_gpu import run as parts
from faultline_gpu.golden import Golden
from gpu_stage import GPU, TRAP, fits


@pytest.fixture
def golden(lab: Path) -> Iterator[Golden]:
    """A golden table of a few functions."""
    found = Golden(lab, time.monotonic() + 60)
    names = ("cuCtxSynchronize", "cuMemAlloc_v2", "cuMemFree_v2", "cuCtxGetDevice", "cuEventQuery")
    found.table["classes"] = {name: found.table["classes"][name] for name in names}
    found.table["not_called"] = {}
    found.table["faults"] = {"trap": found.table["faults"]["trap"]}
    return found


def test_the_golden_table_tells_healthy_from_injected(golden: Golden) -> None:
    golden.healthy(0.5)
    golden._run(golden._series("injected", "trap", [list(golden.table["classes"])], golden.until))
    said = {one["name"]: (one["healthy"], one["injected"]) for one in diff.rows(golden.table)}
    assert said == {
        "cuCtxSynchronize": ("0", "fault"),
        "cuMemAlloc_v2": ("0", "fault"),
        "cuMemFree_v2": ("0", "fault"),
        "cuCtxGetDevice": ("0", "0"),
        "cuEventQuery": ("0", "fault"),
    }
    injected = golden.table["faults"]["trap"]["injected"]
    assert injected["first"] == {"cuStreamSynchronize": 719}
    assert injected["results"]["cuMemAlloc_v2"]["written"] == {"dptr": "zero"}
    assert golden.table["healthy"]["results"]["cuMemAlloc_v2"]["written"] == {"dptr": "value"}
    fits("golden", golden.table)


def test_a_driver_that_cannot_fault_is_an_error_of_the_series_not_a_result(golden: Golden) -> None:
    golden._run(golden._series("genuine", "trap", [["cuCtxSynchronize"]], golden.until))
    genuine = golden.table["faults"]["trap"]["genuine"]
    assert genuine["results"] == {}
    assert genuine["errors"]
    assert "cuModuleLoadData returned 801" in golden.complaints.read_text()


def test_a_workload_says_the_same_with_the_idle_shim_as_without(lab: Path) -> None:
    environments = [arming.plain(), arming.plain(), arming.preloaded(lab / "page")]
    runs = {
        variant: launch.once(lab / variant, environment, "direct", 30)
        for variant, environment in zip(inert.VARIANTS, environments, strict=True)
    }
    assert inert.verdict(runs) == "equal"
    assert runs["inert"]["shim"]["page_mapped"] == 1
    assert runs["absent"]["shim"] is None
    fits("inert", {"workloads": {"direct": {"runs": runs, "verdict": inert.verdict(runs)}}})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"inert": {"digest": "b", "status": 0}}, "different"),
        ({"inert": {"digest": "a", "status": -6}}, "different"),
        ({"absent_again": {"digest": "b", "status": 0}}, "varies"),
        ({"inert": {"absent": "No module named 'torch'", "status": 0}}, "absent"),
        ({key: {"status": 3} for key in inert.VARIANTS}, "fails"),
    ],
)
def test_a_workload_that_does_not_say_the_same_is_not_equal(
    changes: dict[str, Any], verdict: str
) -> None:
    runs = {key: {"digest": "a", "status": 0} for key in inert.VARIANTS}
    assert inert.verdict(runs | changes) == verdict


def test_a_workload_whose_library_is_missing_says_so(lab: Path) -> None:
    found = launch.once(lab / "jax", arming.plain() | {"PYTHONNOUSERSITE": "1"}, "jax", 30)
    if "digest" in found:
        pytest.skip("JAX is installed here")
    assert "absent" in found
    assert found["status"] == 0


def test_an_armed_workload_fails_soon_and_stays_failed_after_disarming(lab: Path) -> None:
    found = armed.run(lab / "armed", "direct", "injected", "trap", TRAP, GPU)
    assert "returned 719" in found["failed"]["text"]
    assert found["latency_ms"] < 2000
    assert [one["type"] for one in found["again"]] == ["DriverError"] * 3
    assert found["shim"]["latched_code"] == 719
    assert found["status"] == 0
    fits("armed", {"gpu": GPU, "faults": {"direct, trap": {"injected": found}}})


def test_a_workload_that_cannot_be_made_to_fault_ends_with_its_reason(lab: Path) -> None:
    found = armed.run(lab / "armed", "direct", "genuine", "trap", TRAP, GPU)
    assert "failed" not in found
    assert found["error"]["text"] == "cuModuleLoadData returned 801"
    assert found["status"] == 3


def test_a_kernel_of_the_shim_that_the_driver_refuses_fails_nothing(lab: Path) -> None:
    found = armed.run(lab / "armed", "direct", "by_shim", "trap", TRAP, GPU)
    assert "failed" not in found
    assert found["refused"] == 801
    assert found["status"] == 0
    fits("armed", {"gpu": GPU, "faults": {"direct, trap": {"by_shim": found}}})


def test_failures_are_alike_when_type_and_first_line_are() -> None:
    def failed(kind: str, text: str) -> dict[str, Any]:
        return {"failed": {"type": kind, "text": text}}

    one = failed("AcceleratorError", "CUDA error: unspecified launch failure\nsee 0x7f01")
    assert armed.alike(one, failed("AcceleratorError", "CUDA error: unspecified launch failure"))
    assert not armed.alike(one, failed("RuntimeError", "CUDA error: unspecified launch failure"))
    assert not armed.alike(one, failed("AcceleratorError", "CUDA error: misaligned address"))
    assert not armed.alike(one, {"status": -6})


@pytest.fixture
def poller(lab: Path) -> Path:
    """The program that polls the driver."""
    program = lab / "toggle"
    source = counts.SOURCES / "toggle.c"
    subprocess.run(["gcc", "-O2", "-o", str(program), str(source), "-ldl"], check=True)
    return program


def test_toggle_latency_is_that_of_the_first_failing_call(lab: Path, poller: Path) -> None:
    samples = toggle.sticky(poller, lab / "pages", GPU, 3)
    assert len(samples) == 3
    for upper, lower in samples:
        assert 0 < upper < 5e6
        assert lower < upper
    fits("toggle", {"sticky": toggle.summary(samples)})


def test_a_fault_that_heals_gives_many_samples_in_one_process(
    lab: Path, poller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toggle, "SAMPLES", 20)
    found = toggle.healing(poller, lab / "page", GPU, time.monotonic() + 60)
    assert len(found) == 20
    assert all(lower < upper for upper, lower in found)
    assert toggle.healing(poller, lab / "page", GPU, time.monotonic() - 1) == []
    fits("toggle", dict.fromkeys(("transient", "sticky"), toggle.summary(found)))


TIMER = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print(2.5, flush=True)
"""


def test_generations_of_processes_take_turns_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, real = list[Any](), subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        started.append(real([sys.executable, "-c", TIMER], **options))
        return started[-1]

    monkeypatch.setattr(times.subprocess, "Popen", popen)
    # A clock that ticks each time it is asked: once before each generation's turn.
    clock = itertools.count()
    monkeypatch.setattr(times, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    environment = {variant: arming.plain() for variant in times.VARIANTS}
    found = times.wave(environment, 9.5)
    assert len(started) == times.GENERATIONS * len(times.VARIANTS)
    assert all(process.poll() is not None for process in started)
    assert len(found) == times.GENERATIONS
    assert [len(rounds) for rounds in found] == [3, 3, 2, 2]
    assert found[0][0] == {op: dict.fromkeys(times.VARIANTS, 2.5) for op in times.CHUNKS}


def test_the_first_chunks_of_a_turn_are_not_counted() -> None:
    done: list[str] = []
    found = bench.chunks(lambda: done.append("call"), lambda: done.append("wait"), 3, 4)
    assert len(found) == 4
    assert done == ["call", "call", "call", "wait"] * 6


def test_ratios_are_those_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "CHUNKS", {"launch": 1})
    rounds = [
        {"launch": {"absent": t, "absent_again": t, "inert": t * r, "predecessor": t * 1.9}}
        for t, r in ((10.0, 1.0), (20.0, 1.2), (40.0, 1.0))
    ]
    found = times.summary([rounds, rounds])
    assert found["launch"]["us"]["absent"] == 20.0
    middle, low, high = found["launch"]["ratio"]["inert"]
    assert (middle, low) == (1.0, 1.0)
    assert low <= middle <= high
    assert found["launch"]["ratio"]["predecessor"] == [1.9, 1.9, 1.9]
    fits("times", {"summary": found, "generations": []})


def test_the_environments_of_the_timed_processes_differ_by_their_preload_only(lab: Path) -> None:
    found = times.environments(lab)
    assert found["absent"] == found["absent_again"]
    assert "LD_PRELOAD" not in found["absent"]
    assert found["inert"]["LD_PRELOAD"].endswith("libfaultline.so")
    own = ("LD_PRELOAD", "FAULTLINE_CONTROL", "PREDECESSOR_TOGGLE")
    for variant in ("inert", "predecessor"):
        rest = {key: value for key, value in found[variant].items() if key not in own}
        assert rest == found["absent"]


def test_quantiles_lie_between_neighbours() -> None:
    assert results.quantile([1, 2, 3, 4], 0.5) == 2.5
    assert results.quantile([5], 0.99) == 5
    assert results.quantile([1, 2], 1.0) == 2


def test_a_result_file_is_whole_and_reads_back(tmp_path: Path) -> None:
    content = {"a": list(range(60)), "b": {"c": None, "d": {}}, "e": "x" * 200}
    results.write(tmp_path / "deep/file.json", content)
    assert json.loads((tmp_path / "deep/file.json").read_text()) == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.json"]


def test_a_part_that_hangs_is_killed_and_the_next_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A shell: it has begun long before its time is over.
    program = ["sh", "-c", "echo begun; exec sleep 600"]
    monkeypatch.setattr(parts, "command", lambda part, out, limit: program)
    found = parts.run("golden", tmp_path / "golden.json", 2)
    assert found["status"] == -9
    assert found["said"].startswith("begun")
    assert found["file"] is None
    fits(
        "machine",
        {
            "started": "now",
            "build_error": None,
            "parts": {"golden": found},
            "machine": parts.machine.facts(),
        },
    )


def test_all_parts_together_stay_below_nine_minutes() -> None:
    assert sum(parts.PARTS.values()) <= 540
