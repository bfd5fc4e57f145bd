# SPDX-License-Identifier: Apache-2.0
"""The deployments of three backends in both versions: read, edited, accepted by the operator."""

from __future__ import annotations

import copy
import difflib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec
from dgd_graphs import BACKENDS, FILES, MODEL

from lab.operator import crds
from lab.operator.convert import convert
from lab.operator.validate import causes

KINDS = ("agg", "agg_router", "disagg", "disagg_router")
PATHS = [
    FILES / backend / folder / f"{kind}.yaml"
    for backend, folder, kind in itertools.product(BACKENDS, ("", "v1beta1"), KINDS)
]
IDS = [str(path.relative_to(FILES)) for path in PATHS]
ALPHA_NAMES = {
    "vllm": ["VllmDecodeWorker", "VllmPrefillWorker"],
    "sglang": ["decode", "prefill"],
    "trtllm": ["TRTLLMDecodeWorker", "TRTLLMPrefillWorker"],
}
SCHEMAS = {"v1alpha1": crds.dgd_alpha_spec(), "v1beta1": crds.dgd_beta_spec()}


def unknown_fields(schema: dict, value: Any, path: str = "spec") -> Iterator[str]:
    """Paths of what the API server would prune."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(schema.get("items", {}), item, f"{path}[{index}]")
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    for key, child in value.items():
        known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
        if known is None:
            yield f"{path}.{key}"
        else:
            yield from unknown_fields(known, child, f"{path}.{key}")


def assert_accepted(graph: dict) -> None:
    """Assert what API server and operator ask of an object that is created."""
    graph = copy.deepcopy(graph)
    graph["metadata"].setdefault("namespace", "drill")
    schema = SCHEMAS[graph["apiVersion"].rpartition("/")[2]]
    jsonschema.validate(graph["spec"], schema)
    assert list(unknown_fields(schema, graph["spec"])) == []
    assert causes(convert(graph, "nvidia.com/v1beta1"), None) == []


def test_there_is_a_file_for_everything_and_nothing_else() -> None:
    assert sorted(FILES.rglob("*.*")) == sorted(PATHS)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_a_file_is_what_its_place_says(path: Path) -> None:
    backend = path.relative_to(FILES).parts[0]
    spec = DeploymentSpec(path)
    assert spec.schema == ("v1beta1" if path.parent.name == "v1beta1" else "v1alpha1")
    assert spec.name == f"{backend}-{path.stem.replace('_', '-')}"
    assert spec.backend == backend
    workers = spec.worker_services()
    if path.stem.startswith("disagg"):
        roles = ["decode", "prefill"]
        assert [w.sub_component_type for w in workers] == roles
        names = roles if spec.schema == "v1beta1" else ALPHA_NAMES[backend]
        assert spec.worker_names() == names
    else:
        assert len(workers) == 1
    router = path.stem.endswith("router")
    assert {(w.model, w.served_model_name, w.gpus) for w in workers} == {(MODEL, MODEL, 1)}
    assert {w.replicas for w in workers} == {2 if router else 1}
    assert spec.frontend_service.get_env_var("DYN_ROUTER_MODE") == ("kv" if router else None)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_the_operator_accepts_a_file_as_it_is(path: Path) -> None:
    assert_accepted(yaml.safe_load(path.read_text()))


def everything(spec: DeploymentSpec) -> None:
    """Every setter of a deployment and of its services."""
    spec.name, spec.namespace = "run-1", "drill"
    spec.set_model("org/new")
    spec.set_image("registry.example/runtime:2.0.0")
    spec.set_runtime_version("2.0.0")
    spec.set_tensor_parallel(4)
    spec.set_logging()
    spec.disable_grove()
    spec.set_router_mode("kv")
    spec.mount_model_cache_pvc("models")
    for service in spec.services:
        spec.set_service_replicas(service.name, 3)
        spec.set_service_env_var(service.name, "NCCL_DEBUG", "1")
        spec.add_arg_to_service(service.name, "--seed", "1")
        service.set_termination_grace_period()
        service.set_readiness_probe()


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_the_operator_accepts_a_file_after_every_edit(path: Path, tmp_path: Path) -> None:
    spec = DeploymentSpec(path)
    everything(spec)
    assert_accepted(spec.spec())
    same = DeploymentSpec.from_mapping(yaml.safe_load(path.read_text()))
    everything(same)
    assert same.spec() == spec.spec()
    spec.save(tmp_path / "saved.yaml")
    assert yaml.safe_load((tmp_path / "saved.yaml").read_text()) == spec.spec()


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_a_file_that_is_not_edited_is_saved_byte_for_byte(path: Path, tmp_path: Path) -> None:
    spec = DeploymentSpec(path)
    assert spec.backend
    assert [s.envs for s in spec.services]
    spec.set_model(MODEL)
    spec.save(tmp_path / "saved.yaml")
    assert (tmp_path / "saved.yaml").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_an_edit_of_a_file_changes_and_adds_only_its_own_lines(path: Path) -> None:
    before = path.read_text()
    spec = DeploymentSpec(path)
    for worker in spec.worker_services():
        worker.set_env_var("NCCL_DEBUG", "yes")
        worker.replicas = 5
    lines = [
        line
        for line in difflib.ndiff(before.splitlines(), spec.text().splitlines())
        if line[0] in "+-"
    ]
    assert {line[1:].strip() for line in lines if line[0] == "-"} == {
        f"replicas: {2 if path.stem.endswith('router') else 1}"
    }
    assert {line[1:].strip() for line in lines if line[0] == "+"} == {
        "replicas: 5",
        "envs:" if spec.schema == "v1alpha1" else "env:",
        "- name: NCCL_DEBUG",
        'value: "yes"',
    }
    # The comment about the next service still stands right above it.
    after = spec.text().splitlines()
    for number, line in enumerate(before.splitlines()):
        if line.startswith("    # "):
            at = after.index(line)
            assert after[at + 1] == before.splitlines()[number + 1]
            assert after[at - 1] == ""
