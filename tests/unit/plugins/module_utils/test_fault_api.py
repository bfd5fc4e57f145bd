# SPDX-License-Identifier: Apache-2.0
"""The client of the fault-injection API, against the API itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from ansible_collections.faultline.gpu.plugins.module_utils import _fault_api
from ansible_collections.faultline.gpu.plugins.module_utils._access import Access
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from faultline_service.api import create_app

from tests.unit.service.test_api import FakeKube

WANTED = {"fault_id": "mine", "node_name": "gpu-node-1", "run_id": "run-1"}


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def address(kube: FakeKube) -> Iterator[str]:
    """The API on a free port of the loopback."""
    config = uvicorn.Config(create_app(kube), host="127.0.0.1", port=0, log_level="error")
    server, started = uvicorn.Server(config), threading.Event()
    original = server.startup

    async def startup(*args: Any, **kwargs: Any) -> None:
        await original(*args, **kwargs)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(20)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def api(address: str, token: str = "good") -> _fault_api.FaultApi:
    return _fault_api.connect(None, address, token)  # type: ignore[arg-type]


def test_a_fault_is_made_once_however_often_it_is_asked_for(address: str, kube: FakeKube) -> None:
    for _ in range(2):
        assert api(address).inject(79, WANTED)["fault_id"] == "mine"
    assert list(kube.faults) == ["mine"]


@pytest.mark.parametrize(
    ("token", "change", "words"),
    [
        ("good", {"node_name": "precious"}, "faultline.dev/drill=allowed"),
        ("good", {"node_name": "nowhere"}, "there is no node nowhere"),
        ("forged", {}, "the token is not valid"),
        ("weak", {}, "may not create gpufaults"),
        ("good", {"duration": 0}, "body.duration: Input should be greater than"),
    ],
)
def test_a_refusal_comes_with_the_apis_own_words(
    address: str, kube: FakeKube, token: str, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(FaultlineError, match="refused XID 79 on") as caught:
        api(address, token).inject(79, WANTED | change)
    assert words in str(caught.value)
    assert kube.faults == {}


def test_an_api_that_does_not_answer_is_named() -> None:
    with pytest.raises(FaultlineError, match="is the Deployment fault-injection-api in"):
        api("http://127.0.0.1:1").inject(79, WANTED)


def test_through_the_api_servers_proxy_the_token_comes_in_a_header_of_its_own() -> None:
    cluster = SimpleNamespace(access=lambda: Access("https://k8s", True))
    made = _fault_api.connect(cluster, None, "t")  # type: ignore[arg-type]
    assert made.url == (
        "https://k8s/api/v1/namespaces/fault-injection-system/services/fault-injection-api:8080/proxy"
    )
    assert made.headers == {"X-Faultline-Authorization": "Bearer t"}


def test_an_address_that_is_none_is_said_and_no_traceback() -> None:
    with pytest.raises(FaultlineError, match="http://host:port"):
        api("localhost:8080").inject(79, WANTED)


@pytest.mark.parametrize(
    ("status", "text"), [(200, "<html>sign in</html>"), (200, "7"), (500, '"x"'), (502, "[]")]
)
def test_an_answer_that_is_not_the_apis_is_shown_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, status: int, text: str
) -> None:
    monkeypatch.setattr(Access, "ask", lambda *_: (status, text))
    with pytest.raises(FaultlineError) as caught:
        api("http://gateway").inject(79, WANTED)
    assert f"HTTP {status}" in str(caught.value)
    assert text in str(caught.value)
