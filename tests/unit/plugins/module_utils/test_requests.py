# SPDX-License-Identifier: Apache-2.0
"""What counts as a good answer."""

from __future__ import annotations

import json

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _requests as requests

ANY = requests.expected_pattern(".+", "")


def stream(*events: dict, done: bool = True) -> str:
    lines = [f"data: {json.dumps(e)}\n" for e in events]
    return "\n".join(lines + (["data: [DONE]\n"] if done else []))


def delta(text: str | None = None, finish: str | None = None) -> dict:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


WHOLE = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
# As recorded from a real frontend whose worker died in the middle of a stream: HTTP stays 200.
BROKEN = {"error": {"message": "Service temporarily unavailable", "code": 503}}


@pytest.mark.parametrize(
    ("status", "body", "is_stream", "good", "error"),
    [
        (200, json.dumps(WHOLE), False, True, None),
        (200, stream(delta("ye"), delta("s", "stop")), True, True, None),
        (200, stream(delta("ye"), BROKEN), True, False, "temporarily unavailable"),
        (200, stream(delta("ye"), done=False), True, False, "no finish_reason"),
        (200, stream(delta(None, "stop")), True, False, "wrong text"),
        (200, "", True, False, "no finish_reason"),
        (200, "<html>", False, False, "not JSON"),
        (200, json.dumps({"choices": []}), False, False, ""),
        (404, "", False, False, "HTTP 404"),
        (500, json.dumps({"message": "Internal server error"}), True, False, "Internal server"),
        (503, json.dumps({"error": {"message": "gone"}}), False, False, "HTTP 503: gone"),
    ],
)
def test_an_answer_is_good_only_if_status_reason_stream_and_text_all_are(
    status: int, body: str, is_stream: bool, good: bool, error: str | None
) -> None:
    judged, _finish, why = requests.judge(status, body, is_stream, ANY)
    assert judged is good
    assert (why is None) if error is None else (error in (why or ""))


def test_the_expected_text_may_depend_on_the_prompt() -> None:
    pattern = requests.expected_pattern("fl-{sha8}: {prompt}", "1+1?")
    assert pattern.fullmatch("fl-" + "d4f9f9f3"[:0] + pattern.pattern[3:11] + ": 1+1?")
    assert not pattern.fullmatch("fl-00000000: 1+1?")
    assert not pattern.fullmatch("fl-" + pattern.pattern[3:11] + ": 111?")


def record(at: float, good: bool = True, error: str | None = None) -> dict:
    return {"id": int(at), "ended_at": at, "seconds": at / 1000, "good": good, "error": error}


def test_a_few_good_requests_are_not_enough_requests() -> None:
    assert not requests.enough_good([record(i) for i in range(49)], 50, 0.99)
    assert requests.enough_good([record(i) for i in range(50)], 50, 0.99)
    assert not requests.enough_good([], 0, 0.0)


def test_only_the_newest_requests_decide_whether_serving_is_good_again() -> None:
    rows = [record(i, good=i >= 10, error="x") for i in range(110)]
    assert requests.enough_good(rows, 100, 0.99)
    assert not requests.enough_good(rows, 105, 0.99)


def test_failures_of_another_kind_do_not_count_as_the_injected_one() -> None:
    rows = [record(1, False, "HTTP 503: busy"), record(2, False, "CUDA error 719")]
    assert requests.enough_failed(rows, 1, r"CUDA error 719")
    assert not requests.enough_failed(rows, 2, r"CUDA error 719")
    assert not requests.enough_failed([], 0, ".")


def test_a_summary_of_no_requests_has_no_ratio_and_no_latency() -> None:
    summary = requests.summarise([])
    assert summary["good_ratio"] is None
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None}


def test_latency_is_that_of_good_requests_only() -> None:
    rows = [record(i) for i in range(1, 101)] + [record(5000, False, "x")]
    summary = requests.summarise(rows)
    assert summary["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert summary["failed"] == 1
    assert summary["last_failure_at"] == 5000


def answer(ready: bool, **namespaces: dict) -> str:
    return json.dumps({"model": "m", "ready": ready, "namespaces": namespaces})


def space(*workers: int, missing: tuple[str, ...] = ()) -> dict:
    types = {f"t{i}": {"workers": count} for i, count in enumerate(workers)}
    return {"ready": True, "worker_types": types, "missing_worker_types": list(missing)}


@pytest.mark.parametrize(
    ("status", "body", "good"),
    [
        (200, answer(True, new=space(2)), True),
        (200, answer(True, new=space(1, 1)), True),
        (200, answer(False, new=space(2)), False),
        (200, answer(True, new=space(1)), False),
        (200, answer(True, old=space(1), new=space(1)), False),
        (200, answer(True, new=space(2, missing=("prefill",))), False),
        (200, answer(True), False),
        (404, '{"message":"Model not found"}', False),
        (503, "no endpoints available", False),
        (0, "connection refused", False),
        (200, "not JSON", False),
    ],
)
def test_a_frontend_is_ready_only_with_all_workers_of_one_generation(
    status: int, body: str, good: bool
) -> None:
    assert requests.model_ready(status, body, 2)[0] is good


def test_a_frontend_that_nobody_reaches_is_not_one_that_lacks_the_model() -> None:
    assert requests.model_ready(0, "connection refused", 2)[1].endswith(
        "(no answer: connection refused)"
    )


def test_no_workers_are_never_ready() -> None:
    assert not requests.model_ready(200, answer(True, new=space(0)), 0)[0]
