# SPDX-License-Identifier: Apache-2.0
"""What counts as the same cluster, and what does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import sentinel_recordings as recorded
from ansible_collections.faultline.gpu.plugins.module_utils import _snapshot as snapshot
from ansible_collections.faultline.gpu.plugins.module_utils._objects import RUN_LABEL

Object = dict[str, Any]
NODE: Object = {
    "metadata": {
        "name": "gpu-node-2",
        "labels": {"nvidia.com/gpu.present": "true"},
        "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
    },
    "spec": {},
    "status": {
        "allocatable": {"nvidia.com/gpu": "2"},
        "conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": "t1"},
            {"type": "MemoryPressure", "status": "False"},
            {"type": "SysLogsXIDError", "status": "False"},
        ],
    },
}


def named(kind: str, name: str, namespace: str | None = None, run: str | None = None) -> Object:
    meta: Object = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    if run:
        meta["labels"] = {RUN_LABEL: run}
    return {"kind": kind, "metadata": meta}


def changed(**changes: Any) -> Object:
    """The node with some of its metadata, spec or status replaced."""
    found = copy.deepcopy(NODE)
    for key, value in changes.items():
        part = next(p for p in ("metadata", "spec", "status") if p == key.split("_", 1)[0])
        found[part][key.split("_", 1)[1]] = value
    return found


def differences(node: Object) -> list[str]:
    return snapshot.differences(snapshot.capture([NODE], {}), snapshot.capture([node], {}))


TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
GPU = "Node/gpu-node-2"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (changed(spec_unschedulable=True), f"{GPU} unschedulable: was false, is true"),
        (changed(spec_taints=[TAINT]), f"{GPU} taints: was "),
        (changed(metadata_labels={}), f"{GPU} labels: was "),
        (
            changed(metadata_labels={"nvidia.com/gpu.present": "true", "mine": "1"}),
            f'{GPU} labels: was {{"nvidia.com/gpu.present": "true"}}, is {{"mine": "1", ',
        ),
        (
            changed(metadata_annotations={"quarantineHealthEvent": "[]"}),
            f'{GPU} annotations: was {{}}, is {{"quarantineHealthEvent": "[]"}}',
        ),
        (
            changed(status_allocatable={"nvidia.com/gpu": "1"}),
            f'{GPU} gpus: was "2", is "1"',
        ),
        (
            changed(status_conditions=[{"type": "Ready", "status": "Unknown"}]),
            f'{GPU} alarming: was {{}}, is {{"Ready": "Unknown"}}',
        ),
        (
            changed(
                status_conditions=[
                    {"type": "Ready", "status": "True"},
                    {"type": "SysLogsXIDError", "status": "True"},
                ]
            ),
            f'{GPU} alarming: was {{}}, is {{"SysLogsXIDError": "True"}}',
        ),
    ],
)
def test_each_thing_that_a_drill_could_leave_on_a_node_is_told(node: Object, said: str) -> None:
    found = differences(node)
    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(
            changed(
                metadata_labels={
                    "nvidia.com/gpu.present": "true",
                    "k8saas.nvidia.com/uncordon-by": "NVSentinel",
                    "k8saas.nvidia.com/uncordon-reason": "Syslog-fatal-error-ruleset-removed",
                    "k8saas.nvidia.com/uncordon-timestamp": "2026-11-24T09-30-41Z",
                }
            ),
            id="the marks that NVSentinel leaves after every recovery",
        ),
        pytest.param(
            changed(
                status_conditions=[
                    {"type": "Ready", "status": "True", "lastHeartbeatTime": "t2"},
                    {"type": "SysLogsXIDError", "status": "False", "lastTransitionTime": "t2"},
                ]
            ),
            id="heartbeats and conditions at ease",
        ),
        pytest.param(
            changed(metadata_annotations={"node.alpha.kubernetes.io/ttl": "15"}),
            id="annotations of Kubernetes itself",
        ),
        pytest.param(changed(metadata_resourceVersion="9"), id="its version"),
    ],
)
def test_what_changes_without_a_drill_or_after_every_recovery_is_no_difference(
    node: Object,
) -> None:
    assert differences(node) == []


@pytest.mark.parametrize(
    ("story", "equal"),
    [
        pytest.param(recorded.S1, True, id="s1"),
        pytest.param(recorded.S1B_SIGTERM_IGNORED, True, id="s1b"),
        pytest.param(recorded.S6A_MORE_FAULTS, True, id="s6a"),
        pytest.param(recorded.S5_UNCORDONED_BY_HAND, False, id="s5: the condition stays"),
    ],
)
def test_a_node_is_as_before_after_a_recorded_recovery_and_at_no_moment_in_between(
    story: recorded.Story, equal: bool
) -> None:
    states = [snapshot.capture([node], {}) for _seconds, node, _pods in recorded.moments(story)]
    since = next(i for i, (_s, change) in enumerate(story) if change.get("xid"))
    last = next((i for i, (_s, c) in enumerate(story) if c == recorded.FREE), len(story))
    for state in states[since:last]:
        assert snapshot.differences(states[0], state)
    assert (snapshot.differences(states[0], states[-1]) == []) is equal


def test_objects_that_came_or_went_are_told_by_kind_namespace_and_name() -> None:
    before = {
        "Namespace": [named("Namespace", "default")],
        "DynamoGraphDeployment": [named("DynamoGraphDeployment", "agg", "prod")],
    }
    after = {
        "Namespace": [named("Namespace", "default"), named("Namespace", "drill-r1", run="r1")],
        "DynamoGraphDeployment": [],
        "GPUFault": [named("GPUFault", "r1-xid-79", run="r1")],
    }
    found = snapshot.differences(snapshot.capture([], before), snapshot.capture([NODE], after))
    assert found == [
        "DynamoGraphDeployment/prod/agg is gone",
        "GPUFault/r1-xid-79 was not there before",
        "Namespace/drill-r1 was not there before",
        "Node/gpu-node-2 was not there before",
    ]


def test_an_object_that_now_belongs_to_another_run_is_told() -> None:
    one, other = (
        snapshot.capture([], {"GPUFault": [named("GPUFault", "f", run=run)]}) for run in ("a", "b")
    )
    assert snapshot.differences(one, other) == ['GPUFault/f run: was "a", is "b"']


def test_a_namespace_that_was_made_for_a_run_goes_with_it() -> None:
    before = {"Namespace/drill-1": {"run": "run-1"}, "Namespace/other": {"run": None}}
    assert snapshot.differences(before, {"Namespace/other": {"run": None}}) == []
    assert snapshot.differences(before, {}) == ["Namespace/other is gone"]


def test_a_snapshot_knows_its_cluster_by_the_uid_of_kube_system() -> None:
    system = named("Namespace", "kube-system")
    system["metadata"]["uid"] = "a"
    before = snapshot.capture([NODE], {"Namespace": [system]})
    assert snapshot.another_cluster(before, "a") is None
    assert "was a, here it is b" in (snapshot.another_cluster(before, "b") or "")
    assert snapshot.another_cluster({"Node/n": {}}, "b") is None, "an old one does not say"


def test_the_same_cluster_has_no_differences() -> None:
    named_ = {"Namespace": [named("Namespace", "default")]}
    one = snapshot.capture([NODE], named_)
    assert snapshot.differences(one, snapshot.capture([copy.deepcopy(NODE)], named_)) == []
