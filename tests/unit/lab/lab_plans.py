# SPDX-License-Identifier: Apache-2.0
"""Plans of lab clusters for tests: nothing of them is made on the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.cluster.config import Cluster

TREE = Path(__file__).resolve().parents[3]


def values(**changes: Any) -> dict[str, Any]:
    """A good plan, with changes."""
    plan = {
        "name": "lab",
        "state": "/var/lib/nowhere",
        "binaries": "/opt/binaries",
        "nodes": 3,
        "gpus_per_node": 2,
        "node_network": "10.250.0.0/24",
        "pod_network": "10.251.0.0/16",
        "service_network": "10.252.0.0/16",
        "version": "v1.34.4",
    }
    return plan | changes


def cluster(**changes: Any) -> Cluster:
    """The cluster of such a plan."""
    return Cluster(**values(**changes))
