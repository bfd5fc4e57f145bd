# SPDX-License-Identifier: Apache-2.0
"""The module dgd restarts a deployment, all of it or one component."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.modules import dgd
from fake_api import Api, Run
from graph_stage import ALPHA, operate, stored

Object = dict[str, Any]
RESTART = {"namespace": "drill", "name": "mock", "state": "restarted", "timeout": 5}


def ids(api: Api) -> dict[str, str | None]:
    """Restart variable of each component's main container."""
    found = {}
    for component in stored(api)["spec"]["components"]:
        env = component["podTemplate"]["spec"]["containers"][0].get("env") or []
        found[component["name"]] = next(
            (e["value"] for e in env if e["name"] == "FAULTLINE_RESTART_ID"), None
        )
    return found


def test_all_of_it_is_restarted_by_the_operators_own_field_once_for_each_id(
    deployed: Api, run: Run
) -> None:
    result = run(dgd, **RESTART, restart_id="r1")
    assert (result["changed"], result["restart_id"]) == (True, "r1")
    assert result["dgd"]["spec"]["restart"] == {"id": "r1"}
    assert result["seen"].endswith("restart r1 Completed")
    assert ids(deployed) == {"Frontend": None, "decode": None}
    assert run(dgd, **RESTART, restart_id="r1")["changed"] is False
    assert run(dgd, **RESTART, restart_id="r2")["changed"] is True


def test_only_the_field_that_whoever_restarted_last_owns_is_taken_by_force(
    deployed: Api, run: Run
) -> None:
    run(dgd, **RESTART, restart_id="r1")
    run(dgd, **RESTART, component="Frontend", restart_id="r2")
    assert deployed.writes == [
        "apply DynamoGraphDeployment mock as faultline-dgd-restart by force",
        "apply DynamoGraphDeployment mock as faultline-dgd-restart-component",
    ]


def test_a_restart_without_an_id_is_always_another_one(deployed: Api, run: Run) -> None:
    first, second = run(dgd, **RESTART), run(dgd, **RESTART)
    assert (first["changed"], second["changed"]) == (True, True)
    assert first["restart_id"] != second["restart_id"]


def test_a_restart_that_the_operator_does_not_end_is_waited_for(deployed: Api, run: Run) -> None:
    run(dgd, **RESTART, restart_id="r1")
    graph = stored(deployed)
    graph["status"]["restart"] = {
        "observedID": "r1", "phase": "Restarting", "inProgress": ["decode"],
    }  # fmt: skip
    deployed.put(graph)
    result = run(dgd, **(RESTART | {"timeout": 0.2}), restart_id="r1")
    assert "restart r1 Restarting (decode)" in result["msg"]


def test_one_component_is_restarted_by_its_pod_template_once_for_each_id(
    deployed: Api, run: Run
) -> None:
    result = run(dgd, **RESTART, component="frontend", restart_id="r1")
    assert result["changed"] is True
    assert "restart" not in result["dgd"]["spec"]
    assert ids(deployed) == {"Frontend": "r1", "decode": None}
    assert run(dgd, **RESTART, component="Frontend", restart_id="r1")["changed"] is False


def test_a_restart_leaves_the_marks_of_earlier_ones(deployed: Api, run: Run) -> None:
    run(dgd, **RESTART, component="Frontend", restart_id="r1")
    run(dgd, **RESTART, restart_id="r2")
    run(dgd, **RESTART, component="decode", restart_id="r3")
    # A mark that was gone would restart the other component, too.
    assert ids(deployed) == {"Frontend": "r1", "decode": "r3"}
    assert stored(deployed)["spec"]["restart"] == {"id": "r2"}


def test_a_component_of_a_v1alpha1_file_is_restarted_without_touching_its_envs(
    api: Api, run: Run
) -> None:
    operate(api)
    given = {"namespace": "drill", "definition": ALPHA}
    run(dgd, **given)
    assert run(dgd, **RESTART, component="vllmdecodeworker", restart_id="r1")["changed"] is True
    assert ids(api) == {"Frontend": None, "VllmDecodeWorker": "r1"}
    service = stored(api, "nvidia.com/v1alpha1")["spec"]["services"]["VllmDecodeWorker"]
    assert service["envs"] == ALPHA["spec"]["services"]["VllmDecodeWorker"]["envs"]
    assert run(dgd, **given)["changed"] is False
    assert ids(api)["VllmDecodeWorker"] == "r1"


@pytest.mark.parametrize("component", [None, "decode"])
def test_check_mode_restarts_nothing(deployed: Api, run: Run, component: str | None) -> None:
    before = stored(deployed)
    result = run(dgd, check=True, **RESTART, component=component, restart_id="r1")
    assert (result["changed"], result["restart_id"]) == (True, "r1")
    assert "r1" in str(result["diff"]["after"])
    assert (stored(deployed), deployed.writes) == (before, [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "other"}, "There is no DGD other in drill: deploy it first."),
        ({"component": "nope"}, "The DGD has no service 'nope': it has Frontend, decode."),
    ],
)
def test_what_is_not_there_cannot_be_restarted(
    deployed: Api, run: Run, options: Object, said: str
) -> None:
    assert run(dgd, **(RESTART | options))["msg"] == said
    assert deployed.writes == []
