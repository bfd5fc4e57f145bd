# SPDX-License-Identifier: Apache-2.0
"""The cluster in memory behaves as the recorded API server does, as far as modules rely on it."""

from __future__ import annotations

import yaml
from ansible_collections.faultline.gpu.plugins.module_utils._client import GRAPH
from fake_api import Api
from graph_recordings import read, spec_of

BASE = spec_of("objects-v1beta1-agg-ready")


def graph() -> dict:
    meta = {"name": "mock", "namespace": "drill", "generation": 1}
    return {"apiVersion": GRAPH.api_version, "kind": GRAPH.kind, "metadata": meta, "spec": BASE}


def test_apply_merges_as_recorded_and_takes_out_exactly_what_it_put_in(api: Api) -> None:
    row = next(
        r for r in read("patch-methods-v1beta1") if r["label"] == "ssa: decode only, minimal"
    )
    body = yaml.safe_load(row["request_content"])
    body["metadata"]["namespace"] = "drill"
    api.put(graph())
    cluster = api.cluster()
    assert cluster.apply(body, "shim-role", dry_run=True)["spec"] == row["response_json"]["spec"]
    assert api.one(GRAPH.kind, "mock", "drill")["spec"] == BASE, "a dry run changes nothing"
    assert cluster.apply(body, "shim-role")["metadata"]["generation"] == 2
    bare = body | {"spec": {"components": [{"name": "decode"}]}}
    removed = cluster.apply(bare, "shim-role")
    assert removed["spec"] == BASE
