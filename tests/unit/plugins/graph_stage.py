# SPDX-License-Identifier: Apache-2.0
"""A deployment in either API version, and an operator that brings up what is applied."""

from __future__ import annotations

import copy
from typing import Any

from fake_api import Api
from graph_recordings import GRAPH_LABEL, HASH_LABEL, spec_of

from lab.operator.convert import convert

Object = dict[str, Any]
KIND = "DynamoGraphDeployment"
HASH = "nvidia.com/current-worker-hash-v2"
DEFINITION: Object = {
    "apiVersion": "nvidia.com/v1beta1",
    "kind": KIND,
    "metadata": {"name": "mock", "labels": {"team": "a"}},
    "spec": spec_of("objects-v1beta1-agg-ready"),
}
# As recorded: its worker has `envs`, a list that is one value in v1alpha1.
ALPHA: Object = {
    "apiVersion": "nvidia.com/v1alpha1",
    "kind": KIND,
    "metadata": {"name": "mock", "labels": {"team": "a"}},
    "spec": spec_of("objects-v1alpha1-ready", "v1alpha1"),
}
WORKER = {"nvidia.com/v1beta1": "decode", "nvidia.com/v1alpha1": "VllmDecodeWorker"}


def stored(api: Api, version: str = "nvidia.com/v1beta1") -> Object:
    """The deployment as a version shows it."""
    return convert(api.one(KIND, "mock", "drill"), version)


def serve(api: Api, generation: int = 1, node: str = "gpu-node-1") -> None:
    """Do what the operator does: pods of the graph, Ready, and a status that says so."""
    graph = api.one(KIND, "mock", "drill")
    notes = graph["metadata"].get("annotations") or {}
    graph["metadata"] |= {"generation": generation, "annotations": notes | {HASH: "aaaaaaaa"}}
    ready = {"type": "Ready", "status": "True", "reason": "all_resources_are_ready"}
    graph["status"] = {
        "state": "successful",
        "observedGeneration": generation,
        "conditions": [ready],
    }
    if restart := graph["spec"].get("restart"):
        graph["status"]["restart"] = {"observedID": restart["id"], "phase": "Completed"}
    frontend, worker = graph["spec"]["components"]
    fronts = ["front", "front2", "front3"][: frontend["replicas"]]
    pods = [(name, "Frontend") for name in fronts]
    pods += [(f"w{number}", "decode") for number in range(1, worker["replicas"] + 1)]
    for name, component in pods:
        labels = {GRAPH_LABEL: "mock", "nvidia.com/dynamo-component": component}
        if component == "decode":
            labels[HASH_LABEL] = "aaaaaaaa"
        api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "drill", "uid": name, "labels": labels},
                "spec": {"nodeName": node},
                "status": {"phase": "Running", "conditions": [ready]},
            }
        )
    api.put(graph)


def operate(api: Api) -> None:
    """Have every change of a deployment brought up at once."""
    put = api.put

    def operator(obj: Object) -> Object:
        made = put(obj)
        stale = (made.get("status") or {}).get("observedGeneration")
        if made["kind"] == KIND and stale != made["metadata"]["generation"]:
            serve(api, made["metadata"]["generation"])
        return made

    api.put = operator  # type: ignore[method-assign]


def copied(definition: Object) -> Object:
    """A definition to change."""
    return copy.deepcopy(definition)
