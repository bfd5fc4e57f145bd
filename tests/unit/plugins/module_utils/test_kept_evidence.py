# SPDX-License-Identifier: Apache-2.0
"""What is kept of a drill, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _evidence as evidence

Object = dict[str, Any]
GRAPH = {"nvidia.com/dynamo-graph-deployment-name": "agg"}


def pod(name: str, *statuses: Object, **more: Any) -> Object:
    ports = [{"name": "http", "containerPort": 8000}, {"name": "nats", "containerPort": 4222}]
    return {
        "metadata": {"name": name, "namespace": "drill", "labels": GRAPH} | more,
        "spec": {"containers": [{"name": "main", "ports": ports}]},
        "status": {"phase": "Running", "containerStatuses": list(statuses)},
    }


SPEC = {
    "metadata": {
        "managedFields": [{"manager": "x"}],
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "hf_abcdef",
            "kept": "yes",
        },
    },
    "env": [
        {"name": "HF_TOKEN", "value": "hf_abcdef"},
        {"name": "DYN_LOG", "value": "info"},
        {"name": "NGC_API_KEY", "valueFrom": {"secretKeyRef": {"name": "ngc", "key": "k"}}},
    ],
    "args": ["--model", "m", "--api-key", "k1", "--admin-token=t1", "--tokenizer", "fast"],
    "command": ["sh", "-c", "echo hf_abcdef | login"],
}


def test_secret_values_are_found_at_any_depth() -> None:
    assert evidence.secrets_in([{"spec": SPEC}]) == {"hf_abcdef"}


def test_an_object_is_kept_without_bookkeeping_and_without_secrets() -> None:
    kept = evidence.cleaned(SPEC, evidence.secrets_in(SPEC))
    text = json.dumps(kept)
    for secret in ("hf_abcdef", "k1", "t1", "managedFields", "last-applied"):
        assert secret not in text
    assert kept["metadata"]["annotations"] == {"kept": "yes"}
    assert kept["env"][1] == {"name": "DYN_LOG", "value": "info"}
    assert kept["env"][2] == SPEC["env"][2]
    assert kept["args"] == [
        "--model",
        "m",
        "--api-key",
        "(not kept)",
        "--admin-token=(not kept)",
        "--tokenizer",
        "fast",
    ]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("using hf_abcdef now", "using (not kept) now"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer (not kept)"),
        ("authorization: basic dXNlcg==", "authorization: basic (not kept)"),
        ("run --hf-token=abc --model m", "run --hf-token=(not kept) --model m"),
        ("a basic test of tokens", "a basic test of tokens"),
        ("HF_TOKEN=hf_x exec python3", "HF_TOKEN=(not kept) exec python3"),
        ("api_key='sk-1 2', model='m'", "api_key=(not kept), model='m'"),
        ("{'api_key': ['sk-1'], 'n': 1}", "{'api_key': [(not kept)], 'n': 1}"),
        ('{"token": "abc"}', '{"token": (not kept)}'),
        ("X-Api-Key: abc", "X-Api-Key: (not kept)"),
        ('--api-key "two words" -v', "--api-key (not kept) -v"),
        ("nats://user:pw@host:4222", "nats://(not kept)@host:4222"),
        ("token_ids=[1, 2] num_tokens: 7", "token_ids=[1, 2] num_tokens: 7"),
        ("max_tokens=16 stop_token=3", "max_tokens=16 stop_token=(not kept)"),
    ],
)
def test_a_log_line_is_kept_without_secrets(line: str, kept: str) -> None:
    assert evidence.hidden(line, {"hf_abcdef"}) == kept


def test_the_longer_of_two_secrets_is_hidden_first() -> None:
    assert evidence.hidden("abcdefgh", {"abcdef", "abcdefgh"}) == "(not kept)"


def test_a_short_literal_is_left_where_it_stands_for_something_else() -> None:
    assert evidence.hidden("2025-01-01", {"1"}) == "2025-01-01"


def test_logs_of_restarted_containers_are_kept_twice_and_of_waiting_ones_only_the_earlier() -> None:
    fresh = {"name": "main", "restartCount": 0, "state": {"running": {}}}
    again = {"name": "side", "restartCount": 2, "state": {"running": {}}}
    loop = {"name": "bad", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    unborn = {"name": "new", "restartCount": 0, "state": {"waiting": {}}}
    found = evidence.logs([pod("p", fresh, again, loop, unborn)], 1000, 50)
    assert [p.file for p in found] == [
        "logs/drill/p/main.log",
        "logs/drill/p/side.log",
        "logs/drill/p/side.previous.log",
        "logs/drill/p/bad.previous.log",
    ]
    assert found[0].path == "/log?container=main&limitBytes=1000&tailLines=50&timestamps=true"
    assert found[2].path.endswith("&previous=true")


def test_metrics_are_read_from_the_ports_of_running_pods_of_graphs_alone() -> None:
    other = pod("other", labels={})
    dead = pod("dead") | {"status": {"phase": "Failed"}}
    (piece,) = evidence.metrics([pod("p"), other, dead])
    assert (piece.file, piece.path) == ("metrics/p-8000.txt", ":8000/proxy/metrics")
