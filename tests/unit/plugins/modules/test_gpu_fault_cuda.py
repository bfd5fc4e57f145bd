# SPDX-License-Identifier: Apache-2.0
"""The option `cuda` of the module gpu_fault: how calls fail, and whose."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils import _fault_options as options
from ansible_collections.faultline.gpu.plugins.module_utils import _xid
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from ansible_collections.faultline.gpu.plugins.modules import gpu_fault
from fake_api import Run
from fault_stage import NAME, PRESENT, Object, Service
from faultline_service import cuda_effect, models, page

TREE = Path(__file__).parents[4]
POD = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"
EVERYTHING: Object = {
    "mode": "slow",
    "classes": "SQ",
    "after_calls": 3,
    "probability": 0.5,
    "seed": 7,
    "delay_microseconds": 20000,
    "not_before_seconds": 2,
    "target": {"pod_uid": POD, "mig_uuid": f"MIG-{POD}", "pid": 4711, "rank": 0},
}


def definition() -> Object:
    """The spec of GPUFault in its custom resource definition."""
    text = (TREE / "roles/fault_service/templates/crds.yaml.j2").read_text()
    crd = next(yaml.safe_load_all(text))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: Object = schema["properties"]["spec"]
    return found


def test_kubectl_explain_has_a_sentence_for_every_field_that_can_be_set() -> None:
    spec = definition()["properties"]
    fields = spec | spec["cuda"]["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []


def test_a_fault_is_refused_that_would_last_longer_than_the_object_may_say() -> None:
    assert definition()["properties"]["durationSeconds"]["maximum"] == options.LONGEST
    too_long = {"xid": 79, "effects": ["kernelLog"], "duration": options.LONGEST + 1}
    assert options.problems(too_long) == ["A fault lasts from 1 to 7200 seconds, not 7201."]


def test_all_that_can_be_said_comes_to_the_object(service: Service, run: Run) -> None:
    result = run(gpu_fault, **PRESENT, cuda=EVERYTHING)
    assert result["changed"] is True
    assert result["fault"]["spec"]["cuda"] == {
        "mode": "slow",
        "classes": "SQ",
        "afterCalls": 3,
        "probability": 0.5,
        "seed": 7,
        "delayMicroseconds": 20000,
        "notBeforeSeconds": 2,
        "target": {"podUID": POD, "migUUID": f"MIG-{POD}", "pid": 4711, "rank": 0},
    }
    assert result["diff"]["after"] == result["fault"]["spec"]


def test_a_fault_without_it_says_nothing_about_cuda(service: Service, run: Run) -> None:
    for nothing in ({}, {"target": {}}, {"target": {"rank": None}}):
        result = run(gpu_fault, **PRESENT, cuda=nothing, name=f"f-{len(service.asked)}")
        assert "cuda" not in result["fault"]["spec"]
    assert [wanted.keys() & {"cuda"} for _, wanted in service.asked] == [set()] * 3


def test_a_second_run_of_the_same_changes_nothing(service: Service, run: Run) -> None:
    run(gpu_fault, **PRESENT, cuda=EVERYTHING)
    result = run(gpu_fault, **PRESENT, cuda=EVERYTHING)
    assert result["changed"] is False
    assert result["diff"]["before"] == result["diff"]["after"]
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "other", [None, {"mode": "once"}, EVERYTHING | {"seed": 8}, EVERYTHING | {"target": {}}]
)
def test_a_fault_that_hits_otherwise_is_another_one(
    service: Service, run: Run, other: Object | None
) -> None:
    run(gpu_fault, **PRESENT, cuda=EVERYTHING)
    for check in (True, False):
        result = run(gpu_fault, check=check, **PRESENT, cuda=other)
        assert result["failed"] is True
        assert result["msg"] == f"There is another fault of the name {NAME}: end it first."
    assert len(service.asked) == 1


def test_check_mode_shows_how_calls_would_fail_and_injects_nothing(
    service: Service, run: Run
) -> None:
    result = run(gpu_fault, check=True, **PRESENT, cuda={"mode": "once", "classes": "S"})
    assert result["changed"] is True
    assert result["diff"]["after"]["cuda"] == {"mode": "once", "classes": "S"}
    assert (service.asked, service.api.objects) == ([], {})


# Each is refused by the module and, asked without it, by the service.
REFUSED = [
    ({"probability": 0.0}, "probability is above 0 and at most 1, not 0."),
    ({"probability": 1.5}, "probability is above 0 and at most 1, not 1.5."),
    ({"mode": "slow"}, "slow needs cuda.delay_microseconds above 0"),
    ({"mode": "slow", "delay_microseconds": 0}, "slow needs cuda.delay_microseconds above 0"),
    ({"mode": "once", "delay_microseconds": 5}, "say cuda.mode hang or slow, not once"),
    ({"delay_microseconds": 5}, "say cuda.mode hang or slow, not nothing"),
    ({"delay_microseconds": 2**32, "mode": "hang"}, "a number from 0 to 4294967295"),
    ({"seed": 7}, "say cuda.probability, too"),
    ({"mode": "genuine"}, "none brings XID 79 about: choose one of the XIDs 13, 31, 43"),
    ({"classes": "P"}, "letters of S (work), Q (waiting)"),
    ({"classes": ""}, "letters of S (work), Q (waiting)"),
    ({"after_calls": -1}, "cuda.after_calls is a number from 0 to 4294967295, not -1."),
    ({"not_before_seconds": 7201}, "cuda.not_before_seconds is a number from 0 to 7200"),
    ({"target": {"pod_uid": "worker-1"}}, "target.pod_uid is the metadata.uid of a pod"),
    ({"target": {"mig_uuid": POD}}, "target.mig_uuid is MIG- and a UUID"),
    ({"target": {"pid": 0}}, "target.pid is a number from 1 to"),
    ({"target": {"rank": -1}}, "target.rank is a number from 0 to"),
]


@pytest.mark.parametrize(("cuda", "said"), REFUSED)
def test_what_cannot_be_is_refused_with_a_sentence_before_anything_is_touched(
    service: Service, run: Run, cuda: Object, said: str
) -> None:
    for check in (True, False):
        result = run(gpu_fault, check=check, **PRESENT, cuda=cuda)
        assert result["failed"] is True
        assert said in result["msg"]
    assert (service.asked, service.api.lists, service.api.objects) == ([], [], {})


@pytest.mark.parametrize("cuda", [cuda for cuda, _ in REFUSED])
def test_the_service_refuses_it_too(service: Service, cuda: Object) -> None:
    request = options.request_of(PRESENT | {"cuda": cuda, "duration": 900}, "f")
    with pytest.raises(FaultlineError):
        service.inject(79, request)
    assert service.api.objects == {}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"effects": ["kernelLog"], "cuda": {"mode": "once"}}, "effects does not have cuda"),
        ({"cuda": {"not_before_seconds": 60}, "duration": 60}, "would end before it begins"),
        ({"cuda": {"mode": "flaky"}}, "must be one of: sticky, once, transient, hang, slow"),
        ({"cuda": {"colour": "red"}}, "Unsupported parameters"),
        ({"cuda": {"target": {"pod": "x"}}}, "Unsupported parameters"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    service: Service, run: Run, more: Object, said: str
) -> None:
    result = run(gpu_fault, **(PRESENT | more))
    assert result["failed"] is True
    assert said in result["msg"]
    assert (service.asked, service.api.lists) == ([], [])


@pytest.mark.parametrize("mode", ["sticky", "once", "transient", "hang"])
def test_a_mode_needs_nothing_else(service: Service, run: Run, mode: str) -> None:
    result = run(gpu_fault, **PRESENT, cuda={"mode": mode})
    assert result["fault"]["spec"]["cuda"] == {"mode": mode}


def test_a_genuine_fault_is_asked_for_where_a_kernel_brings_it_about(
    service: Service, run: Run
) -> None:
    result = run(gpu_fault, **(PRESENT | {"xid": 31}), cuda={"mode": "genuine"})
    assert result["changed"] is True


def test_module_service_definition_and_page_know_the_same_modes() -> None:
    asked = models.Cuda.model_fields["mode"].annotation
    (literal, _none) = get_args(asked)
    stored = definition()["properties"]["cuda"]["properties"]["mode"]["enum"]
    assert options.MODES == page.MODES == get_args(literal) == tuple(stored)
    assert set(options.WITH_DELAY) == set(cuda_effect.WITH_DELAY)
    assert set(options.CLASSES) == set(page.CLASSES) - {"P"}


def test_every_option_is_a_field_of_the_definition_and_every_field_about_cuda_an_option() -> None:
    properties: Any = definition()["properties"]

    def places(fields: Object, above: str) -> set[str]:
        found = set()
        for name, field in fields.items():
            inner = field.get("properties")
            found |= places(inner, f"{above}{name}.") if inner else {f"{above}{name}"}
        return found

    known = places(properties, "")
    mine = {place for _, place, _ in options.PLACES}
    assert mine <= known
    assert {p for p in known if p.startswith("cuda.")} <= mine


def test_genuine_xids_are_those_of_the_table() -> None:
    rows = [row["xid"] for row in _xid.table()["profiles"] if row.get("genuine")]
    assert tuple(rows) == options.GENUINE_XIDS
