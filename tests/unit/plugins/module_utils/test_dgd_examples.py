# SPDX-License-Identifier: Apache-2.0
"""The example deployments: what an operator admits, what they ask for, what an edit leaves."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.faultline.gpu.plugins.filter.dgd import dgd_workers
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError

from lab.operator import crds, validate
from lab.operator.convert import to_beta

FOLDER = Path(__file__).parents[3] / "data" / "deployments"
BACKENDS = ("vllm", "sglang", "trtllm")
TYPES = {  # kind of deployment: worker services, replicas of each
    "agg": (1, 1),
    "agg_router": (1, 2),
    "disagg": (2, 1),
    "disagg_router": (2, 2),
}
PLACES = {"v1alpha1": "", "v1beta1": "v1beta1/"}
NAMES = [f"{b}/{place}{t}.yaml" for b in BACKENDS for place in PLACES.values() for t in TYPES]
every_file = pytest.mark.parametrize("name", NAMES)


def test_there_are_files_of_every_backend_version_and_type_and_no_others() -> None:
    assert sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.*")) == sorted(NAMES)


@every_file
def test_a_file_is_admitted_by_schema_and_webhook(name: str) -> None:
    graph = yaml.safe_load((FOLDER / name).read_text())
    alpha = graph["apiVersion"].endswith("v1alpha1")
    assert alpha == ("v1beta1" not in name)
    schema = crds.dgd_alpha_spec() if alpha else crds.dgd_beta_spec()
    jsonschema.validate(graph["spec"], schema)
    graph["metadata"]["namespace"] = "drill"
    assert validate.causes(to_beta(graph) if alpha else graph, None) == []


@every_file
def test_a_file_without_edits_is_saved_as_it_was_byte_for_byte(name: str, tmp_path: Path) -> None:
    before = (
        (FOLDER / name).read_bytes().replace(b"\n", b"\r\n")
        if "agg.yaml" in name
        else (FOLDER / name).read_bytes()
    )
    (tmp_path / "in.yaml").write_bytes(before)
    DeploymentSpec(tmp_path / "in.yaml").save(tmp_path / "out.yaml")
    assert (tmp_path / "out.yaml").read_bytes() == before


@every_file
def test_an_edit_changes_its_own_line_and_nothing_else(name: str, tmp_path: Path) -> None:
    before = (FOLDER / name).read_text()
    spec = DeploymentSpec(FOLDER / name)
    spec.set_service_replicas(spec.worker_names()[0], 7)
    spec.save(tmp_path / "out.yaml")
    after = (tmp_path / "out.yaml").read_text()
    changed = [
        line
        for line in unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
    assert [line.split() for line in changed] == [
        ["-", "replicas:", before.split("replicas: ")[2].split()[0]],
        ["+", "replicas:", "7"],
    ]


@every_file
def test_a_file_says_its_backend_model_and_size(name: str) -> None:
    spec = DeploymentSpec(FOLDER / name)
    workers, replicas = TYPES[Path(name).stem]
    assert spec.backend == name.split("/")[0]
    assert [w.model for w in spec.worker_services()] == ["Qwen/Qwen3-0.6B"] * workers
    roles = {w.sub_component_type for w in spec.worker_services()}
    assert roles == ({"prefill", "decode"} if workers == 2 else {None})
    router = spec.frontend_service.get_env_var("DYN_ROUTER_MODE")
    assert router == ("kv" if "router" in name else None)
    assert dgd_workers(spec.spec()) == {
        "replicas": workers * replicas,
        "gpus": workers * replicas,
        "gpus_of_largest": 1,
        "names": spec.worker_names(),
    }


@every_file
def test_an_edited_file_is_still_admitted(name: str) -> None:
    spec = DeploymentSpec(FOLDER / name)
    spec.namespace = "drill"
    spec.set_model("org/new")
    spec.set_image("registry.example/runtime:2.0.0")
    spec.set_tensor_parallel(4)
    spec.set_logging()
    spec.set_router_mode("kv")
    spec.mount_model_cache_pvc("models")
    for service in spec.services:
        service.set_readiness_probe()
        service.set_termination_grace_period()
    graph = yaml.safe_load(spec.text())
    alpha = spec.schema == "v1alpha1"
    jsonschema.validate(graph["spec"], crds.dgd_alpha_spec() if alpha else crds.dgd_beta_spec())
    assert validate.causes(to_beta(graph) if alpha else graph, None) == []
    for worker in spec.worker_services():
        assert (worker.tensor_parallel_size, worker.gpus, worker.model) == (4, 4, "org/new")


def graph_of(schema: str, *services: dict[str, Any]) -> dict[str, Any]:
    """A DGD of services with name, type, gpus and, where given, replicas and nodes."""
    head = {"apiVersion": f"nvidia.com/{schema}", "kind": "DynamoGraphDeployment"}
    made = {}
    for service in services:
        more = {k: service[k] for k in ("replicas",) if k in service}
        if "nodes" in service:
            more["multinode"] = {"nodeCount": service["nodes"]}
        if schema == "v1alpha1":
            limits = {"limits": {"gpu": str(service["gpus"])}}
            made[service["name"]] = {"componentType": service["type"], "resources": limits, **more}
            continue
        main = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": service["gpus"]}}}
        pod = {"spec": {"containers": [main]}}
        made[service["name"]] = {
            "name": service["name"], "type": service["type"], "podTemplate": pod, **more,
        }  # fmt: skip
    if schema == "v1alpha1":
        return {**head, "spec": {"services": made}}
    return {**head, "spec": {"components": list(made.values())}}


@pytest.mark.parametrize("schema", PLACES)
def test_the_need_of_workers_counts_replicas_and_nodes_and_no_frontend(schema: str) -> None:
    graph = graph_of(
        schema,
        {"name": "front", "type": "frontend", "gpus": 1, "replicas": 9},
        {"name": "small", "type": "worker", "gpus": 2},
        {"name": "wide", "type": "worker", "gpus": 4, "replicas": 2, "nodes": 3},
        {"name": "off", "type": "worker", "gpus": 8, "replicas": 0},
    )
    assert dgd_workers(graph) == {
        "replicas": 1 + 2 * 3,
        "gpus": 2 + 2 * 3 * 4,
        "gpus_of_largest": 4,
        "names": ["small", "wide", "off"],
    }


@every_file
def test_what_workers_need_is_said_of_a_file_with_the_edits_to_come(name: str) -> None:
    worker = DeploymentSpec(FOLDER / name).worker_names()[0]
    plain = dgd_workers(None, src=str(FOLDER / name), replicas={}, tensor_parallel=0)
    assert plain == dgd_workers(DeploymentSpec(FOLDER / name).spec())
    edited = dgd_workers({}, str(FOLDER / name), replicas={worker: 5}, tensor_parallel=2)
    assert edited["replicas"] > plain["replicas"]
    assert edited["gpus"] == edited["replicas"] * 2
    assert edited["gpus_of_largest"] == 2
    with pytest.raises(AnsibleFilterError, match="no service 'nope'"):
        dgd_workers({}, str(FOLDER / name), replicas={"nope": 5})


@pytest.mark.parametrize("schema", PLACES)
def test_a_deployment_without_workers_needs_nothing(schema: str) -> None:
    graph = graph_of(schema, {"name": "front", "type": "frontend", "gpus": 0})
    assert dgd_workers(graph) == {"replicas": 0, "gpus": 0, "gpus_of_largest": 0, "names": []}


@pytest.mark.parametrize("wrong", [{"kind": "Pod"}, {}, "text", None])
def test_what_is_no_dgd_has_no_workers_but_a_sentence(wrong: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="expected a DynamoGraphDeployment"):
        dgd_workers(wrong)


@pytest.mark.parametrize("schema", PLACES)
def test_a_flag_for_a_frontend_without_command_keeps_what_the_operator_runs(schema: str) -> None:
    spec = DeploymentSpec.from_mapping(
        graph_of(
            schema,
            {"name": "front", "type": "frontend", "gpus": 0},
            {"name": "work", "type": "worker", "gpus": 1},
        )
    )
    for _twice in range(2):
        spec.add_arg_to_service("front", "--router-mode", "kv")
    assert str(spec["front"].command_line) == "python3 -m dynamo.frontend --router-mode kv"
    before = spec.spec()
    with pytest.raises(FaultlineError, match="Service work has no command for --tp"):
        spec.add_arg_to_service("work", "--tp", "2")
    assert spec.spec() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"holds no DynamoGraphDeployment: it holds nothing"),
        ("kind: Pod\n---\na: 1\n", "it holds Pod, a document without kind"),
        ("kind: DynamoGraphDeployment\n---\nkind: DynamoGraphDeployment\n", "holds 2 Dynamo"),
        ("kind: Pod\n---\na: [\n", "is no YAML in line 4"),
    ],
)
def test_a_file_that_holds_not_one_dgd_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(FaultlineError, match=sentence):
        DeploymentSpec(tmp_path / "x.yaml")


def test_an_edit_leaves_the_other_documents_of_a_file_and_aliases_of_one_service() -> None:
    from ansible_collections.faultline.gpu.plugins.module_utils._dgd_text import GraphText

    text = (
        "kind:   Pod   # odd\n--- # the DGD\nkind: DynamoGraphDeployment\nspec:\n  services:\n"
        "    a: &a\n      replicas: 1\n    b: *a\n---\nkind:   Service\n"
    )
    graph = GraphText(text, "text")
    assert graph.text() == text
    graph.root["spec"]["services"]["a"]["replicas"] = 2
    edited = graph.text()
    assert edited.startswith("kind:   Pod   # odd\n--- # the DGD\n")
    assert edited.endswith("\n---\nkind:   Service\n")
    services = list(yaml.safe_load_all(edited))[1]["spec"]["services"]
    assert services == {"a": {"replicas": 2}, "b": {"replicas": 1}}
