# SPDX-License-Identifier: Apache-2.0
"""v1alpha1 and v1beta1 views of the same object, against the recorded pairs."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from operator_recordings import FOLDER, dgd_of, rows

from lab.operator import names
from lab.operator.convert import ConversionError, convert, to_alpha, to_beta
from lab.operator.webhooks import convert_review

Object = dict[str, Any]
DUMPS = (
    "objects-v1beta1-agg-ready",
    "objects-v1beta1-agg-shim-added",
    "objects-v1alpha1-ready",
    "objects-v1beta1-disagg-ready",
)


def readable(obj: Object) -> Object:
    """The object with the JSON in its memory annotation parsed: the order of keys is no matter."""
    result: Object = copy.deepcopy(obj)
    annotations = result["metadata"].get("annotations", {})
    if names.DGD_SPEC in annotations:
        annotations[names.DGD_SPEC] = json.loads(annotations[names.DGD_SPEC])
    return result


@pytest.mark.parametrize("name", DUMPS)
def test_both_views_of_an_object_equal_the_recorded_ones(name: str) -> None:
    beta, alpha = dgd_of(name), dgd_of(name, "v1alpha1")
    assert readable(to_alpha(beta)) == readable(alpha)
    assert readable(to_beta(alpha)) == readable(beta)


def test_env_of_both_alpha_places_lands_in_the_main_container() -> None:
    alpha, beta = (
        json.loads((FOLDER / f"spec-v1alpha1-shim-added-{view}-view.json").read_text())
        for view in ("alpha", "beta")
    )
    obj = {"apiVersion": names.ALPHA_VERSION, "kind": names.DGD_KIND, "metadata": {"name": "m"}}
    converted = to_beta({**obj, "spec": alpha})
    assert converted["spec"] == beta
    assert to_alpha(converted)["spec"] == alpha


def recorded_answers() -> list[Object]:
    """Every object that the API server gave back to a patch, in either version."""
    return [
        row
        for name in ("patch-methods-v1alpha1", "patch-methods-v1beta1")
        for row in rows(name)
        if row["status"] == 200
    ]


@pytest.mark.parametrize("row", recorded_answers(), ids=lambda row: row["label"])
def test_a_round_trip_gives_the_recorded_spec_back(row: Object) -> None:
    obj = row["response_json"]
    if obj["apiVersion"] == names.ALPHA_VERSION:
        assert readable(to_alpha(to_beta(obj))) == readable(obj)
    else:
        assert to_beta(to_alpha(obj))["spec"] == obj["spec"]


def test_removing_the_shim_through_alpha_leaves_no_trace() -> None:
    before = dgd_of("objects-v1alpha1-ready")
    alpha = to_alpha(before)
    main = alpha["spec"]["services"]["VllmDecodeWorker"]["extraPodSpec"]["mainContainer"]
    main["env"] = [{"name": "LD_PRELOAD", "value": "/x.so"}]
    shimmed = to_alpha(to_beta(alpha))
    main = shimmed["spec"]["services"]["VllmDecodeWorker"]["extraPodSpec"]["mainContainer"]
    assert main.pop("env") == [{"name": "LD_PRELOAD", "value": "/x.so"}]
    assert readable(to_beta(shimmed)) == readable(before)


def test_partial_objects_of_server_side_apply_convert_without_inventing_fields() -> None:
    partial = {
        "apiVersion": names.HUB_VERSION,
        "kind": names.DGD_KIND,
        "metadata": {"name": "m"},
        "spec": {"components": [{"name": "decode"}]},
    }
    assert to_alpha(partial)["spec"] == {"services": {"decode": {}}}


def test_deprecated_alpha_fields_survive_a_round_trip() -> None:
    alpha = dgd_of("objects-v1alpha1-ready", "v1alpha1")
    service = alpha["spec"]["services"]["VllmDecodeWorker"]
    service["dynamoNamespace"] = "x"
    service["ingress"] = {"enabled": True}
    assert to_alpha(to_beta(alpha))["spec"] == alpha["spec"]


def test_a_broken_memory_annotation_does_not_stop_a_conversion() -> None:
    beta = dgd_of("objects-v1alpha1-ready")
    beta["metadata"]["annotations"][names.DGD_SPEC] = "not json"
    assert to_alpha(beta)["spec"]["services"]["VllmDecodeWorker"]["subComponentType"] == "decode"


def test_conversion_of_an_unknown_kind_or_version_is_refused() -> None:
    dgd = dgd_of("objects-v1beta1-agg-ready")
    with pytest.raises(ConversionError, match="only DynamoGraphDeployment"):
        convert({**dgd, "kind": "Other"}, names.ALPHA_VERSION)
    with pytest.raises(ConversionError, match=r"nvidia\.com/v2"):
        convert(dgd, "nvidia.com/v2")


def test_a_review_with_one_bad_object_fails_as_a_whole() -> None:
    dgd = dgd_of("objects-v1beta1-agg-ready")
    review = {
        "uid": "u1",
        "desiredAPIVersion": names.ALPHA_VERSION,
        "objects": [dgd, {"kind": "X"}],
    }
    answer = convert_review(review)
    assert answer["uid"] == "u1"
    assert answer["result"]["status"] == "Failure"
    assert "convertedObjects" not in answer


def test_a_review_converts_every_object_in_order() -> None:
    first, second = (dgd_of(name) for name in DUMPS[:2])
    review = {"uid": "u", "desiredAPIVersion": names.ALPHA_VERSION, "objects": [first, second]}
    answer = convert_review(review)
    assert answer["result"] == {"status": "Success"}
    assert [o["apiVersion"] for o in answer["convertedObjects"]] == [names.ALPHA_VERSION] * 2
    assert answer["convertedObjects"][1]["spec"] == to_alpha(second)["spec"]
