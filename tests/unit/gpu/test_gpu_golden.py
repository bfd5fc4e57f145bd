# SPDX-License-Identifier: Apache-2.0
"""The checked-in golden table: what the shim of this tree answers is what a genuine fault does."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faultline_gpu import diff, predict, replay, signatures

TREE = Path(__file__).resolve().parents[3]
RESULTS = TREE / "tests/gpu/results"
PAGE = TREE / "docs/shim.md"
sys.path.insert(0, str(TREE / "hack"))

import cuda_symbols  # noqa: E402
import golden_tables  # noqa: E402
import gpu_tables  # noqa: E402

ASKS = """
import ctypes, json, sys
driver = ctypes.CDLL(sys.argv[1])
free, total, uuid = ctypes.c_int(9), ctypes.c_int(9), ctypes.create_string_buffer(17)
said = [driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), free.value]
said += [total.value not in (0, 9), driver.cuDeviceGetUuid_v2(uuid, 0)]
said += [uuid.raw.count(uuid.raw[0]), driver.cuCtxCreate(None, 0, 0)]
print(json.dumps([*said, hasattr(driver, "cuGraphGetId")]))
"""


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """The checked-in results, and what is predicted where they are of other classes."""
    return gpu_tables.load(RESULTS)


@pytest.fixture(scope="module")
def predicted(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the shim as it is built here answers in front of the recorded driver."""
    return results.get("predicted") or predict.predict(results["golden"])


def unexplained(table: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    found = diff.differences(table, golden_tables.rules())
    keys = ("name", "fault", "genuine", "injected")
    return [tuple(row[key] for key in keys) for row in found if not row["rule"]]


def test_every_predicted_difference_from_a_genuine_fault_is_explained(
    predicted: dict[str, Any],
) -> None:
    assert unexplained(predicted) == []


def test_every_difference_is_explained_where_these_classes_were_measured(
    results: dict[str, dict[str, Any]],
) -> None:
    measured = predict.is_measured(results["golden"])
    assert measured == ("predicted" not in results)
    assert not measured or unexplained(results["golden"]) == []


def test_no_class_contradicts_what_the_genuine_faults_did(predicted: dict[str, Any]) -> None:
    assert golden_tables.suggestions(predicted) == {}


def test_every_rule_explains_something(predicted: dict[str, Any]) -> None:
    used = {row["rule"] for row in diff.differences(predicted, golden_tables.rules())}
    lasting = {r["id"] for r in golden_tables.rules() if r.get("parts") != ["blocked"]}
    assert lasting - used == set(), "how long a call took is another thing in every run"


@pytest.mark.parametrize(
    ("name", "code", "written"),
    [("cuMemAlloc_v2", 0, {}), ("cuMemAlloc_v2", 719, {"dptr": "value"}), ("cuMemCreate", 719, {})],
)
def test_a_driver_that_did_something_else_would_be_an_unexplained_difference(
    predicted: dict[str, Any], name: str, code: int, written: dict[str, str]
) -> None:
    table = copy.deepcopy(predicted)
    table["faults"]["trap"]["genuine"]["results"][name] |= {"code": code, "written": written}
    assert [row[:2] for row in unexplained(table)] == [(name, "trap")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cuMemAlloc_v2", ("fault", ["dptr=zero"])),
        ("cuStreamGetFlags", ("fault", [])),
        ("cuCtxCreate_v2", ("fault", [])),
        ("cuDevicePrimaryCtxRetain", ("0", ["pctx"])),
        ("cuMemCreate", ("0", ["handle"])),
        ("cuMemFree_v2", ("fault", [])),
        ("cuStreamEndCapture", ("fault", ["phGraph=zero"])),
    ],
)
def test_the_prediction_is_the_answer_of_the_shim_and_of_the_healthy_driver_behind_it(
    predicted: dict[str, Any], name: str, said: tuple[str, list[str]]
) -> None:
    rows = [row for row in diff.rows(predicted) if row["name"] == name]
    assert [(row["injected"], row["injected_written"]) for row in rows] == [said] * 4


def test_a_table_of_this_list_of_functions_needs_no_prediction() -> None:
    table = {"symbols": signatures.digest(), "classes": {}}
    assert golden_tables.add_prediction({"golden": table}) == {"golden": table}
    assert predict.is_measured({"classes": signatures.classes()}), "of before digests"


@pytest.mark.parametrize(
    "table", [{"symbols": "0" * 16, "classes": signatures.classes()}, {"classes": {"cuInit": "S"}}]
)
def test_a_table_of_another_list_of_functions_needs_one(table: dict[str, Any]) -> None:
    assert not predict.is_measured(table)


def test_the_recorded_driver_answers_and_writes_what_was_recorded(tmp_path: Path) -> None:
    said = {"outcome": "returned", "code": 0}
    recorded = {
        "cuMemGetInfo_v2": said | {"code": 7, "written": {"free": "zero", "total": "value"}},
        "cuDeviceGetUuid_v2": said | {"written": {"uuid": "value"}},
        "cuCtxCreate": {"outcome": "crash", "signal": 11},
        "cuGraphGetId": {"outcome": "absent"},
    }
    library = replay.build(recorded, tmp_path)
    # In a process of its own: it would be the driver of all tests that follow.
    command = [sys.executable, "-c", ASKS, str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [7, 0, True, 0, 16, 0, False]


def test_the_list_of_functions_says_what_its_rules_say() -> None:
    lines = (TREE / "data/cuda_symbols.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    wanted = [[n, cuda_symbols.class_of(n), cuda_symbols.zeroed(n)] for n, *_ in rows]
    assert rows == wanted


def test_every_function_that_the_measured_driver_exports_is_in_the_list() -> None:
    lines = (TREE / "data/cuda_symbols.txt").read_text().splitlines()
    listed = {line.split()[0] for line in lines if not line.startswith("#")}
    facts = json.loads((TREE / "tests/gpu/results/machine.json").read_text())["machine"]
    for library in facts["exports"].values():
        assert library["exported"] > 300
        assert set(library["unlisted"]) <= listed


def test_the_page_about_the_shim_shows_the_checked_in_results(
    results: dict[str, dict[str, Any]],
) -> None:
    text = PAGE.read_text()
    assert text == gpu_tables.fill(text, gpu_tables.tables(results)), (
        "docs/shim.md is not of these results: run hack/gpu_tables.py --write docs/shim.md"
    )
