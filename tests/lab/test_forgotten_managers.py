# SPDX-License-Identifier: Apache-2.0
"""A DGD whose field managers the API server has forgotten: the shim comes out all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
KUBECONFIG = os.environ.get("KUBECONFIG", "/var/lib/faultline-lab/lab/kubeconfig")
OPERATOR = ("-n", "dynamo-system", "deployment/dynamo-platform-dynamo-operator-controller-manager")
KIND = "dynamographdeployments.{}.nvidia.com"
PATH = f"{Path(sys.executable).parent}:/var/cache/faultline/bin:{os.environ['PATH']}"


def output(*command: str) -> str:
    """What a program prints; raises CalledProcessError."""
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"KUBECONFIG": KUBECONFIG, "PATH": PATH},
    )
    return done.stdout


def shim(namespace: str, state: str) -> None:
    """Put the shim in, or take it out."""
    words = f"name=lab-model namespace={namespace} state={state} build_id=0123456789abcdef"
    inventory = ["-i", "inventories/lab"]
    output("ansible", "localhost", *inventory, "-m", "faultline.gpu.cuda_shim", "-a", words)


def graph(namespace: str, version: str = "v1beta1") -> Object:
    """The deployment, with its field managers."""
    where = ("-n", namespace, "-o", "json", "--show-managed-fields")
    found: Object = json.loads(output("kubectl", "get", KIND.format(version), "lab-model", *where))
    return found


def operator_away() -> None:
    """Scale the operator down and wait until none of its pods is left."""
    output("kubectl", "scale", *OPERATOR, "--replicas=0")
    pods = ("pods", "--selector=app.kubernetes.io/name=dynamo-operator")
    output("kubectl", "wait", "-n", "dynamo-system", *pods, "--for=delete", "--timeout=180s")


def operator_back() -> None:
    """As many replicas as the lab's manifest has, all ready."""
    output("kubectl", "scale", *OPERATOR, "--replicas=2")
    output("kubectl", "rollout", "status", *OPERATOR, "--timeout=180s")


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace for one test; the operator is back afterwards."""
    name = f"managers-{uuid.uuid4().hex[:8]}"
    output("kubectl", "create", "namespace", name)
    yield name
    operator_back()
    output("kubectl", "delete", "namespace", name, "--wait=false")


def test_the_shim_comes_out_of_a_deployment_that_was_written_while_its_operator_was_away(
    namespace: str,
) -> None:
    file = ROOT / "lab/operator/examples/lab-model-v1alpha1.yaml"
    output("kubectl", "apply", "--server-side", "-n", namespace, "-f", str(file))
    before = graph(namespace, "v1alpha1")["spec"]
    shim(namespace, "present")
    assert graph(namespace, "v1alpha1")["spec"] != before
    operator_away()
    # No admission webhook stands before the status; the API server cannot convert what each
    # manager owns, and drops it.
    written = ("--subresource=status", "--type=merge", '--patch={"status": {"state": "pending"}}')
    output("kubectl", "patch", KIND.format("v1beta1"), "lab-model", "-n", namespace, *written)
    assert "managedFields" not in graph(namespace)["metadata"]
    operator_back()
    shim(namespace, "absent")
    assert graph(namespace, "v1alpha1")["spec"] == before
