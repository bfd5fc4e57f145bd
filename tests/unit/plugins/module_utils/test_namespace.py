# SPDX-License-Identifier: Apache-2.0
"""A drill's namespace says whose it is and how long it may live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _namespace as namespace

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)


def made(name: str = "drill-1", end: str | None = "2026-11-24T07:59:59Z", **labels: Any) -> dict:
    marks = namespace.owner_labels("run-1") | labels
    notes = {} if end is None else {namespace.EXPIRES: end}
    return {"metadata": {"name": name, "labels": marks, "annotations": notes}}


def test_an_expiry_is_utc_in_whole_seconds_wherever_the_clock_stands() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5)))
    assert namespace.expiry(east, 7200) == "2026-11-24T10:00:00Z"
    assert namespace.expires(made(end="2026-11-24T10:00:00Z")) == NOW + timedelta(hours=2)


@pytest.mark.parametrize("end", [None, "", "tomorrow", "2026-11-24T07:00:00", "12"])
def test_a_time_that_cannot_be_read_or_has_no_zone_removes_nothing(end: str | None) -> None:
    over, stay = namespace.sorted_out([made(end=end)], NOW)
    assert over == []
    assert stay["drill-1"].startswith("says no time at which it may go")


@pytest.mark.parametrize(
    ("end", "goes"),
    [
        ("2026-11-24T07:59:59Z", True),
        ("2026-11-24T08:00:00Z", True),
        ("2026-11-24T08:00:01Z", False),
        ("2026-11-24T09:00:00+02:00", True),
        ("2026-11-24T07:00:00-02:00", False),
    ],
)
def test_a_namespace_goes_when_its_time_is_over_and_not_before(end: str, goes: bool) -> None:
    over, stay = namespace.sorted_out([made(end=end)], NOW)
    assert (len(over) == 1) is goes
    assert ("may live until" in stay.get("drill-1", "")) is not goes


@pytest.mark.parametrize(
    "marks",
    [
        {"app.kubernetes.io/managed-by": "Helm"},
        {"app.kubernetes.io/managed-by": None},
        {"faultline.dev/drill": "denied"},
        {"faultline.dev/run": ""},
    ],
)
def test_what_lacks_one_of_our_marks_is_neither_removed_nor_named(marks: dict) -> None:
    assert namespace.sorted_out([made(**marks)], NOW) == ([], {})


def test_what_is_going_already_is_not_removed_again() -> None:
    found = made()
    found["metadata"]["deletionTimestamp"] = "2026-11-24T07:59:59Z"
    assert namespace.sorted_out([found], NOW) == ([], {"drill-1": "is being removed already"})


def test_what_holds_a_namespace_is_told_in_the_api_servers_words() -> None:
    rows = [
        {"type": "NamespaceDeletionContentFailure", "status": "False", "message": "all deleted"},
        {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "one remains"},
    ]
    assert namespace.remaining({"status": {"conditions": rows}}) == ["one remains"]
    assert namespace.remaining({}) == []
