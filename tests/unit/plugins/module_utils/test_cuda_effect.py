# SPDX-License-Identifier: Apache-2.0
"""How a fault shows in CUDA calls, as the drill's preflight sees it before there is a fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.faultline.gpu.plugins.filter.cuda_effect import cuda_effect
from ansible_collections.faultline.gpu.plugins.module_utils import _cuda_effect
from ansible_collections.faultline.gpu.plugins.modules import inference_probe

TREE = Path(__file__).parents[4]
BOTH = ["kernelLog", "cuda"]


def effect(cuda: Any, xid: Any = 79, drill: bool = False, **more: Any) -> dict[str, Any]:
    return cuda_effect(cuda, xid, **({"effects": BOTH, "duration": 900, "drill": drill} | more))


def problem(cuda: Any, xid: int = 79, drill: bool = True) -> str:
    (found,) = effect(cuda, xid, drill)["problems"]
    return str(found)


def test_what_is_not_said_is_as_the_xids_row_says() -> None:
    assert effect({}) == {
        "mode": "sticky",
        "classes": "SQITN",
        "code": 719,
        "delay_microseconds": 0,
        "problems": [],
    }
    hangs = effect({}, 119)
    assert (hangs["mode"], hangs["delay_microseconds"]) == ("hang", 6_000_000)
    told = effect({"mode": "slow", "delay_microseconds": 5, "classes": "Q"}, 119)
    assert (told["mode"], told["classes"], told["delay_microseconds"]) == ("slow", "Q", 5)
    assert effect({"mode": "sticky"}, 119)["delay_microseconds"] == 0
    assert effect({"delay_microseconds": 0, "mode": "hang"}, 119)["delay_microseconds"] == 0


def test_it_may_come_as_text_from_a_command_line() -> None:
    found = effect("mode=hang,delay_microseconds=500000", "79")
    assert (found["mode"], found["delay_microseconds"], found["problems"]) == ("hang", 500_000, [])


@pytest.mark.parametrize(
    ("cuda", "said"),
    [
        ({"mode": "flaky"}, "must be one of: sticky"),
        ("mode=flaky", "must be one of: sticky"),
        ({"colour": "red"}, "Supported parameters include"),
        ({"probability": "often"}, "probability"),
        ("sticky", "dict"),
        ({"mode": "slow"}, "slow needs cuda.delay_microseconds"),
    ],
)
def test_what_cannot_be_is_a_sentence(cuda: Any, said: str) -> None:
    assert said in problem(cuda, drill=False)
    assert problem(cuda, drill=True) == problem(cuda, drill=False)


def test_effects_and_duration_count_as_well() -> None:
    assert effect({"mode": "once"}, effects=["kernelLog"])["problems"]
    assert effect({"not_before_seconds": 60}, duration="60")["problems"]


def test_what_is_no_xid_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="number from 1 to 1000"):
        effect({}, 0)


@pytest.mark.parametrize(
    ("cuda", "xid"),
    [
        ({}, 79),
        ({}, 48),
        ({}, 119),
        ({"mode": "sticky", "classes": "Q"}, 79),
        ({"mode": "transient", "probability": 0.5}, 79),
        ({"mode": "hang", "delay_microseconds": 500000}, 79),
        ({"after_calls": 100}, 79),
        ({"target": {}}, 79),
    ],
)
def test_a_drill_can_show_what_fails_requests_by_an_engines_error(cuda: Any, xid: int) -> None:
    assert effect(cuda, xid, drill=True)["problems"] == []


@pytest.mark.parametrize(
    ("cuda", "xid", "said"),
    [
        ({"mode": "once"}, 79, "cannot show mode once"),
        ({"mode": "slow", "delay_microseconds": 5}, 79, "cannot show mode slow"),
        ({"mode": "genuine"}, 31, "cannot show mode genuine"),
        ({"mode": "hang"}, 79, "calls fail before clients give up"),
        ({"mode": "hang", "delay_microseconds": 30_000_000}, 79, "from 1 to 29999999"),
        ({"classes": "ITN"}, 79, "this fault is of ITN"),
        ({}, 143, "this fault is of IN"),
        ({}, 154, "this fault is of none"),
        ({"classes": "S"}, 154, "leaves running CUDA programs alone"),
        ({"not_before_seconds": 5}, 79, "must fail at once"),
        ({"target": {"rank": 0}}, 79, "chooses its GPU itself"),
    ],
)
def test_what_a_drill_cannot_show_it_refuses_and_others_may_do(
    cuda: Any, xid: int, said: str
) -> None:
    assert said in problem(cuda, xid)
    assert effect(cuda, xid, drill=False)["problems"] == []


def test_a_refused_mode_is_answered_with_those_that_a_drill_can_show() -> None:
    assert "can show the modes sticky, transient, and hang with an end" in problem({"mode": "once"})


def test_clients_give_up_when_the_load_says_so() -> None:
    options = yaml.safe_load(inference_probe.DOCUMENTATION)["options"]
    assert options["request_timeout"]["default"] == _cuda_effect.CLIENT_SECONDS


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"effects": ["cuda"]}, "both effects, and kernelLog is missing"),
        ({"effects": ["kernelLog"]}, "both effects, and cuda is missing"),
        ({"effects": []}, "kernelLog and cuda is missing"),
        ({"duration": 119}, "would end after 119 s, and a drill may need 120 s"),
    ],
)
def test_a_drill_needs_both_effects_and_time_to_see_them(more: dict[str, Any], said: str) -> None:
    (found,) = effect({}, drill=True, **more)["problems"]
    assert said in found
    assert effect({}, **more)["problems"] == []


def test_a_drills_shortest_fault_is_as_long_as_phase_five_may_wait() -> None:
    tasks = yaml.safe_load((TREE / "playbooks/phases/05_verify_fault.yml").read_text())
    given = [v for task in tasks for k, v in task.get("vars", {}).items() if k.endswith("_timeout")]
    waits = [re.fullmatch(r"{{ drill_verify_timeout \| default\((\d+)\) }}", v) for v in given]
    assert sum(int(wait[1]) for wait in waits if wait) == _cuda_effect.SHOWN_SECONDS
    assert all(waits)


@pytest.mark.parametrize("cuda", [5, 0, False, [], ["mode=hang"]])
def test_what_is_neither_a_mapping_nor_words_is_an_error_in_a_sentence(cuda: Any) -> None:
    said = f"cuda is a mapping, or key=value,key=value, not {cuda!r}."
    with pytest.raises(AnsibleFilterError, match=re.escape(said)):
        effect(cuda)
