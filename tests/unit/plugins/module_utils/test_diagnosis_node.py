# SPDX-License-Identifier: Apache-2.0
"""Why NVSentinel does not cordon or drain a node: each known reason, and no other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _diagnosis_node as diagnosis
from ansible_collections.faultline.gpu.plugins.module_utils._platform import SENTINEL

Object = dict[str, Any]
RUN = "run-20261124-080000-ab12"
LABELS = dict(diagnosis.GATES)


def node(
    labels: Object | None = None, xid: str | None = "False", annotations: Object | None = None,
    **spec: Any,
) -> Object:  # fmt: skip
    rows = [{"type": "Ready", "status": "True"}]
    if xid:
        rows.append({"type": "SysLogsXIDError", "status": xid})
    return {
        "metadata": {
            "name": "a",
            "labels": LABELS | (labels or {}),
            "annotations": annotations or {},
        },
        "spec": spec,
        "status": {"conditions": rows, "nodeInfo": {"bootID": "boot-1"}},
    }


def event(message: str, at: str = "a", **more: Any) -> Object:
    found = {
        "metadata": {"name": "e"},
        "reason": "SysLogsXIDErrorIsNotHealthy",
        "type": "SysLogsXIDError",
        "involvedObject": {"kind": "Node", "name": at},
        "message": message,
    }
    return found | more


QUARANTINED = {"quarantineHealthEvent": json.dumps([{"id": "1"}])}
BY_HAND = {"quarantinedNodeUncordonedManually": "True"}
OTHERS = [event("run=another"), event(f"run={RUN}", at="b"), event(f"run={RUN}", reason="x")]
NON_FATAL = event(f"ErrorCode:94 MESSAGE=NVRM: Xid (PCI:0000:3b:00): 94, run={RUN}")


@pytest.mark.parametrize(
    ("found", "events", "run", "problem", "fix"),
    [
        pytest.param(node(), [], None, None, None, id="no fault was injected"),
        pytest.param(
            node(xid="True", annotations=QUARANTINED, unschedulable=True), [], RUN, None, None,
            id="cordoned by NVSentinel",
        ),
        pytest.param(
            node({"nvsentinel.dgxc.nvidia.com/managed": "false"}), [], None,
            "It is kept from NVSentinel by its label nvsentinel.dgxc.nvidia.com/managed=false.",
            "kubectl label node a nvsentinel.dgxc.nvidia.com/managed-", id="opted out",
        ),
        pytest.param(
            node(unschedulable=True), [], None,
            "It was cordoned by somebody else", "kubectl uncordon a", id="a human's cordon",
        ),
        pytest.param(
            node(xid="True", annotations={"quarantineHealthEvent": "[]"}), [], None,
            "SysLogsXIDError is True, yet NVSentinel has not cordoned", "log of fault-quarantine",
            id="condition without cordon",
        ),
        pytest.param(
            node(xid="True", annotations=BY_HAND), [], None,
            "SysLogsXIDError is True, but the node was un-cordoned by hand", "healthy event",
            id="un-cordoned by hand",
        ),
        pytest.param(
            node(), [NON_FATAL], RUN,
            "NVSentinel saw a fault that is not fatal", "such as 79", id="an Event only",
        ),
        pytest.param(
            node(), OTHERS, RUN,
            "SysLogsXIDError is False and there is no Event", "syslog-health-monitor on a",
            id="Events of another run, node and reason",
        ),
        pytest.param(
            node(xid=None), [], RUN, "SysLogsXIDError is absent and there is no Event", "15 s",
            id="never seen",
        ),
    ],
)  # fmt: skip
def test_the_missing_step_between_kernel_line_and_cordon_is_told(
    found: Object, events: list[Object], run: str | None, problem: str | None, fix: str | None
) -> None:
    rows = diagnosis.not_cordoned(found, events, run)
    assert len(rows) == (1 if problem else 0)
    for row in rows:
        assert row["subject"] == "node a"
        assert row["problem"].startswith(str(problem))
        assert str(fix) in row["fix"]


def workloads() -> dict[tuple[str, str], Object]:
    counts = ("replicas", "readyReplicas", "updatedReplicas")
    more = ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled")
    status = {"observedGeneration": 1, **dict.fromkeys(counts + more, 1)}
    return {
        (kind, name): {"kind": kind, "metadata": {"generation": 1}, "status": status}
        for kind, names in SENTINEL.items()
        for name in names
    }


def test_modules_that_are_all_ready_are_no_finding() -> None:
    assert diagnosis.modules(workloads(), "nvsentinel") == []


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in SENTINEL.items() for n in names])
def test_each_module_that_is_absent_or_not_ready_is_a_finding(kind: str, name: str) -> None:
    there = workloads()
    del there[kind, name]
    (found,) = diagnosis.modules(there, "nvsentinel")
    assert found["subject"] == "NVSentinel"
    assert found["problem"] == f"Not installed in nvsentinel: {name}."
    assert "off by default" in found["fix"]
    there[kind, name] = workloads()[kind, name] | {"status": {"observedGeneration": 1}}
    (found,) = diagnosis.modules(there, "nvsentinel")
    assert found["subject"] == f"NVSentinel's {name}"
    assert found["problem"].startswith("Not ready (0 of")
    assert "kubectl -n nvsentinel get pods" in found["fix"]


def pod(name: str, ready: str = "True") -> Object:
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


BOTH = [pod("syslog-health-monitor"), pod("nvsentinel")]
ARMED = {"status": {"detector": {"armed": True, "bootID": "boot-1"}}}


@pytest.mark.parametrize(
    ("found", "pods", "host", "problem", "fix"),
    [
        pytest.param(node(), BOTH, ARMED, None, None, id="in place"),
        pytest.param(node(), BOTH, None, None, None, id="no agent says otherwise"),
        pytest.param(
            node(), BOTH[1:], ARMED, "NVSentinel's syslog-health-monitor has no pod there.",
            "node selector", id="no monitor",
        ),
        pytest.param(
            node({"nvsentinel.dgxc.nvidia.com/driver.installed": None}), BOTH[1:], ARMED,
            "NVSentinel's syslog-health-monitor has no pod there.",
            "lacks the label nvsentinel.dgxc.nvidia.com/driver.installed=true", id="a shut gate",
        ),
        pytest.param(
            node(), [pod("syslog-health-monitor", ready="False"), BOTH[1]], ARMED,
            "NVSentinel's syslog-health-monitor is not Ready there.", "its log", id="not Ready",
        ),
        pytest.param(
            node(), BOTH[:1], ARMED, "NVSentinel's platform-connectors has no pod there.",
            "DaemonSet", id="no connector",
        ),
        pytest.param(
            node(), BOTH, {"status": {"detector": {"armed": False, "bootID": "boot-1"}}},
            "The monitor has not taken its place in the journal", "Wait 30 s", id="not armed",
        ),
        pytest.param(
            node(), BOTH, {"status": {"detector": {"armed": True, "bootID": "boot-0"}}},
            "The monitor has not taken its place in the journal", "Wait 30 s", id="another boot",
        ),
    ],
)  # fmt: skip
def test_a_node_whose_faults_are_not_seen_is_told_why(
    found: Object, pods: list[Object], host: Object | None, problem: str | None, fix: str | None
) -> None:
    rows = diagnosis.monitor(found, pods, host)
    assert len(rows) == (1 if problem else 0)
    for row in rows:
        assert row["problem"].startswith(str(problem))
        assert str(fix) in row["fix"]


@pytest.mark.parametrize(
    ("breaker", "open_"),
    [
        (None, False),
        ({"data": None}, False),
        ({"data": {"status": "CLOSED"}}, False),
        ({"data": {"status": "TRIPPED"}}, True),
    ],
)
def test_a_tripped_breaker_is_told_with_its_reset(breaker: Object | None, open_: bool) -> None:
    found = diagnosis.breaker_open(breaker, "nvsentinel")
    assert bool(found) is open_
    assert not open_ or "CLOSED" in found[0]["fix"]


def config(glob: str, mode: str = "Immediate", system: str = "^kube-system$") -> str:
    rows = f'[[userNamespaces]]\nname = "{glob}"\nmode = "{mode}"'
    return f'systemNamespaces = "{system}"\n{rows}'


EVICTS = config("*")
WAITS = {
    "type": "NodeDraining",
    "reason": "AwaitingPodCompletion",
    "message": "Waiting for drill/w1",
    "involvedObject": {"name": "a"},
}


@pytest.mark.parametrize(
    ("settings", "state", "events", "problem"),
    [
        pytest.param(EVICTS, None, [], None, id="it evicts"),
        pytest.param(None, None, [], None, id="settings not known"),
        pytest.param(config("ci-*"), None, [], "NVSentinel's node-drainer drains ci-*, never"),
        pytest.param(config("*", system="^drill$"), None, [], "NVSentinel's node-drainer counts"),
        pytest.param(config("*", "AllowCompletion"), None, [], "Its mode for drill is Allow"),
        pytest.param(config("*", "DeleteAfterTimeout"), None, [], "Its mode for drill is Delete"),
        pytest.param(EVICTS, "drain-failed", [], "The drainer gave up"),
        pytest.param(EVICTS, "draining", [WAITS], "Still draining. The drainer says AwaitingPod"),
        pytest.param(EVICTS, "drain-succeeded", [WAITS], None, id="it is done"),
    ],
)  # fmt: skip
def test_a_drainer_that_leaves_pods_where_they_are_is_told_why(
    settings: str | None, state: str | None, events: list[Object], problem: str | None
) -> None:
    found = node({"dgxc.nvidia.com/nvsentinel-state": state} if state else None)
    rows = diagnosis.not_drained(found, "drill", settings, events)
    assert len(rows) == (1 if problem else 0)
    for row in rows:
        assert row["problem"].startswith(str(problem))
        assert row["fix"][0].isupper()


def test_without_a_node_only_the_drainers_settings_are_looked_at() -> None:
    assert diagnosis.not_drained(None, "drill", EVICTS, [WAITS]) == []
