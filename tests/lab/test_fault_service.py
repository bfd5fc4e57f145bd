# SPDX-License-Identifier: Apache-2.0
"""What the cluster itself refuses of the fault service's objects, whoever asks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException, CustomObjectsApi
from kubernetes.config import new_client_from_config

pytestmark = pytest.mark.lab

KUBECONFIG = Path("/var/lib/faultline-lab/lab/kubeconfig")
NAMESPACE, AGENT = "fault-injection-system", "gpu-fault-injector-kernel"
MINE, OTHER = "gpu-node-1", "gpu-node-2"


def kubectl(
    *words: str, stdin: str = "", who: Path = KUBECONFIG
) -> subprocess.CompletedProcess[str]:
    command = ["/var/cache/faultline/bin/kubectl", f"--kubeconfig={who}", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def ask(*words: str, stdin: str = "") -> Any:
    """The answer, which must not be a refusal."""
    done = kubectl(*words, "-o", "json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fault(name: str, node: str) -> dict[str, Any]:
    """A fault that no agent acts on: it is ended when it is made."""
    spec = {"xid": 79, "node": node, "gpu": {"index": 0}, "runId": "run-1", "ended": True}
    meta = {"name": name, "labels": {"faultline.dev/run": "run-1"}}
    return {
        "apiVersion": "faultline.dev/v1alpha1",
        "kind": "GPUFault",
        "metadata": meta,
        "spec": spec | {"processName": "python3"},
    }


@pytest.fixture
def faults() -> Iterator[dict[str, str]]:
    """Names of a fault of each of two nodes."""
    names = {node: f"of-{node}" for node in (MINE, OTHER)}
    for node, name in names.items():
        ask("apply", "-f", "-", stdin=json.dumps(fault(name, node)))
    yield names
    assert kubectl("delete", "gpufault", *names.values(), "--wait").returncode == 0


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """A kubeconfig of the agent of a node, with its pod's own kind of token."""
    pods = ask("get", "pods", f"--namespace={NAMESPACE}", f"--selector=app={AGENT}")["items"]
    (pod,) = [pod for pod in pods if pod["spec"]["nodeName"] == MINE]
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod['metadata']['name']}"]
    bound += [f"--bound-object-uid={pod['metadata']['uid']}"]
    token = kubectl("create", "token", AGENT, f"--namespace={NAMESPACE}", *bound)
    assert token.returncode == 0, token.stderr
    config = ask("config", "view", "--raw", "--minify")
    # A certificate would come before the token.
    config["users"][0]["user"] = {"token": token.stdout.strip()}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    return tmp_path / "kubeconfig"


def patched(who: Path, plural: str, name: str, change: dict[str, Any], status: bool = False) -> str:
    """What the cluster says to a patch of an object or of its status; nothing is a yes.

    Not by kubectl, which reads a status before it patches it: an agent need not be able to.
    """
    api = CustomObjectsApi(new_client_from_config(config_file=str(who)))
    verb = api.patch_cluster_custom_object_status if status else api.patch_cluster_custom_object
    try:
        verb("faultline.dev", "v1alpha1", plural, name, change)
    except ApiException as error:
        return str(json.loads(error.body)["message"])
    return ""


REFUSAL = f"the agent of {MINE} has no say about {OTHER}"


def test_an_agent_writes_about_its_own_node_alone(faults: dict[str, str], agent: Path) -> None:
    status = {"status": {"observedAt": "2026-01-01T00:00:00Z"}}
    assert patched(agent, "gpuhosts", MINE, status, status=True) == ""
    assert REFUSAL in patched(agent, "gpuhosts", OTHER, status, status=True)
    status = {"status": {"message": "x"}}
    assert patched(agent, "gpufaults", faults[MINE], status, status=True) == ""
    assert REFUSAL in patched(agent, "gpufaults", faults[OTHER], status, status=True)


def test_an_agent_lets_go_of_faults_of_its_own_node_alone(
    faults: dict[str, str], agent: Path
) -> None:
    change = {"metadata": {"finalizers": []}}
    assert patched(agent, "gpufaults", faults[MINE], change) == ""
    assert REFUSAL in patched(agent, "gpufaults", faults[OTHER], change)


@pytest.mark.parametrize(
    "change",
    [
        {"xid": 48},
        {"node": OTHER},
        {"gpu": {"index": 1}},
        {"durationSeconds": 60},
        {"effects": ["cuda"]},
        {"cuda": {"mode": "once"}},
        {"runId": "run-2"},
        {"runId": None},
        {"processName": "other"},
        {"processName": None},
    ],
    ids=str,
)
def test_a_fault_cannot_become_another_one(faults: dict[str, str], change: dict[str, Any]) -> None:
    said = patched(KUBECONFIG, "gpufaults", faults[MINE], {"spec": change})
    assert "a fault cannot become another one" in said


def test_an_ended_fault_cannot_be_revived(faults: dict[str, str]) -> None:
    said = patched(KUBECONFIG, "gpufaults", faults[MINE], {"spec": {"ended": False}})
    assert "an ended fault cannot be revived" in said
