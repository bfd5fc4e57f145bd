# SPDX-License-Identifier: Apache-2.0
"""What one inference request was, and what many of them say. Pure functions, no I/O.

A record is a mapping with
  `id` (int), `started_at` and `ended_at` (seconds since the epoch), `seconds` (float),
  `status` (HTTP status, 0 of no answer), `stream` (bool), `finish_reason` (str or None),
  `error` (str or None: error object, transport error or wrong text), `good` (bool).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

Record = dict[str, Any]


def expected_pattern(template: str, prompt: str) -> re.Pattern[str]:
    """Pattern that a good answer to `prompt` matches from end to end.

    `template` is a regular expression; `{prompt}` and `{sha8}` in it stand for the prompt (escaped)
    and for the first eight hex digits of its SHA-256.
    """
    sha8 = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    filled = template.replace("{prompt}", re.escape(prompt)).replace("{sha8}", sha8)
    return re.compile(filled, re.DOTALL)


def said(error: Any) -> str:
    """What an error of an answer says: an object with a message, or a text."""
    return str(error.get("message", error) if isinstance(error, dict) else error)


def parse_stream(body: str) -> tuple[str, str | None, str | None]:
    """Text, finish reason and error of a server-sent event stream of a chat completion.

    A stream that had begun reports a dead worker inside the stream, with HTTP 200
    (dynamo-observed recordings, section 6), so the status alone says nothing.
    """
    text, finish, error = "", None, None
    for line in body.splitlines():
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if not data or data == "[DONE]":
            continue
        try:
            event = json.loads(data)
        except ValueError:
            return text, finish, f"not JSON in the stream: {data[:80]}"
        if event.get("error"):
            error = said(event["error"])
        for choice in event.get("choices") or []:
            text += (choice.get("delta") or {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
    return text, finish, error


def parse_answer(body: str) -> tuple[str, str | None, str | None]:
    """Text, finish reason and error of a chat completion that came in one piece."""
    try:
        answer = json.loads(body)
    except ValueError:
        return "", None, f"not JSON: {body[:80]!r}"
    if not answer.get("choices"):
        error = answer.get("error") or answer.get("message") or body[:200]
        return "", None, said(error)
    choice = answer["choices"][0]
    return (choice.get("message") or {}).get("content") or "", choice.get("finish_reason"), None


def judge(
    status: int, body: str, stream: bool, expected: re.Pattern[str]
) -> tuple[bool, str | None, str | None]:
    """Whether an answer is good, its finish reason, and why it is not good.

    Good is HTTP 200 and a finish reason and no error object and the expected text.
    """
    text, finish, error = parse_stream(body) if stream and status == 200 else parse_answer(body)
    if status != 200:
        return False, finish, f"HTTP {status}: {error or body[:120]}"
    if error:
        return False, finish, f"error in the stream: {error}" if stream else error
    if not finish:
        return False, None, "no finish_reason"
    if not expected.fullmatch(text):
        return False, finish, f"wrong text {text[:60]!r}, expected /{expected.pattern[:60]}/"
    return True, finish, None


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile; `share` from 0 to 1. None of no values."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)
    return ordered[min(rank, len(ordered) - 1)]


def summarise(records: Iterable[Record]) -> dict[str, Any]:
    """Counts, good ratio (None of no requests), latency of good requests in ms, and failures."""
    rows = list(records)
    failed = [r for r in rows if not r["good"]]
    times = [r["seconds"] * 1000 for r in rows if r["good"]]
    latency = {f"p{int(s * 100)}": percentile(times, s) for s in (0.5, 0.95, 0.99)}
    errors: dict[str, int] = {}
    for row in failed:
        errors[row["error"] or "unknown"] = errors.get(row["error"] or "unknown", 0) + 1
    return {
        "total": len(rows),
        "failed": len(failed),
        "retried": sum(r.get("retries", 0) for r in rows),
        "good_ratio": (len(rows) - len(failed)) / len(rows) if rows else None,
        "latency_ms": {k: None if v is None else round(v, 1) for k, v in latency.items()},
        "first_failure_at": min((r["ended_at"] for r in failed), default=None),
        "last_failure_at": max((r["ended_at"] for r in failed), default=None),
        "errors": dict(sorted(errors.items(), key=lambda kv: -kv[1])[:10]),
    }


def enough_good(records: Sequence[Record], count: int, ratio: float) -> bool:
    """Whether the newest `count` requests are there and at least `ratio` of them are good."""
    newest = sorted(records, key=lambda r: r["ended_at"])[-count:]
    return len(newest) >= count > 0 and sum(r["good"] for r in newest) / count >= ratio


def failed_with(records: Iterable[Record], error: str) -> list[Record]:
    """Requests that failed with an error that matches `error`."""
    return [r for r in records if not r["good"] and re.search(error, r["error"] or "")]


def enough_failed(records: Sequence[Record], count: int, error: str) -> bool:
    """Whether at least `count` requests failed with an error that matches `error`."""
    return len(failed_with(records, error)) >= count > 0


def model_ready(status: int, body: str, workers: int) -> tuple[bool, str]:
    """Whether a frontend's answer to `/v1/models/<id>/ready` names exactly `workers` workers.

    All of them in one runtime namespace: the namespace of an earlier worker generation stays in the
    list until its last worker has gone (recorded). Returns the verdict and what was seen.
    """
    try:
        answer = json.loads(body) if status == 200 else {}
    except ValueError:
        answer = {}
    if status != 200 or not isinstance(answer, dict):
        said = f"HTTP {status}" if status else f"no answer: {body or 'none'}"
        return False, f"the frontend does not know the model ({said})"
    spaces = {
        name: sum(t.get("workers") or 0 for t in (space.get("worker_types") or {}).values())
        for name, space in (answer.get("namespaces") or {}).items()
    }
    missing = [
        kind
        for space in (answer.get("namespaces") or {}).values()
        for kind in space.get("missing_worker_types") or []
    ]
    seen = f"the frontend says ready {answer.get('ready')}, workers {spaces or 'none'}"
    if missing:
        seen += f", missing {', '.join(missing)}"
    good = answer.get("ready") is True and list(spaces.values()) == [workers] and workers > 0
    return good and not missing, seen
