# SPDX-License-Identifier: Apache-2.0
"""The module that keeps evidence: what is there, what is left out, and that it never fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._access import Access
from ansible_collections.faultline.gpu.plugins.modules import cluster_evidence
from fake_api import Api, Run

Object = dict[str, Any]


def pod(name: str, namespace: str) -> Object:
    env = [{"name": "HF_TOKEN", "value": "hf_abcdef"}]
    ports = [{"name": "system", "containerPort": 9090}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"nvidia.com/dynamo-graph-deployment-name": "agg"},
        },
        "spec": {"containers": [{"name": "main", "env": env, "ports": ports}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "main", "state": {"running": {}}}],
        },
    }


class Pods(Access):
    """What pods answer, by the end of the address."""

    def ask(self, url: str, *_: Any, **__: Any) -> tuple[int, str]:
        if "broken" in url:
            return 500, "no such container"
        return 200, f"hf_abcdef says {url.rsplit('/', 1)[1].split('?')[0]}"


@pytest.fixture
def cluster(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(cluster_evidence.Cluster, "access", lambda _self: Pods("https://k8s", True))
    api.put(pod("worker", "drill"))
    api.put(pod("broken", "drill"))
    api.put(pod("monitor", "nvsentinel"))
    return api


def test_objects_logs_and_metrics_are_kept_without_secrets(
    cluster: Api, run: Run, tmp_path: Path
) -> None:
    result = run(cluster_evidence, path=str(tmp_path / "after"), namespace="drill")
    index = json.loads((tmp_path / "after/index.json").read_text())
    assert {k: result[k] for k in index} == index
    assert {"logs/drill/worker/main.log", "logs/nvsentinel/monitor/main.log"} <= {*result["files"]}
    metrics = tmp_path / "after/metrics/worker-9090.txt"
    assert metrics.read_text() == "(not kept) says metrics"
    everything = "".join(f.read_text() for f in tmp_path.rglob("*") if f.is_file())
    assert "hf_abcdef" not in everything
    # Nothing of another namespace but logs of NVSentinel.
    assert len(json.loads((tmp_path / "after/objects/Pod.json").read_text())) == 2


def test_what_cannot_be_had_is_named_and_is_no_error(
    cluster: Api, run: Run, tmp_path: Path
) -> None:
    cluster.unknown = {"RebootNode", "GPUReset"}
    result = run(cluster_evidence, path=str(tmp_path), namespace="drill")
    assert "failed" not in result
    assert result["left_out"]["logs/drill/broken/main.log"] == "HTTP 500: no such container"
    assert "knows no RebootNode" in result["left_out"]["objects/RebootNode.json"]


def test_what_does_not_fit_is_left_out_and_named(cluster: Api, run: Run, tmp_path: Path) -> None:
    result = run(cluster_evidence, path=str(tmp_path), namespace="drill", max_bytes=40)
    sizes = sum((tmp_path / f).stat().st_size for f in result["files"])
    assert sizes == result["bytes"] <= 40
    assert "are more than what is left of 40" in result["left_out"]["objects/Pod.json"]


def test_what_comes_too_late_is_left_out(cluster: Api, run: Run, tmp_path: Path) -> None:
    result = run(cluster_evidence, path=str(tmp_path), namespace="drill", timeout=-1)
    assert result["left_out"]["logs/drill/worker/main.log"] == "the time was up"
    assert "objects/Pod.json" in result["files"]


def test_check_mode_writes_nothing(cluster: Api, run: Run, tmp_path: Path) -> None:
    run(cluster_evidence, check=True, path=str(tmp_path / "after"), namespace="drill")
    assert list(tmp_path.iterdir()) == []
