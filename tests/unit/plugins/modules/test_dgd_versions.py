# SPDX-License-Identifier: Apache-2.0
"""The module dgd with files of both API versions, its edits, and whose an object is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.modules import dgd
from fake_api import Api, Run
from graph_stage import ALPHA, DEFINITION, KIND, WORKER, copied, operate, stored

Object = dict[str, Any]
BOTH = pytest.mark.parametrize("definition", [ALPHA, DEFINITION], ids=["v1alpha1", "v1beta1"])
LONG: Object = {"namespace": "drill", "timeout": 5}
RUN = {"faultline.dev/run": "run-2"}


def spec_after(api: Api, definition: Object) -> Object:
    """The specification in the version of the definition."""
    found: Object = stored(api, definition["apiVersion"])["spec"]
    return found


@BOTH
def test_a_deployment_of_either_version_is_applied_as_it_is_written_and_read_back_as_v1beta1(
    api: Api, run: Run, definition: Object
) -> None:
    operate(api)
    result = run(dgd, **LONG, definition=definition)
    assert result["changed"] is True
    assert "2 workers Ready" in result["seen"]
    assert result["dgd"]["apiVersion"] == "nvidia.com/v1beta1"
    entry = result["dgd"]["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["apiVersion"]) == ("faultline-dgd", definition["apiVersion"])
    assert result["diff"]["after"].keys() == definition["spec"].keys()
    again = run(dgd, **LONG, definition=definition)
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"]


@BOTH
def test_a_file_does_the_same_as_a_definition(
    api: Api, run: Run, definition: Object, tmp_path: Path
) -> None:
    operate(api)
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(definition))
    assert run(dgd, **LONG, src=str(path))["changed"] is True
    assert run(dgd, **LONG, definition=definition)["changed"] is False
    assert yaml.safe_load(path.read_text()) == definition
    both = run(dgd, **LONG, src=str(path), definition=definition)
    assert "mutually exclusive: definition|src" in both["msg"]


def test_a_definition_without_a_version_is_applied_in_the_one_it_looks_like(
    api: Api, run: Run
) -> None:
    operate(api)
    bare = {k: v for k, v in ALPHA.items() if k != "apiVersion"}
    assert run(dgd, **LONG, definition=bare)["changed"] is True
    assert run(dgd, **LONG, definition=ALPHA)["changed"] is False


EDITS: dict[str, Object] = {
    "image": {"image": "localhost/other:2.0.0"},
    "replicas": {"replicas": {"frontend": 3}},
    "envs": {"envs": {"NCCL_DEBUG": "INFO", "COUNT": 3}},
    "logging": {"logging": {"level": "trace"}},
    "router_mode": {"router_mode": "kv"},
    "grove": {"grove": False},
    "grove on": {"grove": True},
}


@pytest.mark.parametrize("edit", EDITS)
@BOTH
def test_an_edit_is_made_in_what_is_applied_and_the_second_run_changes_nothing(
    api: Api, run: Run, definition: Object, edit: str
) -> None:
    operate(api)
    run(dgd, **LONG, definition=definition)
    given = {**LONG, "definition": definition} | EDITS[edit]
    writes = list(api.writes)
    planned = run(dgd, check=True, **given)
    assert (planned["changed"], api.writes) == (True, writes)
    assert run(dgd, **given)["changed"] is True
    assert run(dgd, **given)["changed"] is False


@BOTH
def test_edits_say_what_they_are_named_for(api: Api, run: Run, definition: Object) -> None:
    operate(api)
    every: Object = {}
    for edit in EDITS.values():
        every |= edit
    result = run(dgd, **LONG, definition=definition, **every)
    frontend, worker = result["dgd"]["spec"]["components"]
    main = worker["podTemplate"]["spec"]["containers"][0]
    assert main["image"] == "localhost/other:2.0.0"
    env = {e["name"]: e.get("value") for e in main["env"]}
    assert (env["NCCL_DEBUG"], env["COUNT"]) == ("INFO", "3")
    assert frontend["replicas"] == 3
    routes = frontend["podTemplate"]["spec"]["containers"][0]["env"]
    assert routes == [{"name": "DYN_ROUTER_MODE", "value": "kv"}]
    logs = {e["name"]: e["value"] for e in result["dgd"]["spec"]["env"]}
    assert (logs["DYN_LOGGING_JSONL"], logs["DYN_LOG"]) == ("true", "trace")
    assert result["dgd"]["metadata"]["annotations"]["nvidia.com/enable-grove"] == "true"


def test_model_and_tensor_parallel_are_those_of_the_engine(api: Api, run: Run) -> None:
    definition = copied(DEFINITION)
    main = definition["spec"]["components"][1]["podTemplate"]["spec"]["containers"][0]
    main |= {"command": ["python3", "-m", "dynamo.vllm"], "args": ["--model", "org/old"]}
    options = {"model": "org/new", "tensor_parallel": 2}
    result = run(dgd, check=True, **LONG, definition=definition, **options)
    after = result["dgd"]["spec"]["components"][1]["podTemplate"]["spec"]["containers"][0]
    assert after["args"] == ["--model", "org/new", "--tensor-parallel-size", "2"]
    assert after["resources"]["limits"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "a b"}, "The image of service Frontend must be a text without spaces"),
        ({"replicas": {"nope": 1}}, "The DGD has no service 'nope': it has Frontend"),
        ({"replicas": {"Frontend": -1}}, "The replicas of service Frontend must be a whole"),
        ({"replicas": {"Frontend": "2"}}, "must be a whole number of at least 0, not '2'"),
        ({"envs": {"A": True}}, "The value of the variable A must be a text, not True: quote it."),
        ({"envs": {"A": ["x"]}}, "The value of the variable A must be a text, not ['x']"),
        ({"logging": {"level": ""}}, "The log level must be a text"),
        ({"tensor_parallel": 2}, "Service"),
        ({"name": "Not_A_Name"}, "The name of a DGD must be at most 63 small letters"),
        ({"namespace": "Drill"}, "A namespace must be at most 63 small letters"),
        ({"src": "/nowhere/x.yaml", "definition": None}, "Cannot read /nowhere/x.yaml"),
    ],
)
@BOTH
def test_what_the_deployment_cannot_take_is_said_before_anything_is_touched(
    api: Api, run: Run, definition: Object, options: Object, said: str
) -> None:
    result = run(dgd, **({**LONG, "definition": definition} | options))
    assert result["failed"] is True
    assert said in result["msg"]
    assert (api.writes, api.lists) == ([], [])


def test_variables_for_workers_need_a_worker(api: Api, run: Run) -> None:
    definition = copied(DEFINITION)
    definition["spec"]["components"].pop()
    result = run(dgd, **LONG, definition=definition, envs={"A": "1", "B": "2"})
    assert result["msg"] == "The DGD has no worker to set A, B in."


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("label", "whose"),
    [
        (None, "has no label faultline.dev/run"),
        ("run-1", "belongs to run run-1"),
        ("run-2", None),
    ],
)
def test_what_is_not_of_this_run_is_refused_with_a_way_out(
    deployed: Api, run: Run, label: str | None, whose: str | None, check: bool
) -> None:
    graph = stored(deployed)
    graph["metadata"]["labels"] |= {"faultline.dev/run": label} if label else {}
    deployed.put(graph)
    given = {**LONG, "definition": DEFINITION, "labels": RUN}
    result = run(dgd, check=check, **given)
    if whose is None:
        assert result["changed"] is False
        return
    assert result["msg"] == (
        f"DGD mock is in drill already and {whose}, not to run run-2: remove it, choose another "
        "name, or take it over with `adopt: true`."
    )
    assert deployed.writes == []


def test_without_a_run_nobody_is_a_stranger(deployed: Api, run: Run) -> None:
    assert run(dgd, **LONG, definition=DEFINITION, labels={"x": "y"})["changed"] is True


def test_what_is_adopted_is_ours_and_its_fields_are_taken(api: Api, run: Run) -> None:
    operate(api)
    theirs = copied(ALPHA)
    theirs["metadata"] |= {"namespace": "drill"}
    api.cluster().apply(theirs, "somebody")
    ours = copied(ALPHA)
    ours["spec"]["services"]["VllmDecodeWorker"]["envs"] = [{"name": "B", "value": "2"}]
    given = {**LONG, "definition": ours, "labels": RUN}
    assert "take it over" in run(dgd, **given)["msg"]
    result = run(dgd, **given, adopt=True)
    assert result["changed"] is True
    assert result["dgd"]["metadata"]["labels"]["faultline.dev/run"] == "run-2"
    service = stored(api, "nvidia.com/v1alpha1")["spec"]["services"]["VllmDecodeWorker"]
    assert service["envs"] == [{"name": "B", "value": "2"}]


def test_adopting_what_is_ours_takes_nothing_from_others(api: Api, run: Run) -> None:
    operate(api)
    theirs = copied(ALPHA)
    theirs["metadata"] |= {"namespace": "drill", "labels": RUN}
    api.cluster().apply(theirs, "somebody")
    ours = copied(ALPHA)
    ours["spec"]["services"]["VllmDecodeWorker"]["envs"] = [{"name": "B", "value": "2"}]
    result = run(dgd, **LONG, definition=ours, labels=RUN, adopt=True)
    assert (
        "somebody (as nvidia.com/v1alpha1) owns spec.services.VllmDecodeWorker.envs"
        in (result["msg"])
    )
    assert result["status"] == 409


def test_the_kind_of_everything_here_is_the_one_that_is_applied() -> None:
    assert {DEFINITION["kind"], ALPHA["kind"]} == {KIND}
    assert set(WORKER) == {DEFINITION["apiVersion"], ALPHA["apiVersion"]}
