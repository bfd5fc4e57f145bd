# SPDX-License-Identifier: Apache-2.0
"""Objects of a small cluster with GPUs."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
HASH_LABEL = "nvidia.com/dynamo-worker-hash"
READY = {"type": "Ready", "status": "True"}


def node(name: str, gpus: int = 2, allowed: bool = True, **spec: Any) -> Object:
    labels = {"nvidia.com/gpu.present": "true"}
    if allowed:
        labels["faultline.dev/drill"] = "allowed"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}, "conditions": [READY]},
    }


def named(api_version: str, kind: str, name: str, namespace: str | None = None) -> Object:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": {}}


def worker(name: str, at: str, gpus: int = 1, graph: str = "agg") -> Object:
    found = named("v1", "Pod", name, "drill")
    found["metadata"] |= {"uid": name, "labels": {GRAPH_LABEL: graph, HASH_LABEL: "aaaaaaaa"}}
    limits = {"limits": {"nvidia.com/gpu": str(gpus)}}
    found["spec"] = {"nodeName": at, "containers": [{"name": "main", "resources": limits}]}
    found["status"] = {"phase": "Running", "conditions": [READY]}
    return found
