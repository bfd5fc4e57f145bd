# SPDX-License-Identifier: Apache-2.0
"""Conditions on what the agents report of the shim."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _shim_predicates as predicates
from ansible_collections.faultline.gpu.plugins.module_utils._objects import HASH_LABEL

Object = dict[str, Any]


def pod(name: str, hash_: str | None = "aaaaaaaa") -> Object:
    labels = {HASH_LABEL: hash_} if hash_ else {}
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}}


FRONT = pod("front", None)
TWO = [FRONT, pod("w1"), pod("w2")]


def process(pod_: str, hits: int = 0, mapped: bool = True, **more: Any) -> Object:
    shim = {"hits": hits, "pageMapped": mapped}
    return {"podUID": f"uid-{pod_}", "pod": pod_, "namespace": "drill", "shim": shim} | more


def host(name: str, *processes: Object) -> Object:
    return {"metadata": {"name": name}, "status": {"processes": list(processes)}}


@pytest.mark.parametrize(
    ("hosts", "seen"),
    [
        ([host("a", process("w1")), host("b", process("w2"))], None),
        ([host("a", process("w1")), host("b")], "in w2"),
        ([host("a", process("w1"), process("w2", mapped=False))], "in w2"),
        ([host("a", process("w1"), process("w2", hits=3))], "in w2"),
        ([host("a", process("w1"), process("w2", exited=True))], "in w2"),
        ([host("a", process("w1"), process("w2", namespace="other"))], "in w2"),
        ([host("a", process("w1"), process("w2") | {"shim": None})], "in w2"),
        ([{"metadata": {"name": "new"}}], "in w1, w2"),
        # A pod has processes without the shim, too: one with it is enough.
        ([host("a", process("w1"), process("w2", mapped=False), process("w2"))], None),
    ],
)
def test_the_shim_is_proven_when_a_living_process_of_every_worker_shows_it_inert(
    hosts: list[Object], seen: str | None
) -> None:
    proven, said = predicates.shim_proven(hosts, TWO, "drill")
    assert proven is (seen is None), said
    assert seen is None or said.endswith(seen)


def test_no_worker_pods_prove_nothing() -> None:
    assert not predicates.shim_proven([host("a", process("w1"))], [FRONT], "drill")[0]


def test_hits_are_counted_by_node_and_only_those_of_the_namespace() -> None:
    hosts = [
        host("a", process("w1", 2), process("w1", 3, exited=True)),
        host("b", process("w2"), process("x", 7, namespace="other")),
        host("c"),
    ]
    assert predicates.shim_hits(hosts, "drill") == {"a": 5, "b": 0}
    assert {p["node"] for p in predicates.shim_processes(hosts, "drill")} == {"a", "b"}
