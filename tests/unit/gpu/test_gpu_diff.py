# SPDX-License-Identifier: Apache-2.0
"""Genuine and injected faults side by side."""

from __future__ import annotations

from typing import Any

import pytest
from faultline_gpu import diff


def returned(code: int, us: float = 1.0, **written: str) -> dict[str, Any]:
    return {"outcome": "returned", "code": code, "us": us, "written": written, "lacking": []}


def row(genuine: Any, injected: Any, healthy: Any = None, letter: str = "S") -> dict[str, Any]:
    return diff.row("cuX", letter, "trap", 719, healthy or returned(0), genuine, injected)


@pytest.mark.parametrize(
    ("genuine", "injected", "different"),
    [
        (returned(719), returned(719), False),
        (returned(0), returned(719), True),
        (returned(719), returned(719, dptr="zero"), True),
        (returned(719, dptr="zero"), returned(719, dptr="value"), True),
        (returned(719, us=2e6), returned(719), True),
        ({"outcome": "hang", "signal": 9}, returned(719), True),
        ({"outcome": "absent"}, {"outcome": "absent"}, False),
        (None, returned(719), True),
        (None, None, False),
    ],
)
def test_two_faults_differ_by_code_by_memory_written_and_by_blocking(
    genuine: Any, injected: Any, different: bool
) -> None:
    assert diff.differs(row(genuine, injected)) is different


def test_the_code_of_the_fault_is_the_same_word_for_every_fault() -> None:
    one = diff.row("cuX", "S", "wild", 700, returned(0), returned(700), returned(719))
    assert (one["genuine"], one["injected"]) == ("fault", "719")


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({}, True),
        ({"names": "cuX"}, True),
        ({"names": "cu"}, False),
        ({"classes": "TQ"}, False),
        ({"genuine": ["0"], "injected": ["fault"]}, True),
        ({"genuine": ["fault"]}, False),
        ({"genuine": ["healthy"]}, True),
        ({"injected": ["healthy"]}, False),
        ({"injected": ["not-zero"]}, True),
        ({"genuine": ["not-zero"]}, False),
        ({"parts": ["code"]}, True),
        ({"parts": ["written"]}, False),
    ],
)
def test_a_rule_explains_what_it_says_and_no_more(rule: dict[str, Any], fits: bool) -> None:
    one = row(returned(0), returned(719))
    assert diff.explain(one, [rule | {"id": "r"}]) == ("r" if fits else None)


def test_a_rule_about_codes_does_not_explain_memory_too() -> None:
    one = row(returned(0), returned(719, dptr="zero"))
    assert diff.explain(one, [{"id": "r", "parts": ["code"]}]) is None


def golden() -> dict[str, Any]:
    return {
        "classes": {"cuA": "S", "cuB": "P", "cuMulticastCreate": "S"},
        "not_called": {"cuMulticastCreate": "why"},
        "healthy": {"results": {"cuA": returned(0), "cuB": returned(0)}},
        "faults": {
            kind: {
                "code": code,
                "genuine": {"results": {"cuA": returned(code), "cuB": returned(code)}},
                "injected": {"results": {"cuA": returned(code), "cuB": returned(0)}},
            }
            for kind, code in (("trap", 719), ("wild", 700))
        },
    }


def test_differences_are_found_for_every_fault_and_told_once_per_function() -> None:
    found = diff.differences(golden(), [])
    assert [(one["name"], one["fault"], one["rule"]) for one in found] == [
        ("cuB", "trap", None),
        ("cuB", "wild", None),
    ]
    assert [one["faults"] for one in diff.by_function(found)] == [["trap", "wild"]]


def test_a_function_that_was_not_measured_on_one_side_is_a_difference() -> None:
    table = golden()
    del table["faults"]["trap"]["genuine"]["results"]["cuA"]
    assert next(one["name"] for one in diff.differences(table, [])) == "cuA"
