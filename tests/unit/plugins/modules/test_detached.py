# SPDX-License-Identifier: Apache-2.0
"""The modules that leave a process behind: drill_observer and inference_probe."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _access, _background
from ansible_collections.faultline.gpu.plugins.modules import drill_observer, inference_probe
from fake_api import Api, Run
from unhurried import Unhurried

Object = dict[str, Any]


def named(kind: str, name: str, namespace: str | None = None, **more: Any) -> Object:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": {}} | more


def pod(name: str, phase: str, namespace: str = "drill") -> Object:
    return named("Pod", name, namespace, status={"phase": phase})


def event(name: str, namespace: str) -> Object:
    about = {"kind": "Node", "name": "n"}
    return named("Event", name, namespace, reason="R", involvedObject=about)


def test_each_change_that_matters_becomes_a_line_of_the_timeline(
    api: Api, unhurried: Unhurried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill_observer, "Cluster", lambda *_: api.cluster())
    api.unknown |= {"RebootNode", "GPUReset"}
    for obj in (named("Node", "n"), pod("w1", "Running"), pod("x", "Running", "prod")):
        api.put(obj)
    for obj in (event("ours", "drill"), event("theirs", "prod"), event("nodes", "default")):
        api.put(obj)

    def happen() -> None:
        same = pod("w1", "Running")
        same["metadata"]["annotations"] = {"nobody": "looks at this"}
        api.put(same)
        api.put(pod("w1", "Succeeded"))
        api.remove(api.one("Pod", "w1", "drill"))
        api.put(named("DynamoGraphDeployment", "agg", "drill"))

    unhurried.then.append(happen)
    params = {"kubeconfig": None, "context": None, "namespace": "drill", "duration": 0.1}
    drill_observer.observe(params, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
    pods = [(r["op"], r["name"], r["view"]["phase"]) for r in rows if r["kind"] == "Pod"]
    assert pods == [
        ("LISTED", "w1", "Running"),
        ("MODIFIED", "w1", "Succeeded"),
        ("DELETED", "w1", "Succeeded"),
    ]
    others = {(r["kind"], r["namespace"], r["name"]) for r in rows if r["kind"] != "Pod"}
    assert others == {
        ("Node", "", "n"),
        ("Event", "drill", "ours"),
        ("Event", "default", "nodes"),
        ("DynamoGraphDeployment", "drill", "agg"),
    }
    assert [r["at"] for r in rows] == sorted(r["at"] for r in rows)


def at_work() -> None:
    """Does not end by itself. signal.pause() would sleep over a signal that came right before."""
    while True:
        time.sleep(0.01)


@pytest.fixture
def observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Object]:
    """Options of an observer that, once started, only waits for its end."""
    monkeypatch.setattr(drill_observer, "observe", lambda *_: at_work())
    yield {"path": str(tmp_path), "namespace": "drill"}
    _background.stop(tmp_path / drill_observer.PID_FILE, timeout=0.5)


def test_an_observer_is_started_once_and_stopped_once(
    observer: Object, run: Run, tmp_path: Path
) -> None:
    pid_file = tmp_path / drill_observer.PID_FILE
    assert run(drill_observer, check=True, **observer)["changed"] is True
    assert _background.running(pid_file) is None
    assert run(drill_observer, **observer)["changed"] is True
    pid = _background.running(pid_file)
    assert pid
    assert run(drill_observer, **observer)["changed"] is False
    assert _background.running(pid_file) == pid
    stopped = observer | {"state": "stopped"}
    assert run(drill_observer, check=True, **stopped)["changed"] is True
    assert _background.running(pid_file) == pid
    assert run(drill_observer, **stopped)["changed"] is True
    assert _background.running(pid_file) is None
    assert run(drill_observer, **stopped)["changed"] is False


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (drill_observer, {"namespace": "drill"}),
        (inference_probe, {"state": "stopped"}),
        (inference_probe, {"state": "good"}),
    ],
)
def test_without_the_folder_of_a_run_nothing_is_begun(
    run: Run, tmp_path: Path, module: Any, options: Object
) -> None:
    result = run(module, path=str(tmp_path / "gone"), **options)
    assert result["failed"] is True
    assert result["msg"].endswith("gone: begin the run with drill_run.")
    assert list(tmp_path.iterdir()) == []


class Frontend(BaseHTTPRequestHandler):
    """A served model that answers with its prompt, or with what `broken` of the server says."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = {"finish_reason": "stop"}
        text = {"content": body["messages"][0]["content"]}
        if self.server.broken:  # type: ignore[attr-defined]
            self.reply(500, {"message": self.server.broken})  # type: ignore[attr-defined]
        elif body["stream"]:
            self.reply(200, {"choices": [choice | {"delta": text}]}, "data: ", "\n\ndata: [DONE]\n")
        else:
            self.reply(200, {"choices": [choice | {"message": text}]})

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        workers = {"decode": {"workers": self.server.workers}}  # type: ignore[attr-defined]
        self.reply(200, {"ready": True, "namespaces": {"drill-agg-x": {"worker_types": workers}}})

    def reply(self, status: int, body: Object, before: str = "", after: str = "") -> None:
        text = f"{before}{json.dumps(body)}{after}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def frontend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A frontend on loopback that is reached as if through the API server's proxy."""
    found = ThreadingHTTPServer(("127.0.0.1", 0), Frontend)
    found.broken, found.workers, found.asked = "", 2, []  # type: ignore[attr-defined]
    threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{found.server_port}"
    monkeypatch.setattr(_access, "load", lambda *_: _access.Access(address, True, {}))
    yield found
    found.shutdown()


