# SPDX-License-Identifier: Apache-2.0
"""The role xid_inject before it touches anything: which faults it takes, for a drill and not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml

from tests.utils.roles import TREE, FaultlineError, Roles

XID = {"xid_inject_run_id": "run-1", "xid_inject_xid": 79}
BLOCKED = {"mode": "hang", "delay_microseconds": 500000}


def preflight(**more: Any) -> dict[str, Any]:
    """The facts that the preflight sets; raises FaultlineError with the role's own words."""
    return asyncio.run(Roles().role("xid_inject", "preflight", **XID | more))


@pytest.mark.parametrize("cuda", [BLOCKED, "mode=hang,delay_microseconds=500000"])
def test_a_mode_that_a_drill_can_show_passes_as_a_mapping_and_as_a_word(cuda: Any) -> None:
    found = preflight(xid_inject_cuda=cuda, xid_inject_drill=True)["xid_inject_effect"]
    assert (found["mode"], found["delay_microseconds"]) == ("hang", 500000)


def test_a_mode_that_a_drill_cannot_show_is_refused_with_those_that_it_can() -> None:
    with pytest.raises(FaultlineError, match=r"^A drill cannot show mode once: .*sticky, trans"):
        preflight(xid_inject_cuda="mode=once", xid_inject_drill=True)
    assert preflight(xid_inject_cuda="mode=once")["xid_inject_effect"]["mode"] == "once"


def test_what_cannot_be_is_refused_for_everybody() -> None:
    with pytest.raises(FaultlineError, match=r"^cuda.probability is above 0 and at most 1"):
        preflight(xid_inject_cuda={"probability": 1.5})


def test_the_drill_asks_before_it_makes_anything_and_hands_the_fault_on_as_it_was_asked() -> None:
    first, *_ = yaml.safe_load((TREE / "playbooks/phases/01_deploy.yml").read_text())
    assert "xid_inject" in first["vars"]["roles_to_check"]
    assert first["vars"]["xid_inject_drill"] is True
    (task,) = yaml.safe_load((TREE / "roles/xid_inject/tasks/inject.yml").read_text())
    given = task["faultline.gpu.gpu_fault"]
    assert given["cuda"] == "{{ xid_inject_cuda | default(omit, true) }}"
