# SPDX-License-Identifier: Apache-2.0
"""One thing is broken at a time: the drill fails in that phase, for that reason, and ends clean."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import LAB, Drill, kubectl, released
from faultline_service.page import Page

pytestmark = pytest.mark.drill


def failed_in(report: dict[str, Any], number: int, reason: str) -> None:
    """The drill failed in that phase, for that reason, and left the cluster as it was."""
    assert report["phases"][-1]["number"] == number, report["reason"]
    assert report["phases"][-1]["status"] == "failed"
    assert reason in report["phases"][-1]["evidence"]
    assert report["verdict"] == "failed"
    assert report["before_after"]["equal"], report["before_after"]["differences"]


def refused(report: dict[str, Any], reason: str) -> None:
    """The drill was refused in its first phase, for that reason; nothing was injected."""
    assert report["verdict"] == "refused"
    assert len(report["phases"]) == 1
    assert reason in report["reason"]
    assert report["measures"]["injected_at"] is None
    assert report["before_after"]["equal"], report["before_after"]["differences"]


def target(run: Drill) -> str:
    """Node that the drill has chosen."""
    return str(json.loads((run.folder / "run.json").read_text())["target_node"])


def test_without_the_shim_no_worker_proves_it_and_phase_two_fails(drill: Callable) -> None:
    run = drill("-e", "cuda_shim_attach=false", "-e", "cuda_shim_proof_timeout=10")
    failed_in(run.end(), 2, "no process proves the shim")
    assert run.process.returncode == 2


def test_a_page_disarmed_behind_its_back_fails_phase_five(drill: Callable) -> None:
    run = drill("-e", "drill_verify_timeout=15")
    run.wait_for(4, "started")
    page = Page(LAB / "nodes" / target(run) / "faultline/control/page")
    # The agent arms again what is gone from the page; who holds its lock is the only writer.
    with page.path.open("rb") as lock:

        def kept_disarmed() -> bool:
            if page.entries():
                fcntl.flock(lock, fcntl.LOCK_EX)
                page.write([])
            return any(p["number"] == 5 and p["status"] != "started" for p in run.progress())

        run.until(kept_disarmed, "the end of phase five")
    failed_in(run.end(), 5, "is not armed")


MONITOR = ("daemonset/syslog-health-monitor-regular", "-n", "nvsentinel")


@pytest.fixture
def monitor() -> Iterator[list[str]]:
    """At the end the monitor runs again, and what it finds late on these nodes is dealt with."""
    nodes: list[str] = []
    yield nodes
    change = '{"spec":{"template":{"spec":{"nodeSelector":{"lab.faultline.dev/none":null}}}}}'
    kubectl("patch", *MONITOR, "--type=merge", "-p", change)
    for node in nodes:
        found = "--for=condition=SysLogsXIDError=True"
        kubectl("wait", f"node/{node}", found, "--timeout=180s")
        released(node)
    kubectl("rollout", "status", *MONITOR, "--timeout=180s")


def test_with_the_monitor_stopped_nothing_is_detected_and_phase_six_fails(
    drill: Callable, monitor: list[str]
) -> None:
    run = drill("-e", "nvsentinel_wait_quarantine_timeout=15")
    run.wait_for(3, "started")
    monitor.append(target(run))
    change = '{"spec":{"template":{"spec":{"nodeSelector":{"lab.faultline.dev/none":"x"}}}}}'
    kubectl("patch", *MONITOR, "--type=merge", "-p", change)
    gone = ("wait", "--for=delete", "pod", "-n", "nvsentinel", "--timeout=180s")
    kubectl(*gone, "-l", "app.kubernetes.io/name=syslog-health-monitor")
    failed_in(run.end(), 6, "condition SysLogsXIDError False")


DRAINER = ("-n", "nvsentinel")


@pytest.fixture
def waiting_drainer() -> Iterator[None]:
    """The drainer's settings as the chart ships them: it waits for pods to end, for ever."""
    config = json.loads(kubectl("get", "configmap", "node-drainer", *DRAINER, "-o", "json"))
    text = config["data"]["config.toml"]

    def put(content: str) -> None:
        change = json.dumps({"data": {"config.toml": content}})
        kubectl("patch", "configmap", "node-drainer", *DRAINER, "--type=merge", "-p", change)
        kubectl("rollout", "restart", "deployment/node-drainer", *DRAINER)
        kubectl("rollout", "status", "deployment/node-drainer", *DRAINER, "--timeout=180s")

    put(text.replace('"Immediate"', '"AllowCompletion"'))
    yield
    put(text)


def test_a_drainer_that_only_waits_fails_phase_eight_and_says_so(
    drill: Callable, waiting_drainer: None
) -> None:
    run = drill("-e", "nvsentinel_wait_drain_timeout=15")
    report = run.end()
    failed_in(report, 8, "evicted: no pod")
    assert "AwaitingPodCompletion" in report["phases"][-1]["evidence"]


def test_an_xid_that_nvsentinel_ignores_is_refused_before_anything_is_made(
    drill: Callable,
) -> None:
    run = drill("-e", "xid_inject_xid=94")
    refused(run.end(), "not fatal for NVSentinel")


def test_a_mode_that_a_drill_cannot_show_is_refused_before_anything_is_made(
    drill: Callable,
) -> None:
    refused(drill("-e", "xid_inject_cuda=mode=once").end(), "cannot show mode once")


@pytest.fixture
def one_gpu_node() -> Iterator[None]:
    """Only one node is marked as one that may be hurt."""
    nodes = kubectl("get", "nodes", "-l", "faultline.dev/drill=allowed", "-o", "name").split()
    for node in nodes[1:]:
        kubectl("label", node, "faultline.dev/drill-")
    yield
    for node in nodes[1:]:
        kubectl("label", node, "faultline.dev/drill=allowed")


def test_one_gpu_node_is_not_enough_and_the_drill_says_what_is_missing(
    drill: Callable, one_gpu_node: None
) -> None:
    refused(drill().end(), "needs 2 GPU nodes that may be hurt, there is 1")


def test_an_agent_killed_in_the_middle_changes_nothing_of_the_outcome(drill: Callable) -> None:
    run = drill()
    run.wait_for(5, "started")
    agents = ("pod", "-n", "fault-injection-system", "-l", "app=gpu-fault-injector-kernel")
    where = f"--field-selector=spec.nodeName={target(run)}"
    kubectl("delete", *agents, where, "--force", "--grace-period=0", "--wait=false")
    report = run.end()
    assert report["before_after"]["equal"], report["before_after"]["differences"]
    assert kubectl("get", "gpufaults", "-o", "name") == ""


def test_a_drill_killed_in_phase_five_is_undone_by_a_fresh_process_and_not_before(
    drill: Callable,
) -> None:
    run = drill()
    run.wait_for(2, "started")
    refused = run.cleanup()
    assert refused.returncode != 0
    assert f"process {run.process.pid} on" in refused.stdout
    run.wait_for(5, "started")
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    done = run.cleanup()
    assert done.returncode == 0, done.stdout
    report = json.loads((run.folder / "report.json").read_text())
    assert report["before_after"] == {"equal": True, "differences": []}
    assert report["verdict"] == "failed"
    assert not (run.folder / "traffic.pid").exists()
    assert not (run.folder / "observer.pid").exists()
    assert kubectl("get", "gpufaults", "-o", "name") == ""
