# SPDX-License-Identifier: Apache-2.0
"""Why pods do not run and a namespace does not go, in the words of those who know."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _diagnosis as diagnosis

Object = dict[str, Any]
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def node(name: str, gpus: int = 2, ready: str = "True", gpu: bool = True, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.present": "true"} if gpu else {}},
        "spec": spec,
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus)},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(
    name: str, at: str | None = None, gpus: int = 1, said: str | None = NO_GPU, **spec: Any
) -> Object:
    limits = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    row = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    return {
        "metadata": {"name": name, "namespace": "drill"},
        "spec": {"containers": [{"name": "main", "resources": limits}], "nodeName": at, **spec},
        "status": {
            "phase": "Running" if at else "Pending",
            "conditions": [row] if said and not at else [],
        },
    }


def test_a_pod_without_a_node_is_told_in_the_schedulers_words_with_wanted_and_free_gpus() -> None:
    (found,) = diagnosis.pending([pod("w1", gpus=2)], {"a": 1, "b": 0})
    assert found["subject"] == "pod w1"
    assert found["problem"] == (
        f"Pending. The scheduler says: {NO_GPU} GPUs wanted 2, free {{'a': 1, 'b': 0}}."
    )
    assert found["fix"].startswith("Free GPUs")


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        (NO_GPU, "Free GPUs"),
        ("0/3 nodes are available: 3 Insufficient memory.", "Ask for less"),
        ("0/3 nodes: 3 node(s) didn't match Pod's node affinity/selector.", "Remove nodeSelector"),
        ("0/3 nodes: 1 node(s) had untolerated taint {x: }.", "Add a toleration"),
        ("pod has unbound immediate PersistentVolumeClaims.", "Look at the claims"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "Wait until NVSentinel"),
        ("something new", "Look at the pod's events"),
        (None, "Look at the pod's events"),
    ],
)
def test_each_message_of_the_scheduler_comes_with_what_to_do(said: str | None, fix: str) -> None:
    (found,) = diagnosis.pending([pod("w1", said=said)], {})
    assert found["fix"].startswith(fix)


def test_pods_with_the_same_message_are_one_finding() -> None:
    rows = [pod("w1"), pod("w2"), pod("w3", said="other"), pod("up", at="a")]
    found = diagnosis.pending(rows, {})
    assert [f["subject"] for f in found] == ["pod w1 and 1 more", "pod w3"]
    assert "GPUs wanted 2" in found[0]["problem"]


def test_pods_that_run_or_are_ending_are_not_pending() -> None:
    ending = pod("w1")
    ending["metadata"]["deletionTimestamp"] = "t"
    assert diagnosis.pending([pod("up", at="a"), ending], {}) == []


def affinity(*terms: Object) -> Object:
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": wanted}}


def term(
    *names: str, key: str = "kubernetes.io/hostname", where: str = "matchExpressions"
) -> Object:
    return {where: [{"key": key, "operator": "In", "values": list(names)}]}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, None),
        ({"nodeSelector": {"kubernetes.io/hostname": "a"}}, {"a"}),
        ({"nodeSelector": {"disk": "ssd"}}, None),
        (affinity(term("a", "b")), {"a", "b"}),
        (affinity(term("a"), term("c")), {"a", "c"}),
        (affinity(term("a", key="metadata.name", where="matchFields")), {"a"}),
        (affinity(term("a"), term("ssd", key="disk")), None),
        (affinity(), None),
    ],
)
def test_nodes_that_a_pod_asks_for_by_name_are_known(spec: Object, names: set[str] | None) -> None:
    assert diagnosis.hosts_wanted(pod("w", **spec)) == names


NODES = [node("dead", unschedulable=True), node("b"), node("c")]


def reasons(
    rows: list[Object], nodes: list[Object], others: list[Object] | None = None
) -> list[str]:
    every = rows + (others or [])
    found = diagnosis.not_rescheduled(rows, nodes, diagnosis.room(nodes, every), every)
    return [f"{f['subject']}: {f['problem']} {f['fix']}" for f in found]


PINNED = {"nodeSelector": {"kubernetes.io/hostname": "dead"}}
BUSY = [pod("p1", "b", gpus=2), pod("p2", "c", gpus=2)]


@pytest.mark.parametrize(
    ("rows", "nodes", "others", "said"),
    [
        pytest.param([pod("w")], NODES, [], [], id="room elsewhere: nothing known"),
        pytest.param([pod("w", gpus=2)], NODES, [], [], id="just enough room"),
        pytest.param([pod("f", gpus=0)], [node("a")], [], [], id="it wants no GPU"),
        pytest.param([pod("w", "b")], [node("a")], [], [], id="it has a node"),
        pytest.param(
            [pod("w", **PINNED)], NODES, [], ["pod w: Pinned by nodeSelector or affinity to dead"],
            id="pinned to the dead node",
        ),
        pytest.param(
            [pod("w", **affinity(term("dead", "b")))], NODES, [], [], id="one of its nodes is well"
        ),
        pytest.param(
            [pod("w")], [node("dead", ready="Unknown"), node("b", gpu=False)], [],
            ["GPU nodes: There is 1 GPU node; pods of a dead one need a second. Add a GPU node."],
            id="one GPU node in all",
        ),
        pytest.param(
            [pod("w")], [node("dead", ready="False"), node("b")], [],
            ["GPU nodes: 1 of 2 GPU nodes take pods; dead is cordoned or not Ready."],
            id="one left",
        ),
        pytest.param(
            [pod("w")], NODES, BUSY,
            ["GPUs: No node has 1 free GPUs; they are held by drill/p1, drill/p2."],
            id="all GPUs are held",
        ),
        pytest.param([pod("w", gpus=3)], NODES, [], ["GPUs: No node has 3 free "], id="too big"),
    ],
)  # fmt: skip
def test_each_reason_for_which_a_pod_finds_no_other_node_is_told(
    rows: list[Object], nodes: list[Object], others: list[Object], said: list[str]
) -> None:
    found = reasons(rows, nodes, others)
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True)), found


def pulling(reason: str, message: str | None = None) -> Object:
    found = pod("w1", "a")
    waiting = {"reason": reason} | ({"message": message} if message else {})
    rows = [{"name": "main", "image": "host/x:1", "state": {"waiting": waiting}}]
    found["status"]["containerStatuses"] = rows
    return found


def event(name: str, message: str, reason: str = "Failed", last: str = "1") -> Object:
    return {
        "metadata": {"name": f"e{last}"},
        "involvedObject": {"name": name},
        "reason": reason,
        "message": message,
        "lastTimestamp": last,
    }


@pytest.mark.parametrize(
    ("waiting", "events", "said", "fix"),
    [
        (pulling("ErrImagePull", "manifest unknown"), [], "manifest unknown", "no such image"),
        (
            pulling("ImagePullBackOff", 'Back-off pulling image "host/x:1"'),
            [
                event("w1", "Failed to pull image: 401 Unauthorized", last="2"),
                event("w1", "Failed to pull image: i/o timeout", last="1"),
                event("w2", "Failed to pull image: no such host", last="3"),
                event("w1", "Error: ImagePullBackOff of the image", "BackOff", last="4"),
            ],
            "401 Unauthorized",
            "imagePullSecrets",
        ),
        (
            pulling("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: no such host'),
            [event("w1", "Failed to pull image: 401 Unauthorized")],
            "no such host",
            "does not reach",
        ),
        (pulling("ErrImageNeverPull"), [], "nothing more", "load it there"),
    ],
)
def test_an_image_that_does_not_come_is_told_in_the_kubelets_words(
    waiting: Object, events: list[Object], said: str, fix: str
) -> None:
    (found,) = diagnosis.not_pulled([waiting], events)
    assert found["subject"] == "pod w1, container main"
    assert found["problem"].startswith("Image host/x:1: ")
    assert said in found["problem"]
    assert fix in found["fix"]


def test_an_image_that_several_pods_lack_is_one_finding() -> None:
    assert len(diagnosis.not_pulled([pulling("ErrImagePull"), pulling("ErrImagePull")], [])) == 1


def going(*rows: tuple[str, str]) -> Object:
    conditions = [{"type": kind, "status": "True", "message": said} for kind, said in rows]
    meta = {"name": "drill", "deletionTimestamp": "2026-11-24T08:00:00Z"}
    return {"metadata": meta, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("rows", "said", "fix"),
    [
        (
            [
                (
                    "NamespaceContentRemaining",
                    "Some resources are remaining: dynamographdeployments",
                ),
                ("NamespaceFinalizersRemaining", "nvidia.com/finalizer in 1 resource instances"),
            ],
            "nvidia.com/finalizer in 1 resource",
            "The Dynamo operator",
        ),
        (
            [("NamespaceFinalizersRemaining", "faultline.dev/agent in 1 resource instances")],
            "faultline.dev/agent",
            "The agents of the fault service",
        ),
        (
            [("NamespaceDeletionDiscoveryFailure", "Discovery failed for some groups")],
            "Discovery failed",
            "An API does not answer",
        ),
        (
            [("NamespaceContentRemaining", "Some resources are remaining: pods. has 2 resource")],
            "pods. has 2",
            "Pods go first",
        ),
        ([], "Neither its pods nor", "Look at what remains"),
    ],
)
def test_a_namespace_that_does_not_go_is_told_with_what_holds_it(
    rows: list[tuple[str, str]], said: str, fix: str
) -> None:
    (found,) = diagnosis.terminating(going(*rows))
    assert said in found["problem"]
    assert found["fix"].startswith(fix)


def test_a_namespace_that_stays_or_is_gone_is_no_finding() -> None:
    assert diagnosis.terminating({"metadata": {"name": "drill"}}) == []
    assert diagnosis.terminating(None) == []


def test_pods_that_hold_a_namespace_are_named_though_the_api_server_says_that_all_is_gone() -> None:
    found = going(("NamespaceContentRemaining", "All content successfully removed"))
    found["status"]["conditions"][0]["status"] = "False"
    rows = [pod("w1", "dead"), pod("w2", "b"), pod("w3"), pod("w4")]
    rows[0]["metadata"]["finalizers"] = ["example.com/hold"]
    rows[1]["metadata"]["deletionTimestamp"] = "t"
    nodes = [node("dead", ready="Unknown"), node("b", unschedulable=True)]
    (row,) = diagnosis.terminating(found, rows, nodes)
    assert row["problem"].endswith(
        "pods left: w1 (finalizers example.com/hold; its node dead is not Ready), w2 (ending), "
        "w3 (not asked to end yet) and 1 more."
    )
    assert row["fix"].startswith("Pods go first")


def test_conditions_that_do_not_hold_are_left_out() -> None:
    found = going(("NamespaceContentRemaining", "pods. has 2"))
    found["status"]["conditions"][0]["status"] = "False"
    assert "has 2" not in diagnosis.terminating(found)[0]["problem"]
