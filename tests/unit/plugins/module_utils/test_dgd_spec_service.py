# SPDX-License-Identifier: Apache-2.0
"""One service of a DGD: where each version keeps a thing, and which of two places counts."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from dgd_graphs import SCHEMAS

from lab.operator.convert import to_beta

VLLM = {"command": ["python3", "-m", "dynamo.vllm"], "args": ["--model", "a/b"]}


def alpha(**service: Any) -> DeploymentSpec:
    """A v1alpha1 deployment with the service `x`."""
    return DeploymentSpec.from_mapping(
        {
            "apiVersion": "nvidia.com/v1alpha1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": "g"},
            "spec": {"services": {"x": {"componentType": "worker", **service}}},
        }
    )


def beta(main: dict | None = None, pod: dict | None = None, **component: Any) -> DeploymentSpec:
    """A v1beta1 deployment with the component `x`."""
    containers = [] if main is None else [{"name": "main", **main}]
    template = {"spec": {"containers": containers, **(pod or {})}}
    return DeploymentSpec.from_mapping(
        {
            "apiVersion": "nvidia.com/v1beta1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": "g"},
            "spec": {
                "components": [{"name": "x", "type": "worker", "podTemplate": template} | component]
            },
        }
    )


def service(spec: DeploymentSpec) -> dict:
    held = spec.spec()["spec"]
    found = held["services"]["x"] if "services" in held else held["components"][0]
    return {k: v for k, v in found.items() if k not in ("componentType", "name", "type")}


def main_of(spec: DeploymentSpec) -> dict:
    """The main container as the operator would run it."""
    graph = spec.spec()
    graph = to_beta(graph) if "services" in graph["spec"] else graph
    containers = graph["spec"]["components"][0]["podTemplate"]["spec"]["containers"]
    return next(c for c in containers if c["name"] == "main")


def test_an_image_makes_the_container_that_it_belongs_to() -> None:
    spec = alpha()
    spec["x"].image = "a:1.0.0"
    assert service(spec) == {"extraPodSpec": {"mainContainer": {"image": "a:1.0.0"}}}
    spec = beta()
    spec["x"].image = "a:1.0.0"
    assert main_of(spec) == {"name": "main", "image": "a:1.0.0"}
    spec = DeploymentSpec.from_mapping(
        {"kind": "DynamoGraphDeployment", "spec": {"components": [{"name": "x"}]}}
    )
    spec["x"].image = "a:1.0.0"
    assert main_of(spec) == {"name": "main", "image": "a:1.0.0"}


def test_a_service_without_a_word_about_it_can_be_edited() -> None:
    graph = {"kind": "DynamoGraphDeployment", "spec": {"services": {"x": None}}}
    spec = DeploymentSpec.from_mapping(graph)
    assert (spec["x"].image, spec["x"].replicas, spec["x"].is_worker) == (None, 1, False)
    assert spec.spec() == graph
    spec["x"].replicas = 2
    assert spec.spec()["spec"]["services"] == {"x": {"replicas": 2}}


GPU = "nvidia.com/gpu"
ALPHA_GPUS = [
    {"resources": {"limits": {"gpu": "2"}}},
    {"resources": {"limits": {"gpu": 2}}},
    {"resources": {"limits": {"gpu": "2"}, "requests": {"gpu": "2"}}},
    {"resources": {"requests": {"gpu": "2"}}},
    {"resources": {"limits": {"custom": {GPU: "2"}}}},
    {"extraPodSpec": {"mainContainer": {"resources": {"limits": {GPU: "2"}}}}},
    {
        "resources": {"limits": {"gpu": "1"}},
        "extraPodSpec": {"mainContainer": {"resources": {"limits": {GPU: "2"}}}},
    },
]


@pytest.mark.parametrize("fields", ALPHA_GPUS)
def test_gpus_are_those_that_the_operator_gives_wherever_alpha_has_them(fields: dict) -> None:
    spec = alpha(**fields)
    assert spec["x"].gpus == 2
    resources = main_of(spec)["resources"]
    assert str((resources.get("limits") or resources["requests"])[GPU]) == "2"
    spec["x"].gpus = 4
    assert spec["x"].gpus == 4
    resources = main_of(spec)["resources"]
    assert {str(section[GPU]) for section in resources.values()} == {"4"}
    assert resources["limits"]


def test_gpus_go_to_limits_and_to_requests_only_where_these_are() -> None:
    spec = beta({})
    spec["x"].gpus = 2
    assert main_of(spec)["resources"] == {"limits": {GPU: "2"}}
    spec = beta({"resources": {"limits": {GPU: 1, "cpu": "1"}, "requests": {GPU: "1"}}})
    spec["x"].gpus = 2
    resources = {"limits": {GPU: 2, "cpu": "1"}, "requests": {GPU: "2"}}
    assert main_of(spec)["resources"] == resources
    spec = alpha()
    spec["x"].gpus = 2
    assert service(spec) == {"resources": {"limits": {"gpu": "2"}}}


def test_gpus_that_are_no_number_are_a_sentence() -> None:
    with pytest.raises(FaultlineError, match="Service x asks for 'many' GPUs"):
        _ = beta({"resources": {"limits": {GPU: "many"}}})["x"].gpus


def test_of_two_alpha_variables_of_one_name_the_one_that_counts_is_read_and_set() -> None:
    spec = alpha(
        envs=[{"name": "A", "value": "outer"}, {"name": "B", "value": "b"}],
        extraPodSpec={"mainContainer": {"env": [{"name": "A", "value": "inner"}]}},
    )
    assert spec["x"].envs == main_of(spec)["env"]
    spec["x"].set_env_var("A", "new")
    assert spec["x"].get_env_var("A") == "new"
    assert named(main_of(spec)["env"]) == {"A": "new", "B": "b"}
    spec["x"].set_env_var("C", "c")
    assert service(spec)["envs"][-1] == {"name": "C", "value": "c"}


def named(entries: list[dict]) -> dict:
    return {e["name"]: e.get("value") for e in entries}


@pytest.mark.parametrize(
    "spec",
    [
        alpha(
            envs=[{"name": "A", "value": "1"}],
            extraPodSpec={"mainContainer": {"env": [{"name": "B", "value": "2"}]}},
        ),
        beta({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
    ],
    ids=SCHEMAS,
)
def test_all_variables_can_be_replaced(spec: DeploymentSpec) -> None:
    new = [{"name": "C", "value": "3"}]
    spec["x"].envs = new
    assert spec["x"].envs == main_of(spec)["env"] == new


def test_a_variable_from_elsewhere_becomes_a_value() -> None:
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    spec = beta({"env": [{"name": "A", "valueFrom": secret}, {"name": "B", "value": "b"}]})
    assert spec["x"].get_env_var("A") is None
    spec["x"].set_env_var("A", "plain")
    assert main_of(spec)["env"] == [
        {"name": "A", "value": "plain"},
        {"name": "B", "value": "b"},
    ]


def test_a_sidecar_is_where_the_version_has_it() -> None:
    spec = alpha(frontendSidecar={"image": "a:1", "args": []})
    assert spec["x"].frontend_sidecar_image == "a:1"
    spec.set_frontend_sidecar_image("a:2")
    assert service(spec) == {"frontendSidecar": {"image": "a:2", "args": []}}
    for name, said in (("sidecar-frontend", {}), ("side", {"frontendSidecar": "side"})):
        spec = beta({"image": "m:1"}, {"containers": [{"name": name, "image": "a:1"}]}, **said)
        assert spec["x"].frontend_sidecar_image == "a:1"
        spec["x"].frontend_sidecar_image = "a:2"
        assert service(spec)["podTemplate"]["spec"]["containers"] == [
            {"name": name, "image": "a:2"}
        ]
    assert beta({"image": "m:1"})["x"].frontend_sidecar_image is None


PROBE = {
    "httpGet": {"path": "/health", "port": 9090},
    "initialDelaySeconds": 0,
    "periodSeconds": 10,
    "timeoutSeconds": 4,
    "failureThreshold": 3,
}


@pytest.mark.parametrize(
    "spec",
    [
        alpha(readinessProbe={"exec": {"command": ["a"]}}),
        alpha(extraPodSpec={"mainContainer": {"readinessProbe": {"exec": {"command": ["a"]}}}}),
        beta({"readinessProbe": {"exec": {"command": ["a"]}}}),
        beta(),
    ],
)
def test_a_readiness_probe_replaces_the_one_that_counts(spec: DeploymentSpec) -> None:
    spec["x"].set_readiness_probe()
    assert main_of(spec)["readinessProbe"] == PROBE
    spec["x"].set_readiness_probe(period=1, path="/live", port=8000)
    assert main_of(spec)["readinessProbe"] == PROBE | {
        "httpGet": {"path": "/live", "port": 8000},
        "periodSeconds": 1,
    }


@pytest.mark.parametrize("spec", [alpha(), beta({"image": "a:1"}), beta()])
def test_the_grace_period_is_the_pods(spec: DeploymentSpec) -> None:
    spec["x"].set_termination_grace_period()
    graph = spec.spec()
    graph = to_beta(graph) if "services" in graph["spec"] else graph
    pod = graph["spec"]["components"][0]["podTemplate"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 60


@pytest.mark.parametrize(
    ("kind", "sub", "is_worker"),
    [
        ("worker", None, True),
        ("worker", "prefill", True),
        ("decode", None, True),
        ("prefill", None, True),
        ("frontend", None, False),
        ("planner", "decode", False),
        (None, None, False),
    ],
)
def test_workers_are_those_of_the_operator_in_both_versions(
    kind: str | None, sub: str | None, is_worker: bool
) -> None:
    spec = alpha(componentType=kind, subComponentType=sub)
    assert spec["x"].is_worker is is_worker
    converted = DeploymentSpec.from_mapping(to_beta(spec.spec()))
    assert converted.worker_names() == spec.worker_names() == (["x"] if is_worker else [])


OVERRIDE = ["--override-engine-args", '{"tensor_parallel_size": 4}']


def engine(backend: str, *args: str, gpus: str = "1", **fields: Any) -> DeploymentSpec:
    main = {
        "command": ["python3", "-m", f"dynamo.{backend}"],
        "args": list(args),
        "resources": {"limits": {GPU: gpus}},
    }
    return beta(main, **fields)


@pytest.mark.parametrize(
    ("backend", "args", "before", "after"),
    [
        ("vllm", [], 1, ["--tensor-parallel-size", "4"]),
        ("vllm", ["-tp", "2"], 2, ["-tp", "4"]),
        ("vllm", ["-tp=2", "--x"], 2, ["-tp=4", "--x"]),
        ("vllm", ["--tensor-parallel-size=2"], 2, ["--tensor-parallel-size=4"]),
        ("sglang", [], 1, ["--tp", "4"]),
        ("sglang", ["--tp", "2", "--tp-size", "2"], 2, ["--tp", "4", "--tp-size", "4"]),
        ("sglang", ["--tp-size=8"], 8, ["--tp-size=4"]),
        ("trtllm", [], 1, OVERRIDE),
        (
            "trtllm",
            ["--extra-engine-args", "e.yaml"],
            None,
            ["--extra-engine-args", "e.yaml", *OVERRIDE],
        ),
        (
            "trtllm",
            ["--override-engine-args", '{"tensor_parallel_size": 2, "a": {"b": 1}}'],
            2,
            ["--override-engine-args", '{"tensor_parallel_size": 4, "a": {"b": 1}}'],
        ),
        (
            "trtllm",
            ["--tensor-parallel-size", "2"],
            2,
            ["--tensor-parallel-size", "4", *OVERRIDE],
        ),
        (
            "trtllm",
            ["--override-engine-args={}", "--extra-engine-args=e.yaml"],
            None,
            ['--override-engine-args={"tensor_parallel_size": 4}', "--extra-engine-args=e.yaml"],
        ),
    ],
)
def test_tensor_parallelism_is_said_in_the_engines_own_way(
    backend: str, args: list[str], before: int | None, after: list[str]
) -> None:
    spec = engine(backend, *args)
    assert spec["x"].tensor_parallel_size == before
    spec["x"].tensor_parallel_size = 4
    assert main_of(spec)["args"] == after
    assert (spec["x"].tensor_parallel_size, spec["x"].gpus) == (4, 4)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (engine("vllm", gpus="0"), "it asks for no GPU"),
        (engine("mocker"), "`python3 -m dynamo.mocker` runs none of vllm, sglang, trtllm"),
        (engine("vllm", multinode={"nodeCount": 2}), "a replica of it spans 2 nodes"),
        (engine("trtllm", "--override-engine-args", "[1]"), "is no JSON object: '[1]'"),
        (engine("trtllm", "--override-engine-args", "{a"), "is no JSON object: '{a'"),
    ],
)
def test_tensor_parallelism_that_cannot_be_set_is_a_sentence(
    spec: DeploymentSpec, sentence: str
) -> None:
    before = spec.spec()
    with pytest.raises(FaultlineError) as caught:
        spec.set_tensor_parallel(2, ["x"])
    assert sentence in str(caught.value)
    assert spec.spec() == before


def test_a_size_that_is_no_number_is_a_sentence() -> None:
    with pytest.raises(FaultlineError, match="size of service x is 'two'"):
        _ = engine("vllm", "-tp", "two")["x"].tensor_parallel_size


def test_a_script_without_an_engine_takes_no_flag() -> None:
    script = {"command": ["sh", "-c"], "args": ["prepare; serve"]}
    spec = beta(script | {"resources": {"limits": {GPU: "1"}}})
    graph = spec.spec()
    graph["spec"]["backendFramework"] = "vllm"
    spec = DeploymentSpec.from_mapping(graph)
    with pytest.raises(FaultlineError, match="no command of its script runs an engine"):
        spec.set_tensor_parallel(2)
    with pytest.raises(FaultlineError, match="Where in the script of service x does --a belong"):
        spec["x"].set_arg("--a", "1")
    assert spec.spec() == graph


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--model", "a"], ["--model", "new"]),
        (
            ["--model-path", "a", "--model-name", "b"],
            ["--model-path", "new", "--model-name", "new"],
        ),
        (
            ["--model=a", "--served-model-name=a", "--tokenizer=a"],
            ["--model=new", "--served-model-name=new", "--tokenizer=a"],
        ),
        (["--model", "a", "--model-path", "b"], ["--model", "new", "--model-path", "new"]),
    ],
)
def test_a_model_is_set_in_every_flag_that_names_it(before: list[str], after: list[str]) -> None:
    spec = engine("vllm", *before)
    spec.set_model("new")
    assert main_of(spec)["args"] == after
    assert (spec["x"].model, spec["x"].served_model_name) == ("new", "new")


def test_a_path_may_be_served_by_another_name() -> None:
    spec = engine("sglang", "--model-path", "/models/a", "--served-model-name", "org/a")
    assert (spec["x"].model, spec["x"].served_model_name) == ("/models/a", "org/a")
    spec["x"].set_arg("--served-model-name", "org/b")
    assert (spec["x"].model, spec["x"].served_model_name) == ("/models/a", "org/b")


def test_a_planner_that_names_a_model_follows_it() -> None:
    graph = engine("vllm", "--model", "a").spec()
    planner = {"command": ["python3", "-m", "dynamo.planner"], "args": ["--model-path=a"]}
    template = {"spec": {"containers": [{"name": "main", **planner}]}}
    graph["spec"]["components"].append(
        {"name": "planner", "type": "planner", "podTemplate": template}
    )
    spec = DeploymentSpec.from_mapping(graph)
    spec.set_model("new")
    assert [s.model for s in spec.services] == ["new", "new"]
