# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/shim.md, made from a small set of results."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

TREE = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TREE / "hack"))

import golden_tables  # noqa: E402
import gpu_tables  # noqa: E402

SCHEMA = json.loads((TREE / "tests/gpu/results.schema.json").read_text())
RULES = [
    {
        "id": "zeroed",
        "why": "Callers read it anyway.",
        "genuine": ["fault"],
        "injected": ["fault"],
        "parts": ["written"],
    }
]


def returned(code: int, **written: str) -> dict[str, Any]:
    return {"outcome": "returned", "code": code, "us": 1.0, "written": written, "lacking": []}


@pytest.fixture
def results() -> dict[str, dict[str, Any]]:
    """A whole set, as the parts write it."""
    failed = {"type": "AcceleratorError", "text": "CUDA error: unspecified launch failure\nmore"}
    ok = {"digest": "a" * 64, "status": 0}
    ratio = [1.002, 0.999, 1.004]
    return {
        "machine": {
            "started": "2026-01-01T00:00:00Z",
            "build_error": None,
            "parts": {},
            "machine": {
                "gpus": [{"name": "NVIDIA H100", "driver_version": "580.1"}],
                "driver_cuda": 13000,
                "kernel": "6.1",
                "libc": "glibc-2.39",
                "cpu": "CPU",
                "cores": 16,
                "packages": {"torch": "2.11.0"},
                "shim_build": "0123456789abcdef",
                "exports": {},
            },
        },
        "golden": {
            "classes": {"cuMemAlloc_v2": "S", "cuFuncGetName": "P", "cuStreamGetId": "S"},
            "not_called": {},
            "healthy": {
                "results": {
                    n: returned(0) for n in ("cuMemAlloc_v2", "cuFuncGetName", "cuStreamGetId")
                }
            },
            "faults": {
                "trap": {
                    "code": 719,
                    "xid": 43,
                    "genuine": {
                        "first": {"cuStreamSynchronize": 719},
                        "results": {
                            "cuMemAlloc_v2": returned(719),
                            "cuFuncGetName": returned(719),
                            "cuStreamGetId": returned(0),
                        },
                    },
                    "injected": {
                        "first": {"cuStreamSynchronize": 719},
                        "results": {
                            "cuMemAlloc_v2": returned(719, dptr="zero"),
                            "cuFuncGetName": returned(0),
                            "cuStreamGetId": returned(719),
                        },
                    },
                }
            },
            "runtime": {
                "trap": {
                    "genuine": {"calls": [["cudaMalloc", 719], ["cudaGetLastError", 719]]},
                    "injected": {"calls": [["cudaMalloc", 719], ["cudaGetLastError", 0]]},
                }
            },
        },
        "inert": {
            "workloads": {
                "eager": {
                    "runs": {"absent": ok, "absent_again": ok, "inert": ok},
                    "verdict": "equal",
                },
                "jax": {
                    "runs": {"absent": {"absent": "No module", "status": 0}},
                    "verdict": "absent",
                },
            }
        },
        "times": {
            "generations": [],
            "summary": {
                "launch": {
                    "us": {"absent": 7.8},
                    "rounds": 80,
                    "ratio": {
                        "absent_again": ratio,
                        "inert": ratio,
                        "predecessor": [1.9, 1.8, 2.0],
                    },
                }
            },
        },
        "armed": {
            "gpu": "GPU-1",
            "faults": {
                "eager, trap": {
                    "genuine": {
                        "failed": failed,
                        "latency_ms": 1.5,
                        "again": [failed],
                        "status": 0,
                    },
                    "injected": {
                        "failed": failed,
                        "latency_ms": 0.2,
                        "again": [{"type": None, "text": ""}],
                        "status": 0,
                    },
                    "alike": True,
                }
            },
        },
        "missed": {
            "cupti": "libcupti.so.13",
            "workloads": {
                "eager": {
                    "status": 0,
                    "functions": 9,
                    "calls": 100,
                    "missed_calls": 2,
                    "missed": [{"functions": ["cuEventQuery"], "driver": 3, "shim": 1}],
                }
            },
        },
        "toggle": {
            "sticky": {
                "samples": 1000,
                "upper_us": {"p50": 50, "p99": 300, "max": 900},
                "lower_us": {"p50": 1, "p99": 2, "max": 3},
            }
        },
        "modes": {
            "gpu": "GPU-1",
            "rows": {
                "once": {
                    "what": "One fails.",
                    "expected": [719, 0],
                    "seen": [719, 0],
                    "held": True,
                },
                "new_contexts": {
                    "what": "None is made.",
                    "expected": 46,
                    "seen": 0,
                    "held": False,
                },
                "rank": {"what": "One of two.", "error": "TimeoutError: ", "held": False},
            },
        },
    }


@pytest.fixture
def tables(results: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(golden_tables, "rules", lambda: RULES)
    return gpu_tables.tables(results)


def cells(table: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]
    ]


def test_the_results_of_these_tests_are_of_the_form_that_the_parts_write(
    results: dict[str, dict[str, Any]],
) -> None:
    for name, content in results.items():
        jsonschema.validate(content, SCHEMA | {"$ref": f"#/$defs/{name}"})


