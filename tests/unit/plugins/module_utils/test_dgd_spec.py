# SPDX-License-Identifier: Apache-2.0
"""A DynamoGraphDeployment of either version: what it says of itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from dgd_graphs import MATRIX, SCHEMAS, graph_text, main, mapped, opened

Edit = Callable[[DeploymentSpec], Any]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_deployment_tells_what_it_is(schema: str, tmp_path: Path) -> None:
    spec = opened(tmp_path, graph_text(schema))
    assert (spec.schema, spec.api_version) == (schema, f"nvidia.com/{schema}")
    assert (spec.name, spec.namespace) == ("agg", None)
    assert (spec.endpoint, spec.port, spec.system_port) == ("/v1/chat/completions", 8000, 9090)
    assert [s.name for s in spec.services] == ["Frontend", "decode"]
    assert spec.worker_names() == ["decode"]
    assert spec.frontend_service.name == "Frontend"
    assert spec.spec() == yaml.safe_load(graph_text(schema))
    url = "http://agg-frontend.drill.svc.cluster.local:8000"
    assert spec.in_cluster_frontend_url("drill") == url
    with pytest.raises(FaultlineError, match="names no namespace"):
        spec.in_cluster_frontend_url()
    spec.namespace = "drill"
    assert spec.in_cluster_frontend_url() == url


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_service_tells_what_it_is(schema: str) -> None:
    spec = mapped(schema)
    decode, frontend = spec["decode"], spec["Frontend"]
    assert (decode.component_type, decode.sub_component_type) == (
        ("worker", "decode") if schema == "v1alpha1" else ("decode", "decode")
    )
    assert (frontend.component_type, frontend.sub_component_type) == ("frontend", None)
    assert decode.image == "registry.example/runtime:1.6.1"
    assert (decode.gpus, frontend.gpus) == (1, 0)
    assert (decode.is_worker, frontend.is_worker) == (True, False)
    assert (frontend.model, frontend.backend, frontend.envs) == (None, "unknown", [])


@pytest.mark.parametrize("schema", SCHEMAS)
def test_replicas_that_are_not_given_are_one(schema: str) -> None:
    assert mapped(schema)["Frontend"].replicas == 1
    assert mapped(schema).get_service_replicas("decode") == 2


@pytest.mark.parametrize(
    ("graph", "schema"),
    [
        ({"apiVersion": "nvidia.com/v1alpha1"}, "v1alpha1"),
        ({"apiVersion": "nvidia.com/v1beta1", "spec": {}}, "v1beta1"),
        ({"spec": {"components": []}}, "v1beta1"),
        ({"spec": {"services": {}}}, "v1alpha1"),
        ({"apiVersion": "nvidia.com/v1", "spec": {"components": []}}, "v1beta1"),
        ({}, "v1alpha1"),
    ],
)
def test_the_version_is_what_the_object_says_else_what_it_looks_like(
    graph: dict, schema: str
) -> None:
    assert DeploymentSpec.from_mapping({"kind": "DynamoGraphDeployment", **graph}).schema == schema


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        ({"kind": "Deployment"}, "The definition is of kind Deployment: expected a Dynamo"),
        ({}, "is of kind unknown: expected a DynamoGraph"),
        (
            {"kind": "DynamoGraphDeployment", "apiVersion": "apps/v1"},
            "is of apps/v1: expected nvidia.com/v1alpha1 or /v1beta1",
        ),
        (
            {
                "kind": "DynamoGraphDeployment",
                "apiVersion": "nvidia.com/v1beta1",
                "spec": {"services": {}},
            },
            "is of v1beta1, which has no spec.services: expected spec.components",
        ),
    ],
)
def test_what_is_no_dgd_is_refused(graph: dict, sentence: str) -> None:
    with pytest.raises(FaultlineError, match=sentence):
        DeploymentSpec.from_mapping(graph)


@pytest.mark.parametrize(("schema", "backend", "style"), MATRIX)
def test_the_backend_is_what_the_command_line_runs(schema: str, backend: str, style: str) -> None:
    spec = mapped(schema, backend=backend, style=style)
    assert spec.backend == spec["decode"].backend == backend


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(
    ("command", "framework", "expected"),
    [
        (["python3", "-m", "dynamo.mocker"], None, "mocker"),
        (["python3", "-m", "dynamo.mocker"], "vllm", "mocker"),
        (["python3", "-m", "dynamo.sglang.worker"], None, "sglang"),
        (["python3", "-m", "lab_engine"], None, "unknown"),
        (["python3", "-m", "lab_engine"], "trtllm", "trtllm"),
        (["python3", "-m", "dynamo.planner"], None, "unknown"),
    ],
)
def test_other_commands_and_what_the_deployment_says_of_them(
    schema: str, command: list[str], framework: str | None, expected: str
) -> None:
    def change(graph: dict) -> None:
        main(graph)["command"] = command
        if framework:
            graph["spec"]["backendFramework"] = framework

    assert mapped(schema, change).backend == expected


def test_workers_of_two_backends_make_an_unknown_one() -> None:
    def change(graph: dict) -> None:
        other = copy.deepcopy(graph["spec"]["components"][1]) | {"name": "p", "type": "prefill"}
        main_container = other["podTemplate"]["spec"]["containers"][0]
        main_container["command"] = ["python3", "-m", "dynamo.sglang"]
        graph["spec"]["components"].append(other)

    spec = mapped("v1beta1", change)
    assert spec.backend == "unknown"
    assert spec.worker_names() == ["decode", "p"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_names_fit_in_any_case_as_long_as_only_one_does(schema: str) -> None:
    assert mapped(schema).get_service("FRONTEND").name == "Frontend"


def test_of_two_names_that_fit_in_any_case_none_is_taken() -> None:
    both = {"Decode": {"replicas": 5}, "decode": {"replicas": 6}}
    spec = mapped("v1alpha1", lambda g: g["spec"].update({"services": both}))
    assert spec["decode"].replicas == 6
    with pytest.raises(FaultlineError, match="no service 'DECODE': it has Decode, decode"):
        spec.get_service("DECODE")
