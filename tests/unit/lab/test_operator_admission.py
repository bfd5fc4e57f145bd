# SPDX-License-Identifier: Apache-2.0
"""What the admission webhooks answer, against the recorded refusals."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from operator_recordings import dgd_of, rows

from lab.operator import names
from lab.operator.convert import to_alpha, to_beta
from lab.operator.validate import image_version
from lab.operator.webhooks import mutate_review, validate_review

Object = dict[str, Any]
PREFIX = 'admission webhook "vdynamographdeployment.kb.io" denied the request: '


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def json_patched(target: Object, operations: list[Object]) -> Object:
    """JSON patch (RFC 6902): the operations that the recordings use."""
    result = copy.deepcopy(target)
    for operation in operations:
        parts = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"][1:].split("/")]
        place: Any = result
        for part in parts[:-1]:
            place = place[int(part)] if isinstance(place, list) else place[part]
        last: Any = int(parts[-1]) if isinstance(place, list) and parts[-1] != "-" else parts[-1]
        if operation["op"] == "remove":
            del place[last]
        elif last == "-":
            place.append(operation["value"])
        elif isinstance(place, list) and operation["op"] == "add":
            place.insert(last, operation["value"])
        else:
            place[last] = operation["value"]
    return result


def refused_updates() -> list[Object]:
    return [
        row
        for row in rows("patch-methods-v1beta1")
        if row["status"] == 422 and "vdynamo" in row["response_json"]["message"]
    ]


def patched(old: Object, text: str) -> Object:
    body = json.loads(text)
    new: Object = json_patched(old, body) if isinstance(body, list) else merged(old, body)
    return new


@pytest.mark.parametrize("row", refused_updates(), ids=lambda row: row["label"])
def test_refused_updates_get_the_recorded_text_and_causes(row: Object) -> None:
    old = dgd_of("objects-v1beta1-agg-ready")
    new = patched(old, row["request_content"])
    request = {"uid": "u", "operation": "UPDATE", "object": new, "oldObject": old}
    answer = validate_review(request)
    assert answer["allowed"] is False
    wanted = row["response_json"]
    assert PREFIX + answer["status"]["message"] == wanted["message"]
    assert answer["status"]["details"] == wanted["details"]
    assert (answer["status"]["code"], answer["status"]["reason"]) == (422, "Invalid")


def accepted_updates() -> list[Object]:
    return [
        row
        for row in rows("patch-methods-v1beta1")
        if row["status"] == 200 and "ssa" not in row["label"] and "v1alpha1" not in row["path"]
    ]


@pytest.mark.parametrize("row", accepted_updates(), ids=lambda row: row["label"])
def test_updates_that_the_real_operator_accepts_are_accepted(row: Object) -> None:
    old = dgd_of("objects-v1beta1-agg-ready")
    new = patched(old, row["request_content"])
    request = {"uid": "u", "operation": "UPDATE", "object": new, "oldObject": old}
    assert validate_review(request) == {"uid": "u", "allowed": True}


def created(*, refused: bool) -> list[Object]:
    """Recorded creates that reached the webhook (the schema refused the others before it)."""
    found = []
    for row in rows("create-validation-and-operator-down"):
        if row["via"] != "dry-run":
            continue
        message = row["response_json"].get("message", "")
        if refused == (row["status"] == 422) and (not refused or "vdynamo" in message):
            found.append(row)
    return found


@pytest.mark.parametrize("row", created(refused=True), ids=lambda row: row["label"])
def test_refused_creates_get_the_recorded_text(row: Object) -> None:
    answer = validate_review({"uid": "u", "operation": "CREATE", "object": row["request_json"]})
    assert PREFIX + answer["status"]["message"] == row["response_json"]["message"]
    assert answer["status"]["details"] == row["response_json"]["details"]


@pytest.mark.parametrize("row", created(refused=False), ids=lambda row: row["label"])
def test_accepted_creates_get_the_recorded_annotations(row: Object) -> None:
    request = {"uid": "u", "operation": "CREATE", "object": row["request_json"]}
    assert validate_review(request)["allowed"] is True
    answer = mutate_review(request)
    patch = json.loads(base64.b64decode(answer["patch"]))
    new = json_patched(row["request_json"], patch)
    assert new["metadata"]["annotations"] == row["response_json"]["metadata"]["annotations"]


def test_an_update_is_not_mutated() -> None:
    dgd = dgd_of("objects-v1beta1-agg-ready")
    dgd["metadata"]["annotations"].pop(names.WORKLOAD_PROVIDER)
    answer = mutate_review({"uid": "u", "operation": "UPDATE", "object": dgd})
    assert answer == {"uid": "u", "allowed": True}


def test_an_object_in_deletion_is_let_through_so_that_its_finalizer_can_go() -> None:
    old = dgd_of("objects-v1beta1-agg-ready")
    new = copy.deepcopy(old)
    new["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    new["spec"]["components"] = []
    request = {"uid": "u", "operation": "UPDATE", "object": new, "oldObject": old}
    assert validate_review(request)["allowed"] is True


def test_a_chosen_dynamo_namespace_is_warned_about_with_the_recorded_text() -> None:
    row = next(
        r for r in rows("patch-methods-v1alpha1") if r["label"].startswith("merge dynamoNamespace")
    )
    alpha = to_alpha(dgd_of("objects-v1alpha1-ready"))
    new = to_beta(patched(alpha, row["request_content"]))
    answer = validate_review({"uid": "u", "operation": "UPDATE", "object": new, "oldObject": new})
    assert answer["allowed"] is True
    assert len(answer["warnings"]) == 1
    assert answer["warnings"][0] in row["headers"]["warning"].replace('\\"', '"')


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("localhost/dynamo:1.6.1", "1.6.1"),
        ("localhost:5000/dynamo:1.6.1-cuda13", "1.6.1-cuda13"),
        ("localhost/dynamo:dev", None),
        ("localhost:5000/dynamo", None),
        ("localhost/dynamo@sha256:" + "0" * 64, None),
        ("localhost/dynamo:1.6.1@sha256:" + "0" * 64, "1.6.1"),
    ],
)
def test_only_a_semantic_version_in_the_tag_counts_as_version(
    image: str, version: str | None
) -> None:
    assert image_version(image) == version
