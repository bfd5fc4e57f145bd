# SPDX-License-Identifier: Apache-2.0
"""The namespace of a drill is marked as its own, and goes when its time is over."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._namespace import EXPIRES, owner_labels
from ansible_collections.faultline.gpu.plugins.modules import drill_namespace
from fake_api import Api, Run

OVER, LATER = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
GIVEN = {"name": "drill-1", "run_id": "run-1"}


def namespace(name: str, end: str | None = OVER, **more: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "uid": f"uid-of-{name}", "labels": owner_labels("run-1")}
    if end:
        meta["annotations"] = {EXPIRES: end}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta | more}


def test_a_namespace_says_whose_it_is_and_until_when(api: Api, run: Run) -> None:
    result = run(drill_namespace, **GIVEN, ttl=60)
    assert result["changed"] is True
    meta = api.one("Namespace", "drill-1")["metadata"]
    assert meta["labels"] == {
        "faultline.dev/run": "run-1",
        "faultline.dev/drill": "allowed",
        "app.kubernetes.io/managed-by": "faultline.gpu",
    }
    assert meta["annotations"] == {EXPIRES: result["expires_at"]}
    assert result["diff"]["after"]["annotations"] == meta["annotations"]


def test_a_second_run_of_the_same_id_keeps_the_first_expiry_and_changes_nothing(
    api: Api, run: Run
) -> None:
    first = run(drill_namespace, **GIVEN, ttl=60)
    writes = list(api.writes)
    again = run(drill_namespace, **GIVEN, ttl=9999)
    assert again["changed"] is False
    assert again["expires_at"] == first["expires_at"]
    assert api.writes == writes


def test_a_namespace_prepared_by_hand_for_this_run_is_taken_over(api: Api, run: Run) -> None:
    labels = {"faultline.dev/run": "run-1", "team": "a"}
    api.put(namespace("drill-1", end=None, labels=labels))
    assert run(drill_namespace, **GIVEN)["changed"] is True
    assert api.one("Namespace", "drill-1")["metadata"]["labels"]["team"] == "a"
    assert run(drill_namespace, **GIVEN)["changed"] is False


def test_check_mode_makes_nothing(api: Api, run: Run) -> None:
    assert run(drill_namespace, check=True, **GIVEN)["changed"] is True
    assert (api.writes, api.all("Namespace")) == ([], [])


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (namespace("drill-1", labels={}), "Namespace drill-1 is there already and not of this run"),
        (namespace("drill-1", labels=owner_labels("run-2")), "not of this run"),
        (namespace("drill-1", deletionTimestamp=OVER), "Namespace drill-1 is being removed: wait"),
    ],
)
def test_a_namespace_of_others_or_on_its_way_out_is_refused(
    api: Api, run: Run, there: dict[str, Any], said: str
) -> None:
    api.put(there)
    result = run(drill_namespace, **GIVEN)
    assert result["failed"] is True
    assert said in result["msg"]
    assert api.writes == []


@pytest.fixture
def several(api: Api) -> Api:
    """Namespaces whose time is over, whose is not, and which are not ours."""
    for found in (
        namespace("over"),
        namespace("over-too", labels=owner_labels("run-2")),
        namespace("later", LATER),
        namespace("timeless", end=None),
        namespace(
            "theirs", labels={"faultline.dev/run": "run-1", "faultline.dev/drill": "allowed"}
        ),
        namespace("default", end=None, labels={}),
    ):
        api.put(found)
    return api


def test_only_our_namespaces_whose_time_is_over_are_swept(several: Api, run: Run) -> None:
    result = run(drill_namespace, state="swept")
    assert (result["changed"], result["removed"]) == (True, ["over", "over-too"])
    assert several.writes == ["delete Namespace over", "delete Namespace over-too"]
    assert sorted(result["kept"]) == ["later", "timeless"]
    assert result["seen"].startswith("over: over, over-too; later may live until 2999-01-01T00")
    again = run(drill_namespace, state="swept")
    assert (again["changed"], again["removed"]) == (False, [])


def test_a_sweep_in_check_mode_only_says_what_would_go(several: Api, run: Run) -> None:
    result = run(drill_namespace, state="swept", check=True)
    assert (result["changed"], result["removed"]) == (True, ["over", "over-too"])
    assert result["diff"]["before"] == {"namespaces": ["over", "over-too"]}
    assert several.writes == []


def test_a_namespace_that_does_not_go_is_named_with_what_holds_it(several: Api, run: Run) -> None:
    def held(found: dict[str, Any]) -> None:
        rows = [{"type": "x", "status": "True", "message": "nvidia.com/finalizer in 1 resource"}]
        several.put(found | {"status": {"conditions": rows}})

    several.deletes = held
    result = run(drill_namespace, state="swept", timeout=0.2)
    assert result["failed"] is True
    assert "over (nvidia.com/finalizer in 1 resource)" in result["msg"]


def test_a_namespace_made_anew_since_the_list_is_left_alone(several: Api, run: Run) -> None:
    several.remove(several.one("Namespace", "over-too"))
    listed = several.all

    def renewed(kind: str) -> list[dict[str, Any]]:
        rows = listed(kind)
        several.all = listed  # type: ignore[method-assign]
        several.put(namespace("over", uid="new"))
        return rows

    several.all = renewed  # type: ignore[method-assign]
    assert "failed" not in run(drill_namespace, state="swept")
    assert several.writes == []
    assert several.one("Namespace", "over")["metadata"]["uid"] == "new"
