# SPDX-License-Identifier: Apache-2.0
"""Which cluster the make targets work on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("kubeconfig", [None, "/mine"])
def test_nothing_but_the_kubeconfig_says_which_cluster_make_works_on(
    kubeconfig: str | None,
) -> None:
    """Otherwise kubernetes.core's tasks would go to one cluster and ours to another."""
    others = {"K8S_AUTH_KUBECONFIG": "/other", "K8S_AUTH_HOST": "https://other"}
    environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | others
    if kubeconfig:
        environment["KUBECONFIG"] = kubeconfig
    command = ["make", "--silent", "--eval=environment: ; @env", "environment"]
    done = subprocess.run(
        command, cwd=TREE, env=environment, check=True, capture_output=True, text=True
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert [name for name in seen if name.startswith("K8S_AUTH_")] == []
    assert seen["KUBECONFIG"] == (kubeconfig or "/var/lib/faultline-lab/lab/kubeconfig")
