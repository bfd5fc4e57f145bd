# SPDX-License-Identifier: Apache-2.0
"""When waiting for a graph has no sense any more, also against what was recorded."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _graph_trouble as troubles
from ansible_collections.faultline.gpu.plugins.module_utils._errors import WaitFailed
from graph_recordings import (
    ALPHA,
    BROKEN,
    CHANGES,
    CRASHED_TWICE,
    CREATED,
    DISAGG,
    EVICTED,
    FULL,
    HASH_LABEL,
    KILLED,
    NO_ROOM,
    RECREATE,
    SHIM,
    STOPPED,
    TO_ZERO,
    Recording,
)

Object = dict[str, Any]
OLD, NEW = "aaaaaaaa", "bbbbbbbb"
COMPONENT = "nvidia.com/dynamo-component"


def graph(reason: str = "some_resources_are_not_ready", **status: Any) -> Object:
    """A graph at generation 2 whose workers have the hash OLD."""
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": "why"}
    return {
        "metadata": {
            "name": "agg",
            "generation": 2,
            "annotations": {"nvidia.com/current-worker-hash-v2": OLD},
        },
        "status": {"state": "pending", "observedGeneration": 2, "conditions": [ready]} | status,
    }


def pod(name: str = "w1", hash_: str | None = OLD, born: str = "1", **status: Any) -> Object:
    labels = {COMPONENT: "decode", HASH_LABEL: hash_} if hash_ else {COMPONENT: "Frontend"}
    meta = {"name": name, "creationTimestamp": born, "labels": labels}
    return {"metadata": meta, "spec": {"nodeName": "gpu-node-1"}, "status": status}


def waits(reason: str, message: str = "why", last: Object | None = None, times: int = 0) -> Object:
    """Status of a container that waits."""
    state = {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}
    return {"name": "main", "state": state, "restartCount": times} | (
        {"lastState": {"terminated": last}} if last else {}
    )


def broken(name: str = "w1", hash_: str | None = OLD, born: str = "1") -> Object:
    return pod(name, hash_, born, containerStatuses=[waits("InvalidImageName")])


def unschedulable(name: str = "w1") -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    message = "0/3 nodes: Insufficient nvidia.com/gpu"
    return pod(name, conditions=[condition | {"message": message}]) | {"spec": {}}


def ending(found: Object) -> Object:
    found["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    return found


ERROR = {"reason": "Error", "exitCode": 137}
OOM = {"reason": "OOMKilled", "exitCode": 137}


@pytest.mark.parametrize("where", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize(
    ("container", "said"),
    [
        (waits("InvalidImageName"), "InvalidImageName: why"),
        (waits("ErrImageNeverPull"), "ErrImageNeverPull: why"),
        (waits("CreateContainerConfigError"), "CreateContainerConfigError: why"),
        (waits("CreateContainerError"), "CreateContainerError: why"),
        (waits("ErrImagePull"), "ErrImagePull: why"),
        (waits("ImagePullBackOff"), "ImagePullBackOff: why"),
        (
            waits("CrashLoopBackOff", "back-off 20s", ERROR, 2),
            "CrashLoopBackOff: 2 restarts, ended with Error 137: back-off 20s",
        ),
        (waits("CrashLoopBackOff", "", OOM, 1), "OOMKilled: 1 restarts, ended with OOMKilled 137"),
        (
            {"name": "main", "state": {"terminated": OOM}, "restartCount": 0},
            "OOMKilled: 0 restarts, ended with OOMKilled 137",
        ),
    ],
)
def test_what_waiting_cannot_heal_ends_the_wait_and_is_named(
    container: Object, said: str, where: str
) -> None:
    pods = [pod("w2"), pod("w1", **{where: [container]})]
    with pytest.raises(WaitFailed) as error:
        troubles.give_up(graph(), pods)
    assert str(error.value) == f"Waiting cannot help: container main of pod w1: {said}."
    found = error.value.details["trouble"]
    assert (found["pod"], found["container"]) == ("w1", "main")
    assert f"{found['reason']}: {found['message']}" == said


@pytest.mark.parametrize(
    ("container", "said"),
    [
        (waits("ContainerCreating"), None),
        (waits("PodInitializing"), None),
        ({"name": "main", "state": {"terminated": ERROR}, "restartCount": 0}, None),
        ({"name": "main", "state": {"running": {}}, "lastState": {"terminated": ERROR}}, None),
        ({"name": "main", "ready": True, "lastState": {"terminated": OOM}}, None),
        (waits("ErrImagePull", ""), "ErrImagePull"),
        (
            waits("CrashLoopBackOff", "back-off 10s", ERROR, 1),
            "CrashLoopBackOff: 1 restarts, ended with Error 137: back-off 10s",
        ),
    ],
)
def test_what_may_heal_is_only_named(container: Object, said: str | None) -> None:
    found = pod(containerStatuses=[container])
    troubles.give_up(graph(), [found])
    named = troubles.trouble(found)
    assert (str(named) if named else None) == (
        f"container main of pod w1: {said}" if said else None
    )


def test_of_two_containers_the_hopeless_one_is_named() -> None:
    two = [waits("CrashLoopBackOff", "", ERROR, 1), waits("InvalidImageName") | {"name": "sidecar"}]
    assert "container sidecar" in str(troubles.trouble(pod(containerStatuses=two)))


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param([ending(broken())], id="one that is ending"),
        pytest.param([broken() | {"spec": {"nodeName": "gpu-node-2"}}], id="on a lost node"),
        pytest.param([broken("old")], id="one that was there before the change"),
        pytest.param([broken(hash_=NEW)], id="one that a revert has left behind"),
        pytest.param(
            [pod(phase="Failed", containerStatuses=[waits("InvalidImageName")])],
            id="one that a kubelet left",
        ),
    ],
)
def test_pods_of_no_account_do_not_end_the_wait(pods: list[Object]) -> None:
    troubles.give_up(graph(), pods, elsewhere={"gpu-node-2"}, known={"old"})


def test_a_pod_that_is_ready_is_no_trouble_whatever_it_went_through() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    troubles.give_up(graph(), [pod(**ready, initContainerStatuses=[waits("InvalidImageName")])])


@pytest.mark.parametrize(
    ("reason", "pods", "ends"),
    [
        pytest.param("some", [broken(hash_=OLD)], True, id="made so"),
        pytest.param("rolling_update_in_progress", [broken(hash_=OLD)], False, id="old, none new"),
        pytest.param(
            "rolling_update_in_progress",
            [broken("w1", OLD, "1"), pod("w2", NEW, "2")],
            False,
            id="old, about to be replaced",
        ),
        pytest.param(
            "rolling_update_in_progress",
            [pod("w1", OLD, "1"), broken("w2", NEW, "2")],
            True,
            id="new",
        ),
        pytest.param(
            # The graph names the new hash half a second before the rollout ends (recorded).
            "rolling_update_in_progress",
            [broken("w1", "99999999", "1"), pod("w2", OLD, "2")],
            False,
            id="old, at the end of a rollout",
        ),
    ],
)
def test_only_pods_of_the_specification_of_now_end_the_wait(
    reason: str, pods: list[Object], ends: bool
) -> None:
    try:
        troubles.give_up(graph(reason), pods)
    except WaitFailed:
        assert ends
    else:
        assert not ends


def test_a_frontend_that_is_about_to_be_replaced_does_not_end_the_wait() -> None:
    old, new = broken("f1", None, "1"), pod("f2", None, "2")
    for found, template in ((old, "t1"), (new, "t2")):
        found["metadata"]["labels"]["pod-template-hash"] = template
    troubles.give_up(graph(), [new, old])
    new["status"] = old["status"]
    with pytest.raises(WaitFailed, match="pod f2"):
        troubles.give_up(graph(), [new, old])


@pytest.mark.parametrize("observed", [1, None])
def test_nothing_is_given_up_on_a_status_that_is_older_than_the_specification(
    observed: int | None,
) -> None:
    troubles.give_up(graph(state="failed", observedGeneration=observed), [broken()])
    troubles.give_up(None, [broken()])


def test_a_graph_that_the_operator_calls_failed_ends_the_wait() -> None:
    with pytest.raises(WaitFailed, match=r"^DGD agg has failed \(bad_thing\): why\.$"):
        troubles.give_up(graph("bad_thing", state="failed"), [])


def test_time_without_a_place_counts_only_while_no_pod_of_the_graph_is_ending() -> None:
    since = troubles.without_place([unschedulable(), pod("w2")], {}, 5.0)
    assert since == {"w1": 5.0}
    since = troubles.without_place([unschedulable(), unschedulable("w3")], since, 9.0)
    assert since == {"w1": 5.0, "w3": 9.0}
    assert troubles.without_place([unschedulable(), ending(pod("w2"))], since, 11.0) == {}
    assert troubles.without_place([pod("w1")], since, 12.0) == {}


def test_a_pod_without_a_place_ends_the_wait_when_its_time_is_up() -> None:
    troubles.give_up(graph(), [unschedulable()])
    with pytest.raises(WaitFailed) as error:
        troubles.give_up(graph(), [unschedulable()], overdue={"w1"})
    said = "pod w1 cannot be scheduled: 0/3 nodes: Insufficient nvidia.com/gpu."
    assert str(error.value) == f"Waiting cannot help: {said}"
    assert error.value.details["trouble"]["reason"] == "Unschedulable"


def given_up(recording: Recording, grace: float) -> tuple[float, str] | None:
    """When a wait that began with a recording would have been given up, and why.

    Nothing may happen for long: it is asked at every change and every second in between.
    """
    since: dict[str, float] = {}
    moments = list(recording.moments())
    silent = [
        (float(second), *state)
        for (begin, *state), (end, *_) in itertools.pairwise(moments)
        for second in range(math.ceil(begin), math.ceil(end))
    ]
    for seconds, found, pods in sorted(moments + silent, key=lambda moment: moment[0]):
        since = troubles.without_place(pods, since, seconds)
        overdue = {name for name, begun in since.items() if seconds - begun >= grace}
        try:
            troubles.give_up(found, pods, overdue=overdue)
        except WaitFailed as error:
            return seconds, str(error)
    return None


@pytest.mark.parametrize(
    "recording",
    [
        ALPHA, CHANGES, CRASHED_TWICE, CREATED, DISAGG, EVICTED, KILLED, NO_ROOM, RECREATE, SHIM,
        STOPPED, TO_ZERO,
    ],
    ids=lambda recording: recording.name,
)  # fmt: skip
def test_what_came_back_by_itself_was_never_given_up(recording: Recording) -> None:
    assert given_up(recording, 30) is None


def test_a_broken_init_container_is_given_up_at_its_third_crash() -> None:
    seconds, said = given_up(BROKEN, 30) or (0.0, "")
    assert seconds == 32.012
    assert "shim-init of pod mock-decode-45b415d3" in said
    assert "2 restarts, ended with Error 1: back-off 20s restarting failed container" in said


def test_what_a_revert_leaves_behind_is_not_held_against_it() -> None:
    reverted = [m for m in BROKEN.moments() if m[0] > 45.1]
    assert len(reverted) > 5
    for _seconds, found, pods in reverted:
        troubles.give_up(found, pods)


def test_a_rollout_that_finds_no_gpu_is_given_up_after_the_grace_and_not_before() -> None:
    seconds, said = given_up(FULL, 30) or (0.0, "")
    assert seconds == 45.0
    assert "cannot be scheduled" in said
    assert "Insufficient nvidia.com/gpu" in said
    assert given_up(FULL, 90) is None
