# SPDX-License-Identifier: Apache-2.0
"""Additions to a stored DGD speak the API version of its owner, as it was recorded to work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _dgd_overlay as overlays
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from fake_api import Api
from graph_recordings import read
from graph_stage import ALPHA, DEFINITION, KIND, copied, stored

Object = dict[str, Any]
GRAPH: Object = {"metadata": {"name": "mocka", "namespace": "drill"}}
ENV = [{"name": "LD_PRELOAD", "value": "/lib/x86_64-linux-gnu/libm.so.6"}]
VOLUME = {
    "name": "shim",
    "hostPath": {"path": "/var/lib/cuda-fault-test", "type": "DirectoryOrCreate"},
}


def requested(version: str, label: str) -> Object:
    """Body of a recorded request that the API server took, or of one that it refused."""
    row = next(r for r in read(f"patch-methods-{version}") if r.get("label") == label)
    found: Object = row["request_json"] or json.loads(row["request_content"])
    return found


def entry(manager: str, version: str, *fields: str, operation: str = "Apply") -> Object:
    held = {"f:spec": {f"f:{field}": {} for field in fields}}
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": f"nvidia.com/{version}",
        "fieldsV1": held,
    }


def test_in_v1alpha1_it_is_what_the_api_server_was_recorded_to_take() -> None:
    body = overlays.overlay(
        GRAPH, "v1alpha1", {"VllmDecodeWorker": {"container": {"env": ENV}, "volumes": [VOLUME]}}
    )
    del body["metadata"]["namespace"]
    assert body == requested("v1alpha1", "ssa extraPodSpec")


def test_in_v1beta1_it_is_what_was_recorded_to_work_there_and_to_be_taken_out_again() -> None:
    added = {"VllmDecodeWorker": {"container": {"env": ENV}}}
    body = overlays.overlay(GRAPH, "v1beta1", added)
    del body["metadata"]["namespace"]
    assert body == requested("v1alpha1", "REAL v1beta1 ssa on a v1alpha1-created object")
    nothing: Object = overlays.overlay(GRAPH, "v1beta1", {"VllmDecodeWorker": {}})
    del nothing["metadata"]["namespace"]
    assert nothing == requested("v1alpha1", "REAL v1beta1 ssa remove")


def test_to_take_out_a_service_is_named_and_no_more() -> None:
    assert overlays.overlay(GRAPH, "v1alpha1", {"w": {}})["spec"] == {"services": {"w": {}}}


@pytest.mark.parametrize(
    ("entries", "schema"),
    [
        ([], "v1beta1"),
        ([entry("ci", "v1beta1", "components")], "v1beta1"),
        ([entry("ci", "v1alpha1", "services")], "v1alpha1"),
        ([entry("kubectl", "v1alpha1", "services", operation="Update")], "v1alpha1"),
        # Whoever only scaled or restarted it does not say how it is written.
        ([entry("ci", "v1beta1", "components"), entry("x", "v1alpha1", "restart")], "v1beta1"),
        (
            [entry("ci", "v1alpha1", "services"), entry("operator", "v1beta1", operation="Update")],
            "v1alpha1",
        ),
        # What was put in is taken out in the version in which it was put in.
        ([entry("ci", "v1alpha1", "services"), entry("me", "v1beta1", "components")], "v1beta1"),
        ([entry("ci", "v1beta1", "components"), entry("me", "v1alpha1", "services")], "v1alpha1"),
    ],
)
def test_the_version_is_that_of_ones_own_last_apply_else_that_of_the_owner(
    entries: list[Object], schema: str
) -> None:
    graph = {"metadata": {"managedFields": entries}}
    assert overlays.schema_of(graph, "me") == schema


@pytest.mark.parametrize(
    ("definition", "names"),
    [(ALPHA, ["Frontend", "VllmDecodeWorker"]), (DEFINITION, ["Frontend", "decode"])],
)
def test_parts_of_either_version_have_names(definition: Object, names: list[str]) -> None:
    assert sorted(overlays.parts(definition)) == names
    assert overlays.parts({}) == {}


def test_said_in_the_other_version_it_is_the_recorded_conflict(api: Api) -> None:
    definition = copied(ALPHA)
    definition["metadata"]["namespace"] = "drill"
    cluster = api.cluster()
    cluster.apply(definition, "kubectl-client-side-apply")
    graph = stored(api)
    added = {"VllmDecodeWorker": {"container": {"env": ENV}}}
    with pytest.raises(FaultlineError) as error:
        cluster.apply(overlays.overlay(graph, "v1beta1", added), "shim-role")
    row = next(r for r in read("patch-methods-v1alpha1") if r["status"] == 409)
    assert error.value.details["said"] == row["response_json"]["message"]
    schema = overlays.schema_of(graph, "shim-role")
    cluster.apply(overlays.overlay(graph, schema, added), "shim-role")
    main = stored(api)["spec"]["components"][1]["podTemplate"]["spec"]["containers"][0]
    assert [e["name"] for e in main["env"]] == ["APP_FLAG", "LD_PRELOAD"]
    assert stored(api)["kind"] == KIND
