# SPDX-License-Identifier: Apache-2.0
"""A DynamoGraphDeployment of either version: what its setters change, and when they do not."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from dgd_graphs import MATRIX, MODEL, SCHEMAS, graph_text, mapped, opened, worker

Edit = Callable[[DeploymentSpec], Any]


# Each edit with what can be read back after it.
EDITS: dict[str, tuple[Edit, Edit, Any]] = {
    "name": (lambda s: setattr(s, "name", "run-1"), lambda s: s.name, "run-1"),
    "namespace": (lambda s: setattr(s, "namespace", "drill"), lambda s: s.namespace, "drill"),
    "model": (
        lambda s: s.set_model("org/new"),
        lambda s: (s["decode"].model, s["decode"].served_model_name),
        ("org/new", "org/new"),
    ),
    "model of one": (
        lambda s: s.set_model("org/new", "decode"),
        lambda s: s["decode"].model,
        "org/new",
    ),
    "image": (
        lambda s: s.set_image("registry.example/other:2.0.0"),
        lambda s: {x.image for x in s.services},
        {"registry.example/other:2.0.0"},
    ),
    "image of one": (
        lambda s: s.set_image("other:2.0.0", "Frontend"),
        lambda s: [x.image for x in s.services],
        ["other:2.0.0", "registry.example/runtime:1.6.1"],
    ),
    "tensor parallel": (
        lambda s: s.set_tensor_parallel(4),
        lambda s: [(x.tensor_parallel_size, x.gpus) for x in s.services],
        [(None, 0), (4, 4)],
    ),
    "tensor parallel of one": (
        lambda s: s.set_tensor_parallel(2, ["decode"]),
        lambda s: (s["decode"].tensor_parallel_size, s["decode"].gpus),
        (2, 2),
    ),
    "gpus": (lambda s: setattr(s["decode"], "gpus", 8), lambda s: s["decode"].gpus, 8),
    "logging": (
        lambda s: s.set_logging(),
        lambda s: s.get_logging_config(),
        {"jsonl_enabled": True, "log_level": "debug"},
    ),
    "logging off": (
        lambda s: s.set_logging(enable_jsonl=False, log_level="info"),
        lambda s: s.get_logging_config(),
        {"jsonl_enabled": False, "log_level": "info"},
    ),
    "environment": (
        lambda s: s.set_service_env_var("decode", "NCCL_DEBUG", "yes"),
        lambda s: s.get_service_env_vars("decode"),
        [{"name": "NCCL_DEBUG", "value": "yes"}],
    ),
    "argument": (
        lambda s: s.add_arg_to_service("decode", "--block-size", "16"),
        lambda s: s["decode"].command_line.get("--block-size"),
        "16",
    ),
    "argument without value": (
        lambda s: s.add_arg_to_service("decode", "--enforce-eager"),
        lambda s: s["decode"].command_line.has("--enforce-eager"),
        True,
    ),
    "replicas": (
        lambda s: s.set_service_replicas("decode", 0),
        lambda s: s.get_service_replicas("decode"),
        0,
    ),
    "replicas that were not given": (
        lambda s: s.set_service_replicas("Frontend", 3),
        lambda s: s.get_service_replicas("Frontend"),
        3,
    ),
    "grove": (
        lambda s: s.disable_grove(),
        lambda s: s.spec()["metadata"]["annotations"],
        {"nvidia.com/enable-grove": "false"},
    ),
    "router": (
        lambda s: s.set_router_mode("kv"),
        lambda s: s["Frontend"].get_env_var("DYN_ROUTER_MODE"),
        "kv",
    ),
    "runtime version": (
        lambda s: s.set_runtime_version("1.6.1"),
        lambda s: [x.runtime_version for x in s.services],
        ["1.6.1", "1.6.1"],
    ),
}


# What an edit of the command line does depends on the engine and on how it is started.
OF_COMMAND = ("model", "tensor parallel", "argument", "argument without value")
CASES = [(*kind, edit) for kind in MATRIX for edit in OF_COMMAND] + [
    (schema, "vllm", "list", edit) for schema in SCHEMAS for edit in EDITS if edit not in OF_COMMAND
]


@pytest.mark.parametrize(("schema", "backend", "style", "edit"), CASES)
def test_an_edit_can_be_read_back_and_twice_is_once(
    schema: str, backend: str, style: str, edit: str, tmp_path: Path
) -> None:
    change, read, expected = EDITS[edit]
    before = graph_text(schema, backend, style)
    spec = opened(tmp_path, before)
    change(spec)
    assert read(spec) == expected
    once = spec.text()
    assert once != before
    change(spec)
    assert spec.text() == once
    spec.save(tmp_path / "saved.yaml")
    saved = DeploymentSpec(tmp_path / "saved.yaml")
    assert saved.text() == once
    assert saved.spec() == spec.spec() == yaml.safe_load(once)
    assert read(saved) == expected
    change(saved)
    assert saved.text() == once


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_mapping_takes_the_same_edits_and_the_given_one_stays(schema: str, edit: str) -> None:
    graph = yaml.safe_load(graph_text(schema))
    given = copy.deepcopy(graph)
    spec = DeploymentSpec.from_mapping(graph)
    change, read, expected = EDITS[edit]
    change(spec)
    assert read(spec) == expected
    assert graph == given
    assert yaml.safe_load(spec.text()) == spec.spec()


def test_a_mapping_needs_no_ruamel_yaml() -> None:
    program = (
        "import sys; sys.modules['ruamel'] = sys.modules['ruamel.yaml'] = None\n"
        "from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import *\n"
        "from ansible_collections.faultline.gpu.plugins.module_utils._errors import *\n"
        "import pathlib, tempfile, yaml\n"
        "graph = yaml.safe_load(sys.stdin.read())\n"
        "spec = DeploymentSpec.from_mapping(graph)\n"
        "spec.set_model('org/new'); spec.set_logging(); spec.mount_model_cache_pvc('models')\n"
        "spec.save('/dev/null')\n"
        "path = pathlib.Path(tempfile.mkdtemp(), 'x'); path.write_text('kind: x')\n"
        "try: DeploymentSpec(path)\n"
        "except FaultlineError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=graph_text("v1beta1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "needs the Python package ruamel.yaml" in done.stdout


@pytest.mark.parametrize(("schema", "field"), [("v1alpha1", "envs"), ("v1beta1", "env")])
def test_logging_goes_to_the_field_of_the_version(schema: str, field: str) -> None:
    spec = mapped(schema)
    spec.set_logging()
    assert spec.spec()["spec"][field] == [
        {"name": "DYN_LOGGING_JSONL", "value": "true"},
        {"name": "DYN_LOG", "value": "debug"},
    ]
    assert {"env", "envs"} & set(spec.spec()["spec"]) == {field}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_logging_also_changes_a_service_that_sets_it_itself(schema: str) -> None:
    spec = mapped(schema)
    spec["decode"].set_env_var("DYN_LOG", "error")
    spec.set_logging(log_level="info")
    assert spec["decode"].get_env_var("DYN_LOG") == "info"
    assert spec["decode"].get_env_var("DYN_LOGGING_JSONL") is None


@pytest.mark.parametrize("schema", SCHEMAS)
def test_without_a_level_logging_leaves_the_level(schema: str) -> None:
    spec = mapped(schema)
    assert spec.get_logging_config() == {"jsonl_enabled": False, "log_level": None}
    spec.set_logging(log_level="trace")
    spec.set_logging(log_level=None)
    assert spec.get_logging_config()["log_level"] == "trace"


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_model_cache_is_mounted_into_every_service_once(schema: str) -> None:
    spec = mapped(schema)
    spec.mount_model_cache_pvc("model.cache")
    once = spec.spec()
    spec.mount_model_cache_pvc("model.cache")
    assert spec.spec() == once
    home = {"name": "HF_HOME", "value": "/models"}
    if schema == "v1alpha1":
        assert once["spec"]["pvcs"] == [{"name": "model.cache", "create": False}]
        assert once["spec"]["envs"] == [home]
        for service in once["spec"]["services"].values():
            assert service["volumeMounts"] == [{"name": "model.cache", "mountPoint": "/models"}]
        return
    assert once["spec"]["env"] == [home]
    for component in once["spec"]["components"]:
        pod = component["podTemplate"]["spec"]
        claim = {"claimName": "model.cache"}
        assert pod["volumes"] == [{"name": "model-cache", "persistentVolumeClaim": claim}]
        mount = {"name": "model-cache", "mountPath": "/models"}
        assert pod["containers"][0]["volumeMounts"] == [mount]


def test_a_mount_uses_the_volume_that_a_claim_has_already() -> None:
    volume = {"name": "weights", "persistentVolumeClaim": {"claimName": "models"}}
    spec = mapped(
        "v1beta1", lambda g: worker(g)["podTemplate"]["spec"].update({"volumes": [volume]})
    )
    spec["decode"].add_pvc_mount("models", "/m")
    pod = worker(spec.spec())["podTemplate"]["spec"]
    assert pod["volumes"] == [volume]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "weights", "mountPath": "/m"}]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_mount_that_cannot_be_in_one_service_is_made_in_none(schema: str) -> None:
    spec = mapped(schema)
    spec["decode"].add_pvc_mount("other", "/models")
    before = spec.spec()
    with pytest.raises(FaultlineError, match="Service decode has the volume other at /models"):
        spec.mount_model_cache_pvc("models")
    assert spec.spec() == before


def test_a_volume_of_that_name_but_of_something_else_is_an_error() -> None:
    spec = mapped(
        "v1beta1",
        lambda g: worker(g)["podTemplate"]["spec"].update(
            {"volumes": [{"name": "models", "emptyDir": {}}]}
        ),
    )
    with pytest.raises(FaultlineError, match="volume models that is not the claim models"):
        spec["decode"].add_pvc_mount("models", "/m")


def test_a_router_flag_of_the_frontend_follows_its_variable() -> None:
    command = {"command": ["python3", "-m", "dynamo.frontend"], "args": ["--router-mode=random"]}
    spec = mapped(
        "v1alpha1",
        lambda g: g["spec"]["services"]["Frontend"]["extraPodSpec"]["mainContainer"].update(
            command
        ),
    )
    spec.set_router_mode("kv")
    assert spec["Frontend"].command_line.get("--router-mode") == "kv"
    assert spec["Frontend"].get_env_var("DYN_ROUTER_MODE") == "kv"


ERRORS: dict[str, tuple[Edit, str]] = {
    "unknown service": (lambda s: s["nope"], "no service 'nope': it has Frontend, decode"),
    "unknown service to set": (lambda s: s.set_image("a:1", "nope"), "no service 'nope'"),
    "model without flag": (
        lambda s: s.set_model(MODEL, "Frontend"),
        "Service Frontend names no model: looked for --model and --model-path in `no command`",
    ),
    "empty model": (lambda s: s.set_model(""), "The model of service decode must be a text"),
    "tensor parallel without GPU": (
        lambda s: s.set_tensor_parallel(2, ["Frontend"]),
        "Service Frontend has no tensor parallel size: it asks for no GPU",
    ),
    "tensor parallel of nothing": (lambda s: s.set_tensor_parallel(0), "of at least 1, not 0"),
    "tensor parallel of truth": (lambda s: s.set_tensor_parallel(True), "not True"),
    "empty image": (lambda s: s.set_image(""), "The image of service Frontend must be a text"),
    "image with a space": (lambda s: s.set_image("a b"), "text without spaces, not 'a b'"),
    "negative replicas": (lambda s: s.set_service_replicas("decode", -1), "at least 0, not -1"),
    "negative GPUs": (lambda s: setattr(s["decode"], "gpus", -1), "at least 0, not -1"),
    "no name of a DGD": (lambda s: setattr(s, "name", "Agg_1"), "The name of a DGD must be"),
    "no namespace": (lambda s: setattr(s, "namespace", ""), "A namespace must be at most 63"),
    "no flag": (lambda s: s.add_arg_to_service("decode", "tp", "1"), "'tp' is no flag"),
    "no router": (lambda s: s.set_router_mode(""), "The router mode must be a text"),
    "no level": (lambda s: s.set_logging(log_level=""), "The log level must be a text"),
    "no sidecar": (
        lambda s: s.set_frontend_sidecar_image("a:1"),
        "No service of the DGD has a frontend sidecar",
    ),
    "no sidecar of one": (
        lambda s: s.set_frontend_sidecar_image("a:1", "decode"),
        "Service decode has no frontend sidecar",
    ),
    "relative mount": (lambda s: s.mount_model_cache_pvc("c", "m"), "must begin with a slash"),
    "no claim": (lambda s: s.mount_model_cache_pvc(""), "The name of a PersistentVolumeClaim"),
    "negative grace": (
        lambda s: s["decode"].set_termination_grace_period(-1),
        "The grace period of service decode must be",
    ),
    "probe without period": (
        lambda s: s["decode"].set_readiness_probe(period=0),
        "The probe's period must be",
    ),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_cannot_be_set_is_a_sentence_and_changes_nothing(schema: str, error: str) -> None:
    edit, sentence = ERRORS[error]
    spec = mapped(schema)
    before = spec.spec()
    with pytest.raises(FaultlineError, match=sentence.replace("(", r"\(")):
        edit(spec)
    assert spec.spec() == before


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_model_that_one_worker_does_not_name_is_set_in_none(schema: str) -> None:
    def change(graph: dict) -> None:
        other = copy.deepcopy(worker(graph))
        if schema == "v1alpha1":
            graph["spec"]["services"]["prefill"] = other | {"subComponentType": "prefill"}
            del other["extraPodSpec"]["mainContainer"]["args"]
        else:
            graph["spec"]["components"].append(other | {"name": "prefill", "type": "prefill"})
            del other["podTemplate"]["spec"]["containers"][0]["args"]

    spec = mapped(schema, change)
    before = spec.spec()
    with pytest.raises(FaultlineError, match=r"Service prefill names no model.*-m dynamo\.vllm"):
        spec.set_model("org/new")
    assert spec.spec() == before


def test_a_deployment_without_workers_has_no_model_and_no_gpu_to_set() -> None:
    spec = mapped("v1beta1", lambda g: g["spec"]["components"].pop())
    with pytest.raises(FaultlineError, match="has no worker"):
        spec.set_model(MODEL)
    with pytest.raises(FaultlineError, match="No service of the DGD asks for a GPU"):
        spec.set_tensor_parallel(2)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_deployment_without_a_frontend_has_no_address(schema: str) -> None:
    def change(graph: dict) -> None:
        held = graph["spec"].get("services") or graph["spec"]["components"]
        held.pop("Frontend" if schema == "v1alpha1" else 0)

    with pytest.raises(FaultlineError, match="no service of type frontend"):
        mapped(schema, change).in_cluster_frontend_url("drill")


def test_a_deployment_without_a_name_can_get_one() -> None:
    spec = DeploymentSpec.from_mapping({"kind": "DynamoGraphDeployment"})
    with pytest.raises(FaultlineError, match=r"no metadata\.name"):
        _ = spec.name
    spec.name = "agg"
    assert spec.spec()["metadata"] == {"name": "agg"}
