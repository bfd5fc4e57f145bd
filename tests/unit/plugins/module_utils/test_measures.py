# SPDX-License-Identifier: Apache-2.0
"""Times of a drill from its timeline."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _measures as measures

Entry = dict[str, Any]
START = measures.epoch("2026-11-24T08:00:00Z")
SUBJECT = measures.Subject("run-1", "drill", "agg", "gpu-node-1", 2)


def entry(at: float, kind: str, name: str, op: str = "MODIFIED", **view: Any) -> Entry:
    namespace = "drill" if kind in ("Pod", "DynamoGraphDeployment") else ""
    return {
        "at": START + at,
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "op": op,
        "view": view,
    }


def fault(at: float, node: str = "gpu-node-1", run: str = "run-1", **more: Any) -> Entry:
    line = f"NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus. run={run}"
    view = {"node": node, "line": line, "written_at": "2026-11-24T08:00:00.000000000Z"}
    return entry(at, "GPUFault", "f", **(view | more))


def node(at: float, name: str = "gpu-node-1", xid: str | None = None, **view: Any) -> Entry:
    still: Entry = {
        "unschedulable": False,
        "quarantined": False,
        "xid_condition": "True" if xid else "False",
        "xid_message": f"ErrorCode:79 MESSAGE=... run={xid} Recommended Action=RESTART_BM;",
    }
    return entry(at, "Node", name, **(still | view))


def pod(
    at: float, uid: str, on: str | None, up: bool = True, op: str = "MODIFIED", **view: Any
) -> Entry:
    full = {
        "uid": uid,
        "node": on,
        "graph": "agg",
        "worker_hash": "aaaaaaaa",
        "ready": up,
        "deleting": False,
    }
    return entry(at, "Pod", f"agg-{uid}", op, **(full | view))


def graph(at: float, ready: bool = True, observed: int = 2, name: str = "agg") -> Entry:
    view = {"ready": ready, "generation": 2, "observed_generation": observed}
    return entry(at, "DynamoGraphDeployment", name, **view)


def request(at: float, good: bool = True, seconds: float = 0.1) -> Entry:
    error = None if good else "HTTP 500: Internal server error"
    return {"id": 1, "ended_at": START + at, "seconds": seconds, "good": good, "error": error}


CORDON = {"unschedulable": True, "quarantined": True}
# A drill on a node with one of two workers and the frontend.
TIMELINE = [
    node(-9),
    graph(-8),
    pod(-8, "w1", "gpu-node-1"),
    pod(-8, "w2", "gpu-node-2"),
    pod(-8, "front", "gpu-node-1", worker_hash=None),
    fault(0.1, written_at=None),
    fault(0.2),
    node(0.5, xid="run-1", xid_condition="Unknown"),
    node(1.0, xid="run-1"),
    node(1.5, xid="run-1", **CORDON),
    graph(2.0, ready=False),
    pod(2.0, "w1", "gpu-node-1", deleting=True),
    pod(2.1, "front", "gpu-node-1", worker_hash=None, deleting=True),
    pod(2.5, "w3", None, up=False),
    pod(2.6, "w3", "gpu-node-3", up=False),
    pod(3.0, "front", "gpu-node-1", op="DELETED", worker_hash=None),
    pod(4.0, "w1", "gpu-node-1", op="DELETED"),
    pod(7.0, "w3", "gpu-node-3"),
    graph(7.5),
    node(9.0),
]
REQUESTS = [
    *(request(-5 + i / 100) for i in range(100)),
    request(0.3, good=False),
    request(0.5),
    request(6.3, good=False),
    request(8.0, seconds=0.2),
]


def measured(timeline: list[Entry], requests: list[Entry] | None = None) -> dict[str, Any]:
    windows = {"baseline": (START - 6, START - 3), "recovered": (START + 7, START + 9)}
    rows = REQUESTS if requests is None else requests
    return measures.measures(timeline, rows, SUBJECT, windows)


def test_every_time_is_counted_from_its_own_beginning() -> None:
    found = measured(TIMELINE)
    assert found["injected_at"] == START
    assert found["detect_seconds"] == 1.0
    assert found["cordon_seconds"] == 1.5
    assert found["drain_seconds"] == 2.5
    assert found["recovery_seconds"] == 7.5
    assert found["first_failure_seconds"] == 0.3
    assert found["error_window_seconds"] == 6.0
    assert (found["requests_total"], found["requests_failed"]) == (104, 2)
    assert found["latency_ms"]["baseline"]["p50"] == 100.0
    assert found["latency_ms"]["recovered"]["p50"] == 200.0
    assert found["errors"] == {"HTTP 500: Internal server error": 2}


TIMES = (
    "detect_seconds",
    "cordon_seconds",
    "drain_seconds",
    "recovery_seconds",
    "first_failure_seconds",
    "error_window_seconds",
)


def without(*indices: int) -> list[Entry]:
    return [e for i, e in enumerate(TIMELINE) if i not in indices]


def at(seconds: float) -> int:
    return next(i for i, e in enumerate(TIMELINE) if e["at"] == START + seconds)


@pytest.mark.parametrize(
    ("timeline", "lacking"),
    [
        pytest.param([], set(TIMES), id="nothing was recorded"),
        pytest.param(without(at(0.2)), set(TIMES), id="no line was written"),
        pytest.param(
            [fault(0.2, run="run-10"), *without(at(0.2))], set(TIMES), id="another run's line"
        ),
        pytest.param(
            [fault(0.2, node="gpu-node-2"), *without(at(0.2))], set(TIMES), id="another node's line"
        ),
        pytest.param(
            without(at(1.0), at(1.5)),
            {"detect_seconds", "cordon_seconds", "drain_seconds", "recovery_seconds"},
            id="NVSentinel did nothing",
        ),
        pytest.param(
            [*TIMELINE[: at(1.0)], node(1.0, xid="run-10"), *without(*range(at(1.5) + 1))],
            {"detect_seconds", "cordon_seconds", "drain_seconds", "recovery_seconds"},
            id="another run's fault was detected",
        ),
        pytest.param(
            [
                *TIMELINE[: at(1.5)],
                node(1.5, xid="run-1", unschedulable=True),
                *TIMELINE[at(1.5) + 1 :],
            ],
            {"cordon_seconds", "drain_seconds", "recovery_seconds"},
            id="a human's cordon",
        ),
        pytest.param(
            without(at(4.0)), {"drain_seconds", "recovery_seconds"}, id="a pod never left"
        ),
        pytest.param(
            [e for e in TIMELINE if e["kind"] != "Pod"],
            {"drain_seconds", "recovery_seconds"},
            id="no pods of ours were there",
        ),
        pytest.param(without(at(7.0)), {"recovery_seconds"}, id="a worker never came up"),
        pytest.param(without(at(7.5)), {"recovery_seconds"}, id="the graph was never Ready"),
        pytest.param(
            [*without(at(7.5)), graph(7.5, observed=1)],
            {"recovery_seconds"},
            id="the graph was Ready at the old generation",
        ),
        pytest.param(
            [*without(at(7.5)), graph(7.5, name="other")],
            {"recovery_seconds"},
            id="another graph was Ready",
        ),
        pytest.param(
            [*without(at(7.0)), pod(7.0, "w3", "gpu-node-1")],
            {"recovery_seconds"},
            id="the worker came back to the target",
        ),
        pytest.param(
            [*TIMELINE, pod(7.2, "w2", "gpu-node-2", deleting=True)],
            {"recovery_seconds"},
            id="a worker elsewhere is on its way out",
        ),
        pytest.param(
            [*TIMELINE[: at(7.0)], pod(6.9, "w4", "gpu-node-3", up=False), *TIMELINE[at(7.0) :]],
            {"recovery_seconds"},
            id="one worker too many",
        ),
    ],
)
def test_what_was_not_observed_is_none_and_never_zero(
    timeline: list[Entry], lacking: set[str]
) -> None:
    found = measured(sorted(timeline, key=lambda e: e["at"]))
    assert {name for name in TIMES if found[name] is None} == lacking


def test_without_failures_there_is_no_first_one_and_no_error_window() -> None:
    found = measured(TIMELINE, [request(1.0)])
    assert found["first_failure_seconds"] is None
    assert found["error_window_seconds"] is None
    assert found["requests_failed"] == 0


def test_what_fails_while_all_is_undone_is_no_part_of_the_error_window() -> None:
    found = measured(TIMELINE, [*REQUESTS, request(40.0, good=False)])
    assert found["error_window_seconds"] == 6.0
    assert (found["requests_total"], found["requests_failed"]) == (104, 2)


def test_a_drill_that_did_not_come_to_its_end_counts_every_request() -> None:
    rows = [*REQUESTS, request(40.0, good=False)]
    found = measures.measures(TIMELINE, rows, SUBJECT, {"baseline": (START - 6, START - 3)})
    assert found["error_window_seconds"] == 39.7
    assert found["requests_failed"] == 3


def test_failures_before_the_injection_are_not_the_faults() -> None:
    found = measured(TIMELINE, [request(-1.0, good=False), request(2.0, good=False)])
    assert found["first_failure_seconds"] == 2.0
    assert found["requests_failed"] == 2


def test_a_cordon_from_before_the_injection_is_not_the_answer_to_it() -> None:
    early = [node(-5, **CORDON), node(-4), *TIMELINE]
    assert measured(early)["cordon_seconds"] == 1.5


def test_the_drain_ends_when_the_node_is_first_empty_not_when_later_pods_leave_it() -> None:
    later = [
        *TIMELINE,
        # The node was repaired and released, so a pod may come to it again.
        pod(20.0, "w5", "gpu-node-1"),
        pod(30.0, "w5", "gpu-node-1", op="DELETED"),
    ]
    assert measured(later)["drain_seconds"] == 2.5
    assert measured(later[:-1])["drain_seconds"] == 2.5


def test_a_rollout_that_empties_the_node_before_the_cordon_is_no_drain() -> None:
    early = [
        pod(-9, "w0", "gpu-node-1"),
        pod(-8.5, "w0", "gpu-node-1", op="DELETED"),
        *TIMELINE,
    ]
    assert measured(early)["drain_seconds"] == 2.5


def test_other_peoples_pods_on_the_node_do_not_count() -> None:
    theirs = pod(-8, "x", "gpu-node-1", graph="other")
    elsewhere = pod(-8, "y", "gpu-node-1") | {"namespace": "prod"}
    assert measured([theirs, elsewhere, *TIMELINE])["drain_seconds"] == 2.5


def test_recovery_is_complete_when_the_last_thing_to_happen_is_that_a_frontend_leaves() -> None:
    quick = [
        *TIMELINE[: at(2.5)],
        pod(2.5, "w3", "gpu-node-3"),
        pod(3.0, "w1", "gpu-node-1", op="DELETED"),
        graph(3.2),
        pod(4.0, "front", "gpu-node-1", op="DELETED", worker_hash=None),
    ]
    found = measured(quick)
    assert (found["drain_seconds"], found["recovery_seconds"]) == (2.5, 4.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.500Z", 1.5),
        ("1970-01-01T01:00:01+01:00", 1.0),
        ("1970-01-01T00:00:01.381334956Z", pytest.approx(1.381334)),
    ],
)
def test_time_stamps_of_every_component_are_understood(text: str, seconds: float) -> None:
    assert measures.epoch(text) == seconds
