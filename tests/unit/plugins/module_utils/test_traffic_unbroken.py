# SPDX-License-Identifier: Apache-2.0
"""The load goes on whatever it is answered, and whoever has started it can listen at once."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _background as background
from ansible_collections.faultline.gpu.plugins.module_utils import _run
from ansible_collections.faultline.gpu.plugins.module_utils import _traffic as traffic
from ansible_collections.faultline.gpu.plugins.module_utils._access import Access
from ansible_collections.faultline.gpu.plugins.module_utils._requests import parse_stream


def load() -> traffic.Load:
    return traffic.Load(
        url="http://127.0.0.1:9/",
        model="m",
        prompt="{n}",
        expect=".+",
        max_tokens=4,
        clients=1,
        interval=0.01,
        timeout=5,
        deadline=time.time() + 60,
    )


class Answer:
    """An answer of a server that says something odd."""

    status = 200

    def __init__(self, body: Any) -> None:
        self.body = body

    def post(self, _url: str, **_: Any) -> Answer:
        return self

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def text(self) -> str:
        if isinstance(self.body, Exception):
            raise self.body
        return str(self.body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("data: [1]\n", "AttributeError"),
        (LookupError("unknown encoding: x-none"), "LookupError: unknown encoding: x-none"),
        ('data: {"error": "worker died"}\n', "error in the stream: worker died"),
    ],
)
def test_an_answer_that_is_not_understood_is_a_failed_request_and_no_end_of_the_client(
    body: Any, said: str
) -> None:
    record = asyncio.run(traffic.ask(Answer(body), load(), number=1))
    assert record["good"] is False
    assert record["error"].startswith(said)


def test_an_error_in_a_stream_may_be_an_object_or_a_text() -> None:
    for error in ({"message": "worker died"}, "worker died"):
        assert parse_stream(f"data: {json.dumps({'error': error})}\n")[2] == "worker died"


def test_whoever_has_started_the_load_can_listen_to_it_at_once(tmp_path: Path) -> None:
    door = traffic.Door(tmp_path)
    body = traffic.body(load(), Access("", False, {}), door)
    assert background.start(tmp_path / "pid", tmp_path / "log", body, door.open)
    try:
        first = next(traffic.listen(tmp_path, time.time() + 20))
        assert first["good"] is False
        assert "127.0.0.1:9" in first["error"]
    finally:
        background.stop(tmp_path / "pid")
    assert not (tmp_path / traffic.SOCKET).exists()


def test_a_line_that_is_being_written_is_left_out_although_it_ends_like_a_whole_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "lines").write_text('{"a": {"b": 1}}\n{"a": {"b": 2}')
    assert _run.read_lines(tmp_path / "lines") == [{"a": {"b": 1}}]
