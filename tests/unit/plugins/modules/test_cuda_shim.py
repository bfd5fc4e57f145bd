# SPDX-License-Identifier: Apache-2.0
"""The module cuda_shim on a cluster in memory."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.modules import cuda_shim
from fake_api import Api, Run
from graph_recordings import spec_of
from graph_stage import ALPHA, copied, stored

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
BASE = spec_of("objects-v1beta1-agg-ready")
PRESENT = {"name": "mock", "namespace": "drill", "build_id": "359884b78dcaeb8a"}
ABSENT = {"name": "mock", "namespace": "drill", "state": "absent"}


def graph(spec: Object = BASE) -> Object:
    return {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": "mock", "namespace": "drill", "generation": 1},
        "spec": copy.deepcopy(spec),
    }


def node(name: str, gpus: int, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.present": "true"}},
        "spec": spec,
        "status": {"allocatable": {GPU: str(gpus)}},
    }


def pod(name: str, at: str, gpus: int = 1) -> Object:
    limits = {"limits": {GPU: str(gpus)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "drill"},
        "spec": {"nodeName": at, "containers": [{"name": "main", "resources": limits}]},
        "status": {"phase": "Running"},
    }


@pytest.fixture
def full(api: Api) -> Api:
    """A cluster with a deployment whose two workers use all its GPUs."""
    for obj in (graph(), node("a", 1), node("b", 1), pod("w1", "a"), pod("w2", "b")):
        api.put(obj)
    return api


@pytest.fixture
def roomy(full: Api) -> Api:
    """The same with a GPU to spare."""
    full.put(node("c", 1))
    return full


def spec(api: Api) -> Object:
    found: Object = api.one("DynamoGraphDeployment", "mock", "drill")["spec"]
    return found


def main_of(found: Object) -> Object:
    container: Object = found["components"][1]["podTemplate"]["spec"]["containers"][0]
    return container


def test_the_shim_is_put_into_every_worker_and_nothing_else_is_touched(
    roomy: Api, run: Run
) -> None:
    result = run(cuda_shim, **PRESENT)
    assert result["changed"] is True
    assert (result["components"], result["room"], result["generation"]) == (["decode"], "spare", 2)
    after = spec(roomy)
    env = {entry["name"]: entry["value"] for entry in main_of(after)["env"]}
    assert env["LD_PRELOAD"].endswith("/libfaultline.so")
    assert env["FAULTLINE_CONTROL"]
    mounts = {m["name"]: m for m in main_of(after)["volumeMounts"]}
    assert mounts["faultline-shim"]["readOnly"] is True
    assert mounts["faultline-control"]["readOnly"] is True
    assert env["LD_PRELOAD"].startswith(mounts["faultline-shim"]["mountPath"])
    assert env["FAULTLINE_CONTROL"].startswith(mounts["faultline-control"]["mountPath"])
    volumes = {v["name"]: v for v in after["components"][1]["podTemplate"]["spec"]["volumes"]}
    assert volumes["faultline-shim"]["hostPath"]["path"].endswith("/359884b78dcaeb8a")
    assert volumes["model"] == {"name": "model", "configMap": {"name": "tiny-model"}}
    assert mounts["model"]["mountPath"] == "/models/tiny"
    assert after["components"][0] == BASE["components"][0]


def test_a_second_run_changes_nothing_and_needs_no_room(roomy: Api, run: Run) -> None:
    run(cuda_shim, **PRESENT)
    roomy.put(pod("other", "c"))
    writes = list(roomy.writes)
    result = run(cuda_shim, **PRESENT)
    assert (result["changed"], result["room"]) == (False, "")
    assert result["diff"]["before"] == result["diff"]["after"]
    assert roomy.writes == writes


def test_another_build_is_a_change(roomy: Api, run: Run) -> None:
    run(cuda_shim, **PRESENT)
    assert run(cuda_shim, **(PRESENT | {"build_id": "0123"}))["changed"] is True
    volumes = spec(roomy)["components"][1]["podTemplate"]["spec"]["volumes"]
    assert [v["hostPath"]["path"][-4:] for v in volumes if v["name"] == "faultline-shim"] == [
        "0123"
    ]


def test_what_was_put_in_is_taken_out_exactly(full: Api, run: Run) -> None:
    full.put(node("c", 1))
    before = spec(full)
    run(cuda_shim, **PRESENT)
    # Taking it out needs no room: the node of the dead GPU gives none.
    full.put(pod("other", "c"))
    result = run(cuda_shim, **ABSENT)
    assert (result["changed"], result["generation"]) == (True, 3)
    assert spec(full) == before == result["diff"]["after"]
    assert run(cuda_shim, **ABSENT)["changed"] is False


@pytest.mark.parametrize("state", ["present", "absent"])
def test_check_mode_says_what_would_change_and_changes_nothing(
    roomy: Api, run: Run, state: str
) -> None:
    if state == "absent":
        run(cuda_shim, **PRESENT)
    before, writes = copy.deepcopy(roomy.objects), list(roomy.writes)
    result = run(cuda_shim, check=True, **(PRESENT if state == "present" else ABSENT))
    assert result["changed"] is True
    there = ["libfaultline.so" in json.dumps(result["diff"][k]) for k in ("before", "after")]
    assert there == [state == "absent", state == "present"]
    assert (roomy.objects, roomy.writes) == (before, writes)


def test_a_worker_that_preloads_something_of_its_own_is_left_alone(api: Api, run: Run) -> None:
    # As recorded: a worker with LD_PRELOAD=/lib/x86_64-linux-gnu/libm.so.6.
    api.put(graph(spec_of("objects-v1beta1-agg-shim-added")))
    for name in ("a", "b"):
        api.put(node(name, 4))
    before = copy.deepcopy(api.objects)
    result = run(cuda_shim, **PRESENT)
    assert result["failed"] is True
    assert result["msg"] == ("Component decode sets LD_PRELOAD itself: the shim would replace it.")
    assert (api.writes, api.objects) == ([], before)


def test_without_room_for_the_rollout_nothing_is_begun(full: Api, run: Run) -> None:
    result = run(cuda_shim, **PRESENT)
    assert result["failed"] is True
    assert "Recreate" in result["msg"]
    assert full.writes == []


@pytest.mark.parametrize(
    ("extra", "enough"),
    [
        pytest.param([node("c", 1, unschedulable=True)], False, id="a cordoned node"),
        pytest.param([node("c", 1), pod("x", "c")], False, id="a GPU that another pod has"),
        pytest.param([node("c", 1)], True, id="a free GPU"),
        pytest.param(
            [node("c", 1), pod("x", "c") | {"status": {"phase": "Succeeded"}}],
            True,
            id="a GPU whose pod has ended",
        ),
    ],
)
def test_room_is_a_gpu_that_the_scheduler_can_give(
    full: Api, run: Run, extra: list[Object], enough: bool
) -> None:
    for obj in extra:
        full.put(obj)
    assert bool(run(cuda_shim, **PRESENT).get("changed")) is enough


def test_a_deployment_that_recreates_its_pods_needs_no_room(full: Api, run: Run) -> None:
    found = spec(full)
    found["components"][1]["podTemplate"]["metadata"] = {
        "annotations": {"nvidia.com/deployment-strategy": "Recreate"}
    }
    full.put(graph(found))
    assert run(cuda_shim, **PRESENT)["room"] == "recreate"


def test_a_shim_that_somebody_else_put_there_cannot_be_taken_out_and_is_named(
    roomy: Api, run: Run
) -> None:
    found = spec(roomy)
    main_of(found)["env"] = [{"name": "LD_PRELOAD", "value": "/opt/x/libfaultline.so"}]
    roomy.put(graph(found))
    result = run(cuda_shim, **ABSENT)
    assert result["failed"] is True
    assert result["msg"].startswith("Component decode still mentions the shim: somebody else")
    assert result["components"] == ["decode"]


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], "There is no DGD mock in drill: deploy it first."),
        (
            [graph({"components": [BASE["components"][0]]})],
            "DGD mock has no worker component to put the shim into.",
        ),
    ],
)
def test_what_has_no_workers_is_refused(
    api: Api, run: Run, objects: list[Object], said: str
) -> None:
    for obj in objects:
        api.put(obj)
    result = run(cuda_shim, **PRESENT)
    assert (result["failed"], result["msg"]) == (True, said)
    assert api.writes == []


def test_a_build_must_be_named(api: Api, run: Run) -> None:
    result = run(cuda_shim, name="mock", namespace="drill")
    assert "missing: build_id" in result["msg"]


@pytest.mark.parametrize("unknown", [(), ("DynamoGraphDeployment",)])
def test_taking_the_shim_out_of_nothing_is_done_already(
    api: Api, run: Run, unknown: tuple[str, ...]
) -> None:
    api.unknown |= set(unknown)
    assert run(cuda_shim, **ABSENT)["changed"] is False


@pytest.fixture
def alpha(api: Api) -> Api:
    """A cluster with a deployment that was applied as v1alpha1; its worker has `envs`."""
    definition = copied(ALPHA)
    definition["metadata"]["namespace"] = "drill"
    api.cluster().apply(definition, "faultline-dgd")
    for obj in (node("a", 1), node("b", 1), node("c", 1), pod("w1", "a"), pod("w2", "b")):
        api.put(obj)
    return api


def service(api: Api) -> Object:
    found: Object = stored(api, ALPHA["apiVersion"])["spec"]["services"]["VllmDecodeWorker"]
    return found


def test_a_deployment_of_v1alpha1_gets_the_shim_beside_its_envs_and_loses_it_again(
    alpha: Api, run: Run
) -> None:
    before = stored(alpha, ALPHA["apiVersion"])["spec"]
    result = run(cuda_shim, **PRESENT)
    assert (result["changed"], result["components"]) == (True, ["VllmDecodeWorker"])
    found = service(alpha)
    assert found["envs"] == ALPHA["spec"]["services"]["VllmDecodeWorker"]["envs"]
    assert {e["name"] for e in found["extraPodSpec"]["mainContainer"]["env"]} == {
        "LD_PRELOAD",
        "FAULTLINE_CONTROL",
    }
    # What the operator sees.
    main = main_of(spec(alpha))
    assert {"APP_FLAG", "LD_PRELOAD", "FAULTLINE_CONTROL"} == {e["name"] for e in main["env"]}
    assert {m["name"] for m in main["volumeMounts"]} >= {"faultline-shim", "model"}
    assert run(cuda_shim, **PRESENT)["changed"] is False
    assert run(cuda_shim, **ABSENT)["changed"] is True
    assert stored(alpha, ALPHA["apiVersion"])["spec"] == before
    assert run(cuda_shim, **ABSENT)["changed"] is False


def test_the_owner_of_a_v1alpha1_file_can_apply_it_again_while_the_shim_is_in(
    alpha: Api, run: Run
) -> None:
    run(cuda_shim, **PRESENT)
    with_shim = service(alpha)
    definition = copied(ALPHA)
    definition["metadata"]["namespace"] = "drill"
    definition["spec"]["services"]["VllmDecodeWorker"]["envs"] = [{"name": "NEW", "value": "1"}]
    alpha.cluster().apply(definition, "faultline-dgd")
    assert service(alpha)["extraPodSpec"] == with_shim["extraPodSpec"]
    assert service(alpha)["envs"] == [{"name": "NEW", "value": "1"}]
    run(cuda_shim, **ABSENT)
    assert "faultline" not in json.dumps(stored(alpha)["spec"])
    assert service(alpha)["envs"] == [{"name": "NEW", "value": "1"}]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_check_mode_changes_nothing_in_a_deployment_of_v1alpha1(
    alpha: Api, run: Run, state: str
) -> None:
    if state == "absent":
        run(cuda_shim, **PRESENT)
    before, writes = stored(alpha), list(alpha.writes)
    result = run(cuda_shim, check=True, **(PRESENT if state == "present" else ABSENT))
    assert result["changed"] is True
    there = ["libfaultline.so" in json.dumps(result["diff"][k]) for k in ("before", "after")]
    assert there == [state == "absent", state == "present"]
    assert (stored(alpha), alpha.writes) == (before, writes)


def test_a_preload_in_the_envs_of_a_v1alpha1_worker_is_left_alone(alpha: Api, run: Run) -> None:
    definition = copied(ALPHA)
    definition["metadata"]["namespace"] = "drill"
    definition["spec"]["services"]["VllmDecodeWorker"]["envs"] = [
        {"name": "LD_PRELOAD", "value": "/lib/libm.so.6"}
    ]
    alpha.cluster().apply(definition, "faultline-dgd")
    result = run(cuda_shim, **PRESENT)
    assert result["msg"].startswith("Component VllmDecodeWorker sets LD_PRELOAD itself")
