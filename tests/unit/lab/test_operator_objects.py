# SPDX-License-Identifier: Apache-2.0
"""The objects that the stand-in makes of a graph, against those that the real operator made."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from operator_recordings import as_applied, dgd_of, dump

from lab.operator import names, render, render_pod
from lab.operator.hash import worker_hash
from lab.operator.settings import FAST_PROBES, Probes, Settings

Object = dict[str, Any]
DUMPS = (
    "objects-v1beta1-agg-ready",
    "objects-v1beta1-agg-shim-added",
    "objects-v1alpha1-ready",
    "objects-v1beta1-disagg-ready",
)
DCDS = "dynamocomponentdeployments.v1beta1.nvidia.com"


def recorded_hash(name: str) -> str:
    """The worker hash of the real operator; its formula is not known, so tests hand it in."""
    value: str = dgd_of(name)["metadata"]["annotations"][names.CURRENT_HASH]
    return value


def rendered_dcds(name: str) -> list[Object]:
    dgd = dgd_of(name)
    return [
        render.component_deployment(dgd, component, recorded_hash(name), component["replicas"])
        for component in dgd["spec"]["components"]
    ]


def by_name(objects: list[Object]) -> dict[str, Object]:
    return {obj["metadata"]["name"]: obj for obj in objects}


@pytest.mark.parametrize("name", DUMPS)
def test_component_deployments_equal_the_recorded_ones(name: str) -> None:
    wanted = {key: as_applied(obj) for key, obj in by_name(dump(name)[DCDS]).items()}
    for obj in wanted.values():
        # Known difference: our DCD has one API version, so it needs no memory of another.
        obj["metadata"]["annotations"].pop("nvidia.com/dcd-spec")
    made = {key: as_applied(obj) for key, obj in by_name(rendered_dcds(name)).items()}
    assert made == wanted


@pytest.mark.parametrize("name", DUMPS)
@pytest.mark.parametrize("kind", ["deployments", "services"])
def test_deployments_and_services_equal_the_recorded_ones(name: str, kind: str) -> None:
    recorded = dump(name)
    owners = by_name(recorded[DCDS])
    make = {
        "deployments": lambda dcd: render_pod.deployment(dcd, Probes()),
        "services": render_pod.service,
    }[kind]
    assert recorded[kind]
    for obj in recorded[kind]:
        wanted = as_applied(obj)
        made = as_applied(make(owners[obj["metadata"]["name"]]))
        if kind == "deployments":
            # Known difference: the hash covers the operator's own rendering, which nobody reads.
            for side in (made, wanted):
                side["metadata"]["annotations"].pop(names.LAST_HASH)
            for side in (made, wanted):
                side["spec"]["template"]["spec"]["containers"].sort(key=lambda c: c["name"])
        assert made == wanted


@pytest.mark.parametrize("name", DUMPS)
def test_accounts_and_rights_equal_the_recorded_ones(name: str) -> None:
    recorded, dgd = dump(name), dgd_of(name)
    made = [*render.planner_objects("drill"), *render.discovery_objects(dgd)]
    for kind, plural in (
        ("ServiceAccount", "serviceaccounts"),
        ("Role", "roles"),
        ("RoleBinding", "rolebindings"),
    ):
        wanted = by_name([obj for obj in recorded[plural] if obj["metadata"]["name"] != "default"])
        ours = by_name([obj for obj in made if obj["kind"] == kind])
        assert {k: as_applied(v) for k, v in ours.items()} == {
            k: as_applied(v) for k, v in wanted.items()
        }


def test_worker_hash_ignores_replicas_restart_and_frontend() -> None:
    dgd = dgd_of("objects-v1beta1-agg-ready")
    before = worker_hash(dgd)
    changed = copy.deepcopy(dgd)
    changed["spec"]["restart"] = {"id": "r1"}
    frontend, decode = changed["spec"]["components"]
    decode["replicas"] = 5
    frontend["podTemplate"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    assert worker_hash(changed) == before


def test_worker_hash_changes_with_a_worker_and_returns_on_revert() -> None:
    plain = dgd_of("objects-v1beta1-agg-ready")
    shimmed = dgd_of("objects-v1beta1-agg-shim-added")
    assert worker_hash(shimmed) != worker_hash(plain)
    reverted = {**shimmed, "spec": copy.deepcopy(plain["spec"])}
    assert worker_hash(reverted) == worker_hash(plain)


def test_one_changed_worker_changes_the_hash_of_all() -> None:
    dgd = dgd_of("objects-v1beta1-disagg-ready")
    changed = copy.deepcopy(dgd)
    prefill = next(c for c in changed["spec"]["components"] if c["name"] == "prefill")
    prefill["podTemplate"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    assert worker_hash(changed) != worker_hash(dgd)


def test_a_graph_without_workers_has_no_hash() -> None:
    dgd = dgd_of("objects-v1beta1-agg-ready")
    dgd["spec"]["components"] = dgd["spec"]["components"][:1]
    assert worker_hash(dgd) is None


def test_recreate_annotation_becomes_the_deployments_strategy_and_stays_off_the_pods() -> None:
    dcd = rendered_dcds("objects-v1beta1-agg-ready")[1]
    dcd["metadata"]["uid"] = "u"
    dcd["spec"]["podTemplate"]["metadata"]["annotations"][names.STRATEGY] = "Recreate"
    made = render_pod.deployment(dcd, Probes())
    assert made["spec"]["strategy"] == {"type": "Recreate"}
    assert "annotations" not in made["spec"]["template"]["metadata"]


def test_a_users_command_and_probe_win_over_the_defaults() -> None:
    frontend = rendered_dcds("objects-v1beta1-agg-ready")[0]
    frontend["metadata"]["uid"] = "u"
    main = frontend["spec"]["podTemplate"]["spec"]["containers"][0]
    main["command"] = ["sh", "-c", "x"]
    main["readinessProbe"] = {"exec": {"command": ["true"]}}
    made = render_pod.deployment(frontend, Probes())["spec"]["template"]["spec"]["containers"][0]
    assert made["command"] == ["sh", "-c", "x"]
    assert "args" not in made
    assert made["readinessProbe"] == {"exec": {"command": ["true"]}}


def test_shared_memory_can_be_sized_or_switched_off() -> None:
    decode = rendered_dcds("objects-v1beta1-agg-ready")[1]
    decode["metadata"]["uid"] = "u"
    decode["spec"]["sharedMemorySize"] = "0"
    pod = render_pod.deployment(decode, Probes())["spec"]["template"]["spec"]
    assert [v["name"] for v in pod["volumes"]] == ["model"]
    decode["spec"]["sharedMemorySize"] = "1Gi"
    pod = render_pod.deployment(decode, Probes())["spec"]["template"]["spec"]
    assert pod["volumes"][-1]["emptyDir"]["sizeLimit"] == "1Gi"


def test_the_fast_profile_shortens_probes_but_never_the_two_hours_of_start_up() -> None:
    settings = Settings.from_environment({"DYNAMO_OPERATOR_PROBE_PROFILE": "fast"})
    assert settings.probes == FAST_PROBES
    assert settings.probes.startup_period < Probes().startup_period
    assert settings.probes.startup_failures * settings.probes.startup_period == 7200


def test_an_unknown_probe_profile_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'realistic'.*or 'fast'"):
        Settings.from_environment({"DYNAMO_OPERATOR_PROBE_PROFILE": "quick"})