SERVED = {"namespace": "drill", "service": "agg-frontend", "model": "org/model"}


@pytest.fixture
def load(run: Run, frontend: Any, tmp_path: Path) -> Iterator[Object]:
    """Options of a load that has just been started."""
    given = {"path": str(tmp_path), "clients": 2, "interval": 0.01, "expect": "{prompt}"}
    result = run(inference_probe, state="started", **given, **SERVED)
    assert result["changed"] is True
    yield {"path": str(tmp_path)}
    _background.stop(tmp_path / inference_probe.PID_FILE, timeout=2)


def test_a_load_is_started_once_judged_and_stopped_once(
    load: Object, run: Run, tmp_path: Path, frontend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / inference_probe.PID_FILE
    pid = _background.running(pid_file)
    assert run(inference_probe, state="started", **load, **SERVED)["changed"] is False
    assert _background.running(pid_file) == pid
    good = run(inference_probe, state="good", **load, count=20, timeout=60)
    assert (good["changed"], good["summary"]["failed"]) == (False, 0)
    assert good["summary"]["total"] == 20
    with monkeypatch.context() as patched:
        # How long the module says that it has waited is not for a slow machine to change.
        now = time.time()
        patched.setattr(inference_probe, "time", SimpleNamespace(time=lambda: now))
        said = run(inference_probe, state="failing", **load, count=1, timeout=0.2)
    assert said["failed"] is True
    assert "Not seen within 0 s: 1 requests failing with /./. Seen: " in said["msg"]
    assert ", 0 failed, good ratio 100.0%, errors none." in said["msg"]
    frontend.broken = "CUDA error 719"
    failing = run(inference_probe, state="failing", **load, error="CUDA error 719", timeout=60)
    assert failing["matched"]["total"] == failing["matched"]["failed"] > 0
    assert failing["summary"]["failed"] >= 1
    assert run(inference_probe, check=True, state="stopped", **load)["changed"] is True
    assert _background.running(pid_file) == pid
    assert run(inference_probe, state="stopped", **load)["changed"] is True
    assert _background.running(pid_file) is None
    assert run(inference_probe, state="stopped", **load)["changed"] is False
    gone = run(inference_probe, state="good", **load, timeout=0.2)
    assert gone["failed"] is True
    assert "No load is running for this run" in gone["msg"]


def test_a_load_can_be_listened_to_as_soon_as_it_is_started(load: Object, run: Run) -> None:
    assert run(inference_probe, state="good", **load, count=1, timeout=60)["changed"] is False


def test_check_mode_starts_no_load(run: Run, frontend: Any, tmp_path: Path) -> None:
    given = {"state": "started", "path": str(tmp_path)} | SERVED
    assert run(inference_probe, check=True, **given)["changed"] is True
    assert list(tmp_path.iterdir()) == []


def test_a_frontend_that_names_all_workers_is_ready(run: Run, frontend: Any) -> None:
    result = run(inference_probe, state="ready", workers=2, **SERVED)
    assert result["changed"] is False
    assert "workers {'drill-agg-x': 2}" in result["seen"]
    assert frontend.asked == [
        "/api/v1/namespaces/drill/services/agg-frontend:8000/proxy/v1/models/org%2Fmodel/ready"
    ]


def test_a_frontend_that_misses_a_worker_is_a_timeout_with_its_answer(
    run: Run, frontend: Any
) -> None:
    frontend.workers = 1
    result = run(inference_probe, state="ready", workers=2, timeout=0.1, **SERVED)
    assert result["failed"] is True
    assert "2 workers of model org/model behind agg-frontend in drill" in result["msg"]
    assert "workers {'drill-agg-x': 1}" in result["msg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"state": "started"}, "missing: namespace, service, model"),
        ({"state": "ready"} | SERVED, "missing: workers"),
        ({"state": "good", "path": None}, "missing: path"),
        ({"state": "soon"}, "value of state must be one of: started, stopped"),
    ],
)
def test_a_load_that_is_not_described_is_refused(
    run: Run, tmp_path: Path, options: Object, said: str
) -> None:
    result = run(inference_probe, **({"path": str(tmp_path)} | options))
    assert result["failed"] is True
    assert said in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_a_kubeconfig_that_cannot_be_read_is_a_sentence(run: Run, tmp_path: Path) -> None:
    given = {"state": "started", "path": str(tmp_path), "kubeconfig": str(tmp_path / "none")}
    result = run(inference_probe, **given, **SERVED)
    assert result["msg"].startswith("Cannot read how to reach the cluster: ")
