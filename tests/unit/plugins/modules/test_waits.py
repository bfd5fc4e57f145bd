# SPDX-License-Identifier: Apache-2.0
"""The modules that only wait: node_quarantine, shim_evidence, k8s_watch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentinel_recordings as recorded
from ansible_collections.faultline.gpu.plugins.modules import (
    k8s_watch,
    node_quarantine,
    shim_evidence,
)
from fake_api import Api, Run

Object = dict[str, Any]
NODE = recorded.NODE
FAULT = {"xid": recorded.message(79, "run-1"), "cordon": True, "events": 1}
SHORT = 0.1


def pod(name: str, at: str | None = NODE, **meta: Any) -> Object:
    labels = {"nvidia.com/dynamo-worker-hash": "aaaaaaaa"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "drill", "uid": name, "labels": labels} | meta,
        "spec": {"nodeName": at},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def quarantine(run: Run, state: str, timeout: float = 5, **more: Any) -> Object:
    return run(node_quarantine, state=state, node=NODE, timeout=timeout, **more)


def test_a_node_that_is_quarantined_for_the_run_is_seen(api: Api, run: Run) -> None:
    api.put(recorded.node_of(FAULT | {"state": "quarantined"}))
    result = quarantine(run, "quarantined", run_id="run-1")
    assert result["changed"] is False
    assert result["seen"] == (
        "gpu-node-2: condition SysLogsXIDError True with this run's id, cordoned by NVSentinel"
    )
    said = quarantine(run, "quarantined", SHORT, run_id="run-2")["msg"]
    assert "SysLogsXIDError True of another fault, cordoned by NVSentinel" in said


def test_a_node_is_released_when_nothing_is_left_of_the_fault(api: Api, run: Run) -> None:
    api.put(recorded.node_of({}))
    assert quarantine(run, "released")["seen"] == "gpu-node-2: released"
    api.put(recorded.node_of(FAULT))
    assert "cordoned, in quarantine" in quarantine(run, "released", SHORT)["msg"]


DRAINED = FAULT | {"state": "drain-succeeded"}


def timeline(path: Path, *rows: tuple[str, str, str | None, str | None]) -> str:
    """A timeline with pods by name, namespace, node and reason of disruption."""
    lines = [
        {
            "kind": "Pod",
            "namespace": namespace,
            "name": name,
            "op": "MODIFIED",
            "at": 1.0,
            "view": {"node": node, "disruption": why},
        }
        for name, namespace, node, why in rows
    ]
    other = {"kind": "Node", "namespace": "", "name": NODE, "op": "LISTED", "at": 1.0, "view": {}}
    path.write_text("".join(json.dumps(line) + "\n" for line in [other, *lines]))
    return str(path)


EVICTED = "EvictionByEvictionAPI"


def test_a_drained_node_is_empty_of_our_pods_alone(api: Api, run: Run) -> None:
    api.put(recorded.node_of(DRAINED))
    api.put(pod("theirs", namespace="prod"))
    api.put(pod("moved", at="gpu-node-3"))
    assert "empty of our pods" in quarantine(run, "drained", namespace="drill")["seen"]
    api.put(pod("w1"))
    said = quarantine(run, "drained", SHORT, namespace="drill")["msg"]
    assert "still there: w1" in said


@pytest.mark.parametrize(
    ("rows", "evicted"),
    [
        ([("w1", "drill", NODE, EVICTED)], "w1"),
        ([("w1", "drill", NODE, EVICTED), ("w2", "drill", NODE, EVICTED)], "w1, w2"),
        ([("w1", "drill", NODE, None)], None),
        ([("w1", "drill", NODE, "DeletionByTaintManager")], None),
        ([("w1", "drill", "gpu-node-3", EVICTED)], None),
        ([("w1", "prod", NODE, EVICTED)], None),
        ([], None),
    ],
)
def test_with_a_timeline_a_drain_counts_only_when_a_pod_was_really_evicted(
    api: Api,
    run: Run,
    tmp_path: Path,
    rows: list[tuple[str, str, str | None, str | None]],
    evicted: str | None,
) -> None:
    api.put(recorded.node_of(DRAINED))
    path = timeline(tmp_path / "timeline.jsonl", *rows)
    timeout = 5 if evicted else SHORT
    result = quarantine(run, "drained", timeout, namespace="drill", timeline=path)
    if evicted:
        assert result["seen"].endswith(f"; evicted: {evicted}")
    else:
        assert result["failed"] is True
        assert "evicted: no pod" in result["msg"]


def test_a_drain_that_hangs_names_the_drainers_own_words(api: Api, run: Run) -> None:
    api.put(recorded.node_of(FAULT | {"state": "draining"}))
    api.put(pod("w1"))
    # As recorded in s1c; older and other events and other nodes' are no answer.
    rows = [
        ("NodeDraining", NODE, "08:00:12"),
        ("NodeDraining", NODE, "08:00:02"),
        ("NodeDraining", "gpu-node-1", "08:00:32"),
        ("Normal", NODE, "08:00:32"),
    ]
    for number, (kind, about, last) in enumerate(rows):
        api.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"e{number}",
                    "namespace": "default",
                    "creationTimestamp": "2026-11-24T08:00:00Z",
                },
                "lastTimestamp": f"2026-11-24T{last}Z",
                "type": kind,
                "reason": "AwaitingPodCompletion",
                "message": f"Waiting for following pods to finish: [drill/w{number}]",
                "involvedObject": {"kind": "Node", "name": about},
            }
        )
    said = quarantine(run, "drained", SHORT, namespace="drill")["msg"]
    assert "gpu-node-2: state draining, still there: w1" in said
    assert said.endswith(
        " The drainer says AwaitingPodCompletion: Waiting for following pods to finish: [drill/w0]"
    )


def test_a_drain_that_was_given_up_fails_at_once(api: Api, run: Run) -> None:
    api.put(recorded.node_of(FAULT | {"state": "drain-failed"}))
    said = quarantine(run, "drained", 20, namespace="drill")["msg"]
    assert said == "NVSentinel gave up draining gpu-node-2: its state is drain-failed."


def test_a_node_that_is_not_there_is_named_in_the_timeout(api: Api, run: Run) -> None:
    assert "the node is not there" in quarantine(run, "released", SHORT)["msg"]


@pytest.mark.parametrize(
    ("state", "said"), [("quarantined", "missing: run_id"), ("drained", "missing: namespace")]
)
def test_a_wait_must_know_for_what(api: Api, run: Run, state: str, said: str) -> None:
    assert said in quarantine(run, state)["msg"]
    assert api.lists == []


@pytest.mark.parametrize(("state", "option"), [("quarantined", "run_id"), ("drained", "namespace")])
def test_what_must_be_given_must_not_be_empty(api: Api, run: Run, state: str, option: str) -> None:
    said = quarantine(run, state, **{option: ""})["msg"]
    assert said.startswith(f"{option} must not be empty: give the option of the module ")
    assert api.lists == []


def host(name: str, *builds: str, armed: str | None = None, **hits: int) -> Object:
    """A GPU host with builds, a fault in its page, and hits by pod."""
    processes = [
        {
            "pod": pod_,
            "podUID": pod_,
            "namespace": "drill",
            "shim": {"pageMapped": True, "hits": count},
        }
        for pod_, count in hits.items()
    ]
    page = {"entries": [{"faultId": armed}] if armed else []}
    status = {"shimBuilds": list(builds), "processes": processes, "page": page}
    return {
        "apiVersion": "faultline.dev/v1alpha1",
        "kind": "GPUHost",
        "metadata": {"name": name},
        "status": status,
    }


def gpu_node(name: str) -> Object:
    labels = {"nvidia.com/gpu.present": "true"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def evidence(run: Run, state: str, timeout: float = 5, **more: Any) -> Object:
    return run(shim_evidence, state=state, timeout=timeout, **more)


def test_a_build_is_there_when_every_gpu_host_has_it(api: Api, run: Run) -> None:
    for obj in (gpu_node("a"), gpu_node("b"), host("a", "x", "y"), host("b", "x")):
        api.put(obj)
    assert evidence(run, "built", build_id="x")["seen"] == "build x on 2 hosts"
    assert "build y is missing on b" in evidence(run, "built", SHORT, build_id="y")["msg"]
    api.put(gpu_node("c"))
    assert "build x is missing on c" in evidence(run, "built", SHORT, build_id="x")["msg"]


def test_without_gpu_nodes_no_build_is_there(api: Api, run: Run) -> None:
    api.put(host("a", "x"))
    assert "there is no GPU node" in evidence(run, "built", SHORT, build_id="x")["msg"]


def test_the_shim_is_inert_in_every_worker(api: Api, run: Run) -> None:
    for obj in (pod("w1"), pod("w2"), host("a", w1=0, w2=0)):
        api.put(obj)
    result = evidence(run, "inert", namespace="drill")
    assert result["seen"] == "shim mapped and inert in 2 workers"
    assert {p["pod"] for p in result["processes"]} == {"w1", "w2"}
    api.put(pod("w3"))
    said = evidence(run, "inert", SHORT, namespace="drill")["msg"]
    assert "no process proves the shim in w3" in said


HIT = {"namespace": "drill", "node": "a", "fault": "f"}


def test_calls_that_fail_on_the_target_alone_while_the_fault_is_armed_are_a_hit(
    api: Api, run: Run
) -> None:
    api.put(host("a", armed="f", w1=3))
    api.put(host("b", w2=0))
    result = evidence(run, "hit", **HIT)
    assert result["seen"] == "3 CUDA calls failed by the shim on a, 0 elsewhere"
    assert result["hits"] == {"a": 3, "b": 0}


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([host("a", armed="f", w1=0)], "0 CUDA calls failed by the shim on a"),
        ([host("a", w1=3)], "f is not armed in the control page of a (any more)"),
        ([host("a", armed="other", w1=3)], "f is not armed in the control page of a"),
        ([host("b", armed="f")], "f is not armed in the control page of a"),
        ([], "f is not armed in the control page of a"),
    ],
)
def test_without_hits_or_without_the_fault_there_is_no_hit(
    api: Api, run: Run, hosts: list[Object], said: str
) -> None:
    for obj in hosts:
        api.put(obj)
    result = evidence(run, "hit", SHORT, **HIT)
    assert result["failed"] is True
    assert said in result["msg"]


def test_a_hit_on_another_node_fails_at_once(api: Api, run: Run) -> None:
    for obj in (host("a", armed="f", w1=3), host("b", w2=1)):
        api.put(obj)
    result = evidence(run, "hit", 20, **HIT)
    assert result["msg"] == "The fault hit GPUs it was not meant for: {'b': 1}."
    assert result["hits"] == {"a": 3, "b": 1}


def test_without_the_fault_service_there_is_no_evidence(api: Api, run: Run) -> None:
    api.unknown.add("GPUHost")
    result = evidence(run, "inert", 20, namespace="drill")
    assert result["msg"] == "The fault service is not installed: run the role fault_service."


PODS = [{"api_version": "v1", "kind": "Pod", "namespace": "drill"}]


def watch(run: Run, timeout: float = 5, **more: Any) -> Object:
    return run(k8s_watch, **({"resources": PODS} | more), timeout=timeout)


def test_all_objects_of_all_resources_must_meet_every_condition(api: Api, run: Run) -> None:
    api.put(pod("w1"))
    api.put(pod("w2"))
    api.put(gpu_node("a"))
    resources = [*PODS, {"api_version": "v1", "kind": "Node"}]
    until = [{"path": "metadata.name", "regex": "^(a|w1|w2)$"}]
    result = watch(run, resources=resources, until=until)
    assert (result["count"], result["changed"]) == (3, False)
    api.put(pod("w3"))
    said = watch(run, SHORT, resources=resources, until=until)["msg"]
    assert "Last seen: Pod/w3: metadata.name is 'w3'." in said


def test_no_object_at_all_is_never_success(api: Api, run: Run) -> None:
    result = watch(run, SHORT)
    assert result["failed"] is True
    assert "0 objects, 1 wanted" in result["msg"]
    assert "failed" not in watch(run, min_count=0)


def test_fewer_objects_than_wanted_are_waited_for(api: Api, run: Run) -> None:
    api.put(pod("w1"))
    assert "1 objects, 2 wanted" in watch(run, SHORT, min_count=2)["msg"]
    api.put(pod("w2"))
    assert watch(run, min_count=2)["count"] == 2


def test_one_object_that_cannot_become_ready_ends_the_wait(api: Api, run: Run) -> None:
    api.put(pod("w1"))
    api.put(pod("w2") | {"status": {"phase": "Failed"}})
    result = watch(run, 20, fail_if=[{"path": "status.phase", "equals": "Failed"}])
    assert result["msg"] == ("Pod/w2 cannot become what is waited for: status.phase is 'Failed'.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resources": [{"api_version": "v1"}]}, "resources[0] cannot be used: "),
        ({"resources": [PODS[0] | {"nmespace": "x"}]}, "resources[0] cannot be used: "),
        ({"until": ["Ready"]}, "A condition is `ready` or has a `path`, not 'Ready'."),
        ({"until": [{"path": "x", "eq": 1}]}, "A condition says equals, in, regex, present or"),
        ({"fail_if": [{"equals": 1}]}, "A condition is `ready` or has a `path`, not"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_before_anything_is_read(
    api: Api, run: Run, options: Object, said: str
) -> None:
    result = watch(run, 2, **options)
    assert result["failed"] is True
    assert result["msg"].startswith(said)
    assert api.lists == []


def test_nothing_that_only_waits_writes(api: Api, run: Run) -> None:
    api.put(recorded.node_of(DRAINED))
    quarantine(run, "drained", namespace="drill")
    watch(run, SHORT)
    assert api.writes == []
