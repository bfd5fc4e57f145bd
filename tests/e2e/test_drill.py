# SPDX-License-Identifier: Apache-2.0
"""The whole drill on the lab, left alone."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from conftest import TREE, left

pytestmark = pytest.mark.drill


def test_inference_survives_a_dying_gpu_and_the_cluster_is_as_it_was(drill: Callable) -> None:
    run = drill()
    report = run.end()
    assert run.process.returncode == 0
    assert report["verdict"] == "passed"
    assert [p["status"] for p in report["phases"]] == ["passed"] * 10
    assert report["before_after"] == {"equal": True, "differences": []}
    jsonschema.validate(report, json.loads((TREE / "data/report.schema.json").read_text()))
    measures = report["measures"]
    for name in ("detect", "cordon", "drain", "first_failure", "error_window", "recovery"):
        assert measures[f"{name}_seconds"] is not None, name
    assert measures["requests_failed"] > 0
    suite = ET.parse(run.folder / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("11", "0", "0")
    agrees_with_the_audit_trail(report)
    assert left() == ""


def agrees_with_the_audit_trail(report: dict) -> None:
    """The API server's own audit log shows who cordoned and evicted, and that it was not us."""
    lines = Path("/var/lib/faultline-lab/lab/log/audit.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    during = [e for e in events if e["requestReceivedTimestamp"] >= report["started_at"]]
    node, space = report["subject"]["target_node"], report["subject"]["namespace"]
    cordons = {
        e["user"]["username"]
        for e in during
        if e["verb"] == "patch"
        and (e.get("objectRef") or {}).get("resource") == "nodes"
        and e["objectRef"].get("name") == node
        and e["objectRef"].get("subresource") is None
    }
    assert "system:serviceaccount:nvsentinel:fault-quarantine" in cordons
    assert "admin" not in cordons
    evictions = [
        e["user"]["username"]
        for e in during
        if (e.get("objectRef") or {}).get("subresource") == "eviction"
        and e["objectRef"].get("namespace") == space
    ]
    deleted_by_us = [
        e["objectRef"]["name"]
        for e in during
        if e["verb"] in ("delete", "deletecollection")
        and (e.get("objectRef") or {}).get("resource") == "pods"
        and e["user"]["username"] == "admin"
    ]
    assert deleted_by_us == []
    assert set(evictions) == {"system:serviceaccount:nvsentinel:node-drainer"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("cuda", "mode"),
    [("mode=hang,delay_microseconds=500000", "hang"), ("mode=transient", "transient")],
)
def test_inference_survives_a_gpu_that_dies_in_another_way(
    drill: Callable, cuda: str, mode: str
) -> None:
    report = drill("-e", f"xid_inject_cuda={cuda}").end()
    assert report["verdict"] == "passed", report["reason"]
    assert report["subject"]["cuda_mode"] == mode
    assert f"in mode {mode} for GPU-" in report["phases"][3]["evidence"]
    assert report["before_after"] == {"equal": True, "differences": []}
