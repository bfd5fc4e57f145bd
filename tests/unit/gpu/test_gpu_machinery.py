# SPDX-License-Identifier: Apache-2.0
"""The parts of the GPU measurements, run against the stand-in for the driver."""

from __future__ import annotations

import ctypes
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from faultline_gpu import (
    armed,
    arming,
    bench,
    counts,
    diff,
    inert,
    launch,
    missed,
    modes,
    results,
    times,
    toggle,
)
from faultline_gpu import run as parts
from faultline_gpu.faults import FAULTS
from faultline_gpu.golden import Golden

TREE = Path(__file__).resolve().parents[3]
TRAP = FAULTS["trap"]
GPU = "GPU-11111111-2222-3333-4444-555555555555"
SCHEMA = json.loads((TREE / "tests/gpu/results.schema.json").read_text())


def fits(name: str, content: Any) -> None:
    """Raise ValidationError when `content` is not what NAME.json is to be."""
    jsonschema.validate(json.loads(json.dumps(content)), SCHEMA | {"$ref": f"#/$defs/{name}"})


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


def test_both_counts_see_every_call_of_a_process(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "shim").mkdir()
    library = counts.build(tmp_path / "shim")
    program = (
        "import ctypes, json, os, sys; from pathlib import Path; from faultline_gpu import counts\n"
        "from faultline_gpu.driver import Driver\n"
        "d = Driver(); d.start(); [d.call('cuCtxSynchronize') for _ in range(5)]\n"
        "found = ctypes.c_void_p()\n"
        "d.call('cuGetProcAddress_v2', ctypes.c_char_p(b'cuCtxSynchronize'), "
        "ctypes.byref(found), 12000, 0, None)\n"
        "[ctypes.CFUNCTYPE(ctypes.c_int)(found.value)() for _ in range(3)]\n"
        "print(json.dumps(counts.shim(Path(sys.argv[1]))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "shim/counted.names")],
        env=arming.preloaded(tmp_path / "page", library),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["cuCtxSynchronize"] == 8
    assert seen["cuInit"] == seen["cuDevicePrimaryCtxRetain"] == seen["cuGetProcAddress_v2"] == 1


def test_trampolines_that_the_counter_does_not_know_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: None
) -> None:
    (tmp_path / "count.awk").write_text("{ print }\n")
    monkeypatch.setattr(counts, "SOURCES", tmp_path)
    (tmp_path / "shim").mkdir()
    with pytest.raises(ValueError, match="found no trampoline"):
        counts.build(tmp_path / "shim")


FAKE_CUPTI = """
#include <stddef.h>
struct data { int site; const char *name; };
static void (*told)(void *, int, unsigned, const struct data *);
int cuptiSubscribe(void **s, void (*f)(void *, int, unsigned, const struct data *), void *u)
{ *s = &told; told = f; (void)u; return FAIL; }
int cuptiEnableDomain(unsigned on, void *s, int domain) { return !(on && s && domain == 1); }
void tell(int domain, unsigned id, int site, const char *name)
{ struct data d = {site, name}; told(NULL, domain, id, &d); }
"""


def inject(folder: Path, fail: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ctypes.CDLL]:
    """The library that counts, loaded into this process as the driver would, with a false CUPTI."""
    counter, cupti = folder / "cupti_count.so", folder / "cupti.so"
    (folder / "cupti.c").write_text(FAKE_CUPTI)
    for source, out in ((counts.SOURCES / "cupti_count.c", counter), (folder / "cupti.c", cupti)):
        command = ["gcc", "-shared", "-fPIC", f"-DFAIL={fail}", "-o", str(out), str(source)]
        subprocess.run(command, check=True)
    monkeypatch.setenv("FAULTLINE_CUPTI", str(cupti))
    # The C library's own environment: ctypes sees what os.environ puts there.
    assert ctypes.CDLL(str(counter)).InitializeInjection() == 1
    return counter, ctypes.CDLL(str(cupti))


def test_the_drivers_count_takes_entries_of_driver_calls_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, cupti = inject(tmp_path, 0, monkeypatch)
    for domain, site, name in ((1, 0, b"cuA"), (1, 1, b"cuA"), (1, 0, b"cuA"), (2, 0, b"cudaB")):
        cupti.tell(domain, 5, site, name)
    assert counts.cupti(counter) == {"state": 1, "calls": {"cuA": 2}}


def test_a_cupti_that_refuses_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, _ = inject(tmp_path, 39, monkeypatch)
    assert counts.cupti(counter) == {"state": 1039, "calls": {}}


def test_a_call_is_missed_when_the_driver_counted_more_than_the_shim() -> None:
    addresses = {"cuA": 16, "cuB": 32, "cuB_v2": 32, "cuC": 48}
    driver = {"cuA": 3, "cuB_v2": 4, "cuC": 5, "cuNew": 2}
    found = missed.compare(driver, {"cuA": 3, "cuB": 4, "cuC": 1, "fl_pool_0": 2}, addresses)
    assert found["missed"] == [{"functions": ["cuC"], "driver": 5, "shim": 1}]
    assert found["missed_calls"] == 4
    assert found["calls"] == 14


def test_calls_through_a_slot_of_the_pool_explain_one_function_only() -> None:
    found = missed.compare({"cuNew": 2, "cuNewer": 2}, {"fl_pool_0": 2}, {})
    assert found["missed_calls"] == 2


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