@pytest.mark.parametrize(
    "path", sorted((TREE / "tests/gpu/results").glob("*.json")), ids=lambda p: p.name
)
def test_the_checked_in_results_are_of_the_form_that_their_schema_says(path: Path) -> None:
    if path.stem in SCHEMA["$defs"]:
        schema = SCHEMA | {"$ref": f"#/$defs/{path.stem}"}
        jsonschema.validate(json.loads(path.read_text()), schema)


def test_every_table_is_made(tables: dict[str, str]) -> None:
    assert set(tables) == set(gpu_tables.TABLES)
    assert not [name for name, table in tables.items() if "not measured" in table]


def test_the_golden_table_counts_same_explained_and_unexplained(tables: dict[str, str]) -> None:
    side = "measured, build `0123456789abcdef`"
    assert cells(tables["golden"]) == [["trap", "719", side, "3", "0", "1", "2"]]


def test_a_prediction_stands_beside_the_measurement_and_says_that_it_is_one(
    results: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_tables, "rules", lambda: RULES)
    better = copy.deepcopy(results["golden"])
    better["classes"] |= {"cuFuncGetName": "L", "cuStreamGetId": "P"}
    trap = better["faults"]["trap"]
    trap["injected"]["results"] |= {"cuFuncGetName": returned(719), "cuStreamGetId": returned(0)}
    tables = gpu_tables.tables(results | {"predicted": better})
    assert [row[2:] for row in cells(tables["golden"])] == [
        ["measured, build `0123456789abcdef`", "3", "0", "1", "2"],
        ["predicted, not measured, this tree", "3", "2", "1", "0"],
    ]
    first, *_ = cells(tables["bars"])
    assert first == ["differences not explained (predicted, not measured)", "0", "0", "met"]
    assert cells(tables["reclassified"]) == [
        ["P", "L", "1", "`cuFuncGetName`"],
        ["S", "P", "1", "`cuStreamGetId`"],
    ]
    assert "none" in tables["classes"]


def test_each_difference_is_listed_under_the_rule_that_explains_it(tables: dict[str, str]) -> None:
    rows = {row[0]: row for row in cells(tables["differences"])}
    assert rows["zeroed"][3] == "fault, writes dptr=zero"
    assert "**unexplained**" in rows
    assert cells(tables["explanations"]) == [["zeroed", "Callers read it anyway.", "1"]]


def test_classes_that_a_genuine_fault_contradicts_are_named(tables: dict[str, str]) -> None:
    assert cells(tables["classes"]) == [
        ["`cuFuncGetName`", "P", "S"],
        ["`cuStreamGetId`", "S", "P"],
    ]


def test_the_runtime_table_marks_what_differs(tables: dict[str, str]) -> None:
    assert [row[-1] for row in cells(tables["runtime"])] == ["", "differs"]


def test_a_process_that_healed_does_not_count_as_staying_failed(tables: dict[str, str]) -> None:
    assert [row[5] for row in cells(tables["armed"])] == ["True", "False"]


def test_missed_calls_are_named_with_both_counts(tables: dict[str, str]) -> None:
    assert cells(tables["missed"])[0][-1] == "`cuEventQuery` 3/1"


def test_bars_say_what_is_met(tables: dict[str, str]) -> None:
    assert {row[0]: row[3] for row in cells(tables["bars"])} == {
        "differences not explained (measured)": "**not met**",
        "idle cost, worst operation": "met",
        "calls missed": "**not met**",
        "toggle latency p99": "met",
        "modes and targets that did something else": "**not met**",
    }


def test_a_scenario_that_went_otherwise_says_what_was_seen_instead(tables: dict[str, str]) -> None:
    assert cells(tables["modes"]) == [
        ["once", "One fails.", "as expected"],
        ["new contexts", "None is made.", "**0**, expected 46"],
        ["rank", "One of two.", "**TimeoutError: **, expected None"],
    ]


def test_a_missing_file_leaves_the_other_tables(results: dict[str, dict[str, Any]]) -> None:
    del results["times"]
    found = gpu_tables.tables(results)
    assert "not measured" in found["times"]
    assert cells(found["toggle"])


def test_only_the_marked_places_of_a_document_change() -> None:
    document = "# A\n<!-- gpu:toggle -->\nold\n<!-- /gpu:toggle -->\nkept <!-- other -->\n"
    filled = gpu_tables.fill(document, {"toggle": "| new |"})
    assert (
        filled == "# A\n<!-- gpu:toggle -->\n| new |\n<!-- /gpu:toggle -->\nkept <!-- other -->\n"
    )
    assert gpu_tables.fill(filled, {"toggle": "| new |"}) == filled


def test_a_document_that_asks_for_an_unknown_table_is_refused() -> None:
    with pytest.raises(ValueError, match="table nothing"):
        gpu_tables.fill("<!-- gpu:nothing -->\n<!-- /gpu:nothing -->", {"toggle": ""})


def test_the_rules_in_the_tree_are_well_formed() -> None:
    known = {"id", "why", "names", "classes", "healthy", "genuine", "injected", "parts"}
    rules = golden_tables.rules()
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= known, rule["id"]
        assert rule["why"].strip()
