# SPDX-License-Identifier: Apache-2.0
"""What a real API server and the real operator's webhooks refused, in words for people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._refusals import explain, transient
from graph_recordings import refused

Object = dict[str, Any]
TOPOLOGY = "components cannot be added, removed or renamed once the DGD is made"
MAIN = "component number 2, podTemplate.spec.containers"


def asked(row: Object) -> Object | None:
    content = row["request_json"] or json.loads(row["request_content"] or "null")
    return content if isinstance(content, dict) else None


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (
            "ssa: conflict on args",
            "kubectl-client-side-apply (as nvidia.com/v1beta1) owns "
            "spec.components[decode].podTemplate.spec.containers[main].args. Give it the value "
            "that it has, leave it out, or let its owner give it up first.",
        ),
        (
            "REAL v1beta1 ssa on a v1alpha1-created object",
            "kubectl-client-side-apply (as nvidia.com/v1alpha1) owns "
            "spec.services.VllmDecodeWorker.envs. Give it",
        ),
        (
            "merge: partial list, only decode with only env",
            f"spec.components: {TOPOLOGY} (components removed: [Frontend]): keep them, or delete "
            "the DGD first; component number 1, podTemplate.spec.containers[0].image: it is "
            "missing: set it.",
        ),
        (
            "rename component",
            f"spec.components: {TOPOLOGY} (components added: [decode2], components removed: "
            "[decode])",
        ),
        ("add component", f"spec.components: {TOPOLOGY} (components added: [extra])"),
        (
            "container not named main",
            f"{MAIN}: it has no container named main: name the engine's container so.",
        ),
        ("remove image", f"{MAIN}[0].image: it is missing: set it."),
        (
            "duplicate env name",
            f'{MAIN}[0].env[1]: {{"name":"LD_PRELOAD"}} is there twice: leave one of them.',
        ),
        (
            "bad volume type",
            "spec.components.podTemplate.spec.volumes.hostPath.path is a number: expected a "
            "string.",
        ),
        (
            "negative replicas",
            "component number 2, replicas: it is -1: it should be greater than or equal to 0.",
        ),
        (
            "remove annotation workload-provider",
            "metadata.annotations[nvidia.com/workload-provider]: it cannot be changed or taken "
            "away once the DGD is made: leave it as it is.",
        ),
        (
            "json patch: failing test op",
            "the API server gives no reason: the change does not fit the object",
        ),
        (
            "strategic merge patch",
            "the body of the request was in an unknown format - accepted media types",
        ),
        (
            "no runtimeVersionOverride with a non-semver tag",
            "component decode, runtimeVersionOverride: it is missing and the image's tag is no "
            "version: set it, such as to 1.6.1, or give an image whose tag is one.",
        ),
        (
            "unknown component type",
            'component decode, type: it is "gpu": expected one of "frontend", "worker", "prefill", '
            '"decode", "planner", "epp".',
        ),
        (
            "duplicate name ignoring case",
            "spec.components: component names must be unique case-insensitively.",
        ),
        (
            "name with underscore",
            'component de_code, name: it is "de_code": it should match '
            "'^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$'.",
        ),
        ("no components", "spec.components: it must have at least one component."),
        (
            "restart at create",
            "spec: spec.restart must be unset on create; set spec.restart.id after creation",
        ),
        (
            "create again",
            'dynamographdeployments.nvidia.com "mocky" already exists: remove it or choose another',
        ),
        (
            "operator down: PATCH v1beta1",
            "the webhook behind Service dynamo-platform-dynamo-operator-webhook-service in "
            "dynamo-system does not answer (no endpoints available for service "
            '"dynamo-platform-dynamo-operator-webhook-service"): see that its pods run (kubectl -n '
            "dynamo-system get pods).",
        ),
        (
            "operator down: GET v1alpha1",
            "the webhook behind Service dynamo-platform-dynamo-operator-webhook-service in "
            "dynamo-system does not answer",
        ),
    ],
)
def test_a_recorded_refusal_says_what_is_wrong_where_and_what_to_do(label: str, said: str) -> None:
    row = refused(label)
    text = explain(row["status"], row["response_json"], "?", asked(row))
    assert text.startswith(said), text


def test_a_namespace_that_is_not_there_is_to_be_made() -> None:
    answer = {
        "message": 'namespaces "drill-1" not found',
        "reason": "NotFound",
        "details": {"name": "drill-1", "kind": "namespaces"},
    }
    assert explain(404, answer, "?") == (
        "there is no namespace drill-1: make it first (kubectl create namespace drill-1)."
    )


def test_a_write_that_came_second_is_to_be_repeated() -> None:
    text = (
        'Operation cannot be fulfilled on dynamographdeployments.nvidia.com "mock": the object has '
        "been modified; please apply your changes to the latest version and try again"
    )
    said = explain(409, {"message": text, "reason": "Conflict"}, "?")
    assert said == "somebody changed it at the same moment: run it again."


def test_fields_of_one_owner_are_named_together() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{who}" with subresource "scale" using v1 at 2026-11-24',
            "field": f".spec.{field}",
        }
        for who, field in (("hpa", "a"), ("ci", "b"), ("hpa", "c"))
    ]
    said = explain(409, {"message": "3 conflicts", "details": {"causes": causes}}, "?")
    assert said.startswith("hpa (as v1) owns spec.a, spec.c; ci (as v1) owns spec.b. Give it")


def test_an_owner_that_applies_is_named_without_a_version() -> None:
    cause = {
        "message": 'conflict with "faultline-dgd-restart"',
        "field": ".spec.restart.id",
        "reason": "FieldManagerConflict",
    }
    said = explain(409, {"message": "1 conflict", "details": {"causes": [cause]}}, "?")
    assert said.startswith("faultline-dgd-restart owns spec.restart.id. Give it the value")


def test_a_service_of_v1alpha1_is_named_as_a_component_is() -> None:
    text = "Invalid value: -1: spec.services.decode.replicas in body should be greater than or "
    cause = {"message": f"{text}equal to 0", "field": "spec.services.decode.replicas"}
    said = explain(422, {"message": "?", "details": {"causes": [cause]}}, "?")
    assert said == "component decode, replicas: it is -1: it should be greater than or equal to 0."


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [(403, {"message": "pods is forbidden"}, "pods is forbidden"), (503, {}, "503 Refused")],
)
def test_what_is_not_known_keeps_its_words(status: int, answer: Object, said: str) -> None:
    assert explain(status, answer, "503 Refused") == said


def test_components_of_a_v1alpha1_file_are_counted_by_name_as_the_webhooks_do() -> None:
    causes = [{"field": "spec.components[1].replicas", "message": "Invalid value: -1: no"}]
    answer = {"message": "?", "details": {"causes": causes}}
    services = {"b": {"componentType": "worker"}, "a": {"componentType": "frontend"}}
    assert explain(422, answer, "?", {"spec": {"services": services}}).startswith("component b, ")
    part = {"spec": {"components": [{"name": "x"}, {"name": "y"}]}}
    assert explain(422, answer, "?", part).startswith("component number 2, ")


@pytest.mark.parametrize(
    ("label", "passes"),
    [
        ("operator down: PATCH v1beta1", True),
        ("operator down: GET v1alpha1", True),
        ("operator down: PATCH v1alpha1", True),
        ("no components", False),
        ("ssa: conflict on args", False),
    ],
)
def test_only_a_webhook_that_is_away_is_worth_another_try(label: str, passes: bool) -> None:
    assert transient(refused(label)["response_json"]["message"]) is passes
