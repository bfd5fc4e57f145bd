# SPDX-License-Identifier: Apache-2.0
"""The load as a process of its own, against a server on loopback."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _background as background
from ansible_collections.faultline.gpu.plugins.module_utils import _traffic as traffic
from ansible_collections.faultline.gpu.plugins.module_utils._access import Access
from ansible_collections.faultline.gpu.plugins.module_utils._requests import Record


class Model(BaseHTTPRequestHandler):
    """Answers every chat completion with its own prompt; `broken` on the server makes it fail, and
    as many answers as `cut` says break off."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.cut > 0:  # type: ignore[attr-defined]
            self.server.cut -= 1  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.close_connection = True
            return
        text = body["messages"][0]["content"]
        if self.server.broken:  # type: ignore[attr-defined]
            self.reply(500, json.dumps({"message": "CUDA error 719"}))
        elif body["stream"]:
            event = {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}
            self.reply(200, f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n")
        else:
            choice = {"message": {"content": text}, "finish_reason": "stop"}
            self.reply(200, json.dumps({"choices": [choice]}))

    def reply(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    found.broken, found.cut = False, 0  # type: ignore[attr-defined]
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


@pytest.fixture
def running(server: ThreadingHTTPServer, tmp_path: Path) -> Iterator[Path]:
    load = traffic.Load(
        url=f"http://127.0.0.1:{server.server_port}/v1/chat/completions",
        model="m",
        prompt="are you there, {n}?",
        expect="{prompt}",
        max_tokens=4,
        clients=2,
        interval=0.01,
        timeout=30,
        deadline=time.time() + 300,
    )
    access = Access("", False, {})
    door = traffic.Door(tmp_path)
    body = traffic.body(load, access, door)
    background.start(tmp_path / "pid", tmp_path / "log", body, door.open)
    yield tmp_path
    background.stop(tmp_path / "pid")


def until(folder: Path, wanted: Callable[[Record], bool], seconds: float = 60) -> bool:
    """Whether such a request ends in time, or has ended already."""
    news = traffic.listen(folder, time.time() + seconds)
    # The file is read after the listening began, so no request falls between the two.
    first = next(news)
    return any(map(wanted, itertools.chain(traffic.read(folder), [first], news)))


@pytest.fixture
def listening(running: Path) -> Path:
    """The load with its socket there: the first record in the file says so."""
    deadline = time.time() + 60
    while not traffic.read(running) and time.time() < deadline:
        time.sleep(0.02)
    return running


def test_streams_and_whole_answers_are_both_asked_for_and_judged(listening: Path) -> None:
    assert until(listening, lambda r: r["id"] > 20)
    rows = traffic.read(listening)
    assert {r["stream"] for r in rows} == {True, False}
    assert all(r["good"] for r in rows), [r for r in rows if not r["good"]][:3]


def test_a_failure_is_heard_of_as_it_happens_with_its_text(
    listening: Path, server: ThreadingHTTPServer
) -> None:
    server.broken = True  # type: ignore[attr-defined]
    assert until(listening, lambda r: not r["good"] and "CUDA error 719" in r["error"])


def test_an_answer_that_breaks_off_is_asked_for_once_more_and_that_is_counted(
    listening: Path, server: ThreadingHTTPServer
) -> None:
    server.cut = 1  # type: ignore[attr-defined]
    assert until(listening, lambda r: r["good"] and r["retries"] == 1)
    server.cut = 1000  # type: ignore[attr-defined]
    assert until(listening, lambda r: "Payload" in (r["error"] or "") and r["retries"] == 1)


def test_a_second_process_can_stop_the_load(listening: Path) -> None:
    assert background.running(listening / "pid")
    assert background.stop(listening / "pid")
    assert not background.running(listening / "pid")
    assert not (listening / traffic.SOCKET).exists()
    assert not background.stop(listening / "pid"), "stopping twice changes nothing"


def test_an_id_that_now_belongs_to_another_process_is_never_signalled(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(json.dumps({"pid": os.getpid(), "start_ticks": 1}))
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        assert not background.stop(pid_file)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert not seen
