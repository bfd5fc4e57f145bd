# SPDX-License-Identifier: Apache-2.0
"""What still works in a process whose context is poisoned, and what does not.

The driver's stand-in says 801 (not supported) where it is asked for what it has not: a call that
says so was passed on.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Lab

PASSED_ON = 801
QUERY = "call cuStreamGetFlags"


def test_a_query_about_a_context_may_be_the_first_to_tell_of_a_fault(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    assert one(QUERY)[0] == PASSED_ON
    every_lab.arm()
    assert one(QUERY)[0] == 719
    every_lab.page.write([])
    assert (one(QUERY)[0], one("sync")) == (719, 719), "what was hit before stays hit"
    seen = one.state()
    assert (seen["hits_by_class"], seen["first_function"]) == ({"S": 2, "Q": 1}, "cuStreamGetFlags")


@pytest.mark.parametrize(
    "how", [{"mode": mode} for mode in ("once", "transient", "hang", "slow")] + [{"classes": "QT"}]
)
def test_a_query_about_a_context_is_left_alone_while_nothing_is_poisoned(
    lab: Lab, session: Callable, how: dict[str, str]
) -> None:
    one = session()
    lab.arm(delay_us=30_000_000, **how)
    assert one(QUERY)[0] == PASSED_ON
    seen = one.state()
    assert (seen["hits"], seen["hung"], seen["delayed"]) == (0, 0, 0)


def test_a_query_about_a_context_is_not_among_the_calls_that_pass_first(
    lab: Lab, session: Callable
) -> None:
    one = session()
    lab.arm(after_calls=2)
    assert [one(QUERY)[0] for _ in range(3)] == [PASSED_ON] * 3
    assert one("allocs 3") == [0, 0, 719]
    assert one(QUERY)[0] == 719


@pytest.mark.parametrize(
    "name",
    ["cuMemCreate", "cuMemAddressReserve", "cuGraphCreate", "cuLibraryLoadData", "cuMemAlloc"],
)
def test_what_needs_no_context_goes_on_working_in_a_poisoned_process(
    lab: Lab, session: Callable, name: str
) -> None:
    one = session()
    lab.arm()
    assert one("sync") == 719
    assert one(f"call {name}")[0] == PASSED_ON


def test_a_poisoned_process_gets_no_second_context(every_lab: Lab, every_session: Callable) -> None:
    one = every_session()
    every_lab.arm(code_new=0)
    assert one("sync") == 719
    assert one("create") == 719
    assert one("retain") == 0, "the one that it has is counted up"


def test_after_the_end_of_a_poisoned_context_the_gpu_is_not_available(
    every_lab: Lab, every_session: Callable
) -> None:
    one = every_session()
    every_lab.arm(code_new=0)
    assert one("sync") == 719
    every_lab.page.write([])
    assert one("release") == 0
    assert one("retain") == 46
    assert one.state()["hits_by_class"] == {"Q": 1, "I": 1}
    assert every_session()("retain") == 0, "another process has it"


def test_a_process_with_a_context_of_its_own_making_is_no_new_process(
    lab: Lab, session: Callable
) -> None:
    one = session()
    lab.arm(classes="I", code_new=999)
    assert one("create") == 0
    assert session().codes[2] == 999


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("cuMemAlloc_v2", [0, 7]),
        ("cuMemGetInfo_v2", [0, 0]),
        ("cuStreamEndCapture", [7, 0]),
        ("cuEventCreate", [7, 7]),
        ("cuModuleLoadData", [7, 7]),
    ],
)
def test_a_failing_call_sets_the_results_to_zero_that_the_driver_does(
    every_lab: Lab, every_session: Callable, name: str, left: list[int]
) -> None:
    one = every_session()
    every_lab.arm()
    assert one("sync") == 719
    assert one(f"call {name}") == [719, *left]
