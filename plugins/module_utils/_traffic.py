# SPDX-License-Identifier: Apache-2.0
"""The load of a drill: a few clients that ask the served model without pause, and note each answer.

Runs detached (see `_background`), appends one record per request to `requests.jsonl` and sends the
same line to everybody connected to the Unix socket `traffic.sock` beside it, so that a waiting task
hears of a request the moment it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import _run
from ._access import Access
from ._requests import Record, expected_pattern, judge

REQUESTS = "requests.jsonl"
SOCKET = "traffic.sock"


@dataclass(frozen=True)
class Load:
    """What to ask, where and how often.

    `url` is the full address of the chat completion endpoint; `interval` the least number of
    seconds between two requests of one client; `timeout` the seconds one request may take;
    `deadline` the moment (epoch seconds) at which the load ends by itself.
    """

    url: str
    model: str
    prompt: str
    expect: str
    max_tokens: int
    clients: int
    interval: float
    timeout: float
    deadline: float


async def _answer(session: Any, load: Load, body: dict[str, Any]) -> tuple[int, str, int]:
    """Status, text and number of retries of one request.

    The API server's service proxy breaks a stream now and then when the machine is busy ("read
    error during body copy" in its log): 6 of 1000 requests on two loaded cores, 0 of 1000 without
    the proxy. Such a request is asked once more, and that is counted; a frontend that died does
    not answer the second time either.
    """
    import aiohttp

    for retries in (0, 1):
        try:
            async with session.post(load.url, json=body) as answer:
                return answer.status, await answer.text(), retries
        except aiohttp.ClientPayloadError:
            if retries:
                raise
    raise AssertionError("unreachable")


async def ask(session: Any, load: Load, number: int) -> Record:
    """Send request `number` and judge the answer; every second one is a stream."""
    import aiohttp

    prompt = load.prompt.replace("{n}", str(number))
    stream = number % 2 == 1
    body = {
        "model": load.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": load.max_tokens,
        "temperature": 0,
        "stream": stream,
    }
    started, status, finish, retries = time.time(), 0, None, 0
    try:
        status, text, retries = await _answer(session, load, body)
        good, finish, error = judge(status, text, stream, expected_pattern(load.expect, prompt))
    except TimeoutError:
        good, error = False, f"no answer within {load.timeout:g} s"
    except aiohttp.ClientError as exc:
        good, error = False, f"{type(exc).__name__}: {exc}"
        retries = int(isinstance(exc, aiohttp.ClientPayloadError))  # it broke both times
    except Exception as exc:
        # Nobody would see that a client has stopped asking.
        good, error = False, f"{type(exc).__name__}: {exc}"
    ended = time.time()
    return {
        "id": number,
        "started_at": started,
        "ended_at": ended,
        "seconds": round(ended - started, 4),
        "status": status,
        "stream": stream,
        "finish_reason": finish,
        "good": good,
        "error": error,
        "retries": retries,
    }


class _Broadcast:
    """Appends records to the file and hands them to every listener of the socket."""

    def __init__(self, folder: Path) -> None:
        self.file = (folder / REQUESTS).open("a", buffering=1)
        self.listeners: set[asyncio.StreamWriter] = set()

    def accept(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.listeners.add(writer)

    def send(self, record: Record) -> None:
        line = json.dumps(record) + "\n"
        self.file.write(line)
        for writer in list(self.listeners):
            if writer.is_closing():
                self.listeners.discard(writer)
            else:
                writer.write(line.encode())


async def _client(session: Any, load: Load, numbers: Iterator[int], out: _Broadcast) -> None:
    """One client: the next request starts when the last has ended, but not before its turn."""
    loop = asyncio.get_running_loop()
    while True:
        turn = loop.time() + load.interval
        out.send(await ask(session, load, next(numbers)))
        # Pacing, not waiting: the load is the thing measured and must not depend on its answers.
        await asyncio.sleep(max(0.0, turn - loop.time()))


class Door:
    """The socket of the load in a folder, at which listeners wait until they are let in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.socket: socket.socket | None = None

    def open(self) -> None:
        """Make it, in the process of the load: whoever knows that the load runs finds it."""
        (self.folder / SOCKET).unlink(missing_ok=True)
        # A relative name: a socket's path must fit into 108 bytes, a results folder need not.
        os.chdir(self.folder)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(SOCKET)
        self.socket.listen()


async def _serve(load: Load, access: Access, door: Door) -> None:
    import aiohttp

    folder = door.folder
    out = _Broadcast(folder)
    server = await asyncio.start_unix_server(out.accept, sock=door.socket)
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    numbers = itertools.count(1)
    async with (
        server,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=access.tls, limit=0),
            headers=access.headers,
            timeout=aiohttp.ClientTimeout(total=load.timeout),
        ) as session,
    ):
        clients = [
            asyncio.create_task(_client(session, load, numbers, out)) for _ in range(load.clients)
        ]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), max(0.0, load.deadline - time.time()))
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for writer in out.listeners:
            writer.close()
    (folder / SOCKET).unlink(missing_ok=True)


def body(load: Load, access: Access, door: Door) -> Callable[[], None]:
    """What the detached process runs, once it has opened the door."""
    print_config = json.dumps(asdict(load))

    def run() -> None:
        print(f"load {print_config}")
        asyncio.run(_serve(load, access, door))

    return run


def read(folder: Path, since: float = 0.0) -> list[Record]:
    """Records of requests that ended at or after `since` (epoch seconds), oldest first."""
    return [r for r in _run.read_lines(folder / REQUESTS) if r["ended_at"] >= since]


def listen(folder: Path, deadline: float) -> Iterator[Record]:
    """Records as their requests end, until `deadline` (epoch seconds) or the load stops."""
    here = os.open(".", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            os.chdir(folder)
            connection.connect(SOCKET)
        finally:
            os.fchdir(here)
            os.close(here)
        pending = b""
        while (left := deadline - time.time()) > 0:
            connection.settimeout(left)
            try:
                chunk = connection.recv(65536)
            except TimeoutError:
                return
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines)
