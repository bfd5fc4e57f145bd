#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: ask a served model without pause, and judge the answers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inference_probe
short_description: Ask a served model without pause, and judge the answers
version_added: 0.1.0
description:
  - Starts and stops a load that asks the chat completion endpoint of a Dynamo frontend through the
    API server's service proxy, and waits until its answers are good or fail as expected.
  - A good answer is HTTP 200 and a finish reason and no error object in the stream and the
    expected text. Every second request is a stream.
  - The load runs detached, so that one load spans many tasks, and ends by itself after O(duration).
author: The faultline.gpu maintainers (@faultline-gpu)
options:
  path:
    description:
      - Folder of the run. Requests are kept in its C(requests.jsonl).
      - Required unless O(state=ready).
    type: path
  state:
    description:
      - V(started) and V(stopped) are the load's two states.
      - V(ready) waits until the frontend itself names O(workers) workers of the model, all of one
        generation; no request is sent to the model. It needs no running load.
      - V(good) waits until at least O(ratio) of the newest O(count) requests are good.
      - V(failing) waits until O(count) requests failed with an error that matches O(error).
    type: str
    choices: [started, stopped, ready, good, failing]
    required: true
  workers:
    description: Number of workers that the frontend must name. Required for V(ready).
    type: int
  namespace:
    description: Namespace of the frontend's Service.
    type: str
  service:
    description: Name of the frontend's Service.
    type: str
  port:
    description: Port of the frontend's Service.
    type: int
    default: 8000
  endpoint:
    description: Path of the chat completion endpoint.
    type: str
    default: /v1/chat/completions
  model:
    description: Name under which the model is served.
    type: str
  prompt:
    description: Question; C({n}) in it becomes the number of the request.
    type: str
    default: "Request {n}: are you there?"
  expect:
    description:
      - Regular expression that the whole answer must match. C({prompt}) and C({sha8}) in it become
        the prompt and the first eight hex digits of its SHA-256.
    type: str
    default: ".+"
  max_tokens:
    description: Longest answer asked for, in tokens.
    type: int
    default: 16
  clients:
    description: Number of clients that ask at the same time.
    type: int
    default: 4
  interval:
    description: Least number of seconds between two requests of one client.
    type: float
    default: 0.1
  request_timeout:
    description: Seconds after which a request counts as failed.
    type: float
    default: 30
  duration:
    description: Seconds after which the load ends by itself.
    type: int
    default: 3600
  since:
    description: Look only at requests that ended at or after this moment (epoch seconds).
    type: float
    default: 0
  count:
    description: How many requests to look at (V(good)) or how many must fail (V(failing)).
    type: int
    default: 50
  ratio:
    description: Share of good requests asked for.
    type: float
    default: 0.99
  error:
    description: Regular expression for the error of a failed request.
    type: str
    default: "."
  timeout:
    description: Seconds to wait for V(ready), V(good) or V(failing).
    type: float
    default: 60
  kubeconfig:
    description: Path of the kubeconfig; E(KUBECONFIG) or C(~/.kube/config) when not given.
    type: path
    aliases: [config_file]
  context:
    description: Context of the kubeconfig.
    type: str
attributes:
  check_mode:
    description: Starts and stops nothing; waits are done, they only read.
    support: full
  diff_mode:
    description: A load has no content to compare.
    support: none
  action_group:
    description: Part of the action group of this collection.
    support: full
    membership: faultline.gpu.gpu
"""

EXAMPLES = r"""
- name: Keep asking
  faultline.gpu.inference_probe:
    path: "{{ drill_run.path }}"
    state: started
    namespace: drill-1
    service: agg-frontend
    model: Qwen/Qwen3-0.6B

- name: The steady state is there
  faultline.gpu.inference_probe:
    path: "{{ drill_run.path }}"
    state: good
    count: 100
"""

RETURN = r"""
summary:
  description: Counts, good ratio, latency in ms and errors of the requests looked at.
  type: dict
  returned: when O(state=good) or O(state=failing)
matched:
  description: The same of the requests that failed with an error that matches O(error).
  type: dict
  returned: when O(state=failing)
seen:
  description: What the frontend said, one sentence.
  type: str
  returned: when O(state=ready)
seconds:
  description: Seconds waited.
  type: float
  returned: when O(state=ready), O(state=good) or O(state=failing)
"""

import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _access, _background, _traffic
from ..module_utils._errors import FaultlineError
from ..module_utils._module import refuse_empty
from ..module_utils._requests import (
    Record,
    enough_failed,
    enough_good,
    failed_with,
    model_ready,
    summarise,
)

PID_FILE = "traffic.pid"
# A frontend announces nowhere that its list has changed; asking costs it some milliseconds.
ASK_AGAIN_SECONDS = 0.2
REQUIRED = [
    ("state", "started", ("path", "namespace", "service", "model")),
    ("state", "ready", ("namespace", "service", "model", "workers")),
    ("state", "stopped", ("path",)),
    ("state", "good", ("path",)),
    ("state", "failing", ("path",)),
]


def access_of(module: AnsibleModule) -> _access.Access:
    """How to reach the API server; fails with a sentence."""
    try:
        access = _access.load(module.params["kubeconfig"], module.params["context"])
    except (FaultlineError, OSError) as exc:
        module.fail_json(msg=f"Cannot read how to reach the cluster: {exc}")
    return access


def ready(module: AnsibleModule) -> tuple[str, float]:
    """What the frontend said, and seconds waited, once it names the workers; fails otherwise."""
    p, access, begun = module.params, access_of(module), time.monotonic()
    path = f"/v1/models/{urllib.parse.quote(p['model'], safe='')}/ready"
    url = access.service_url(p["namespace"], p["service"], p["port"], path)
    while True:
        status, body = access.ask(url, p["request_timeout"])
        good, seen = model_ready(status, body, p["workers"])
        waited = time.monotonic() - begun
        if good:
            return seen, waited
        if waited >= p["timeout"]:
            module.fail_json(
                msg=f"Not seen within {waited:.0f} s: {p['workers']} workers of model "
                f"{p['model']} behind {p['service']} in {p['namespace']}. Last seen: {seen}.",
                seconds=waited,
            )
        threading.Event().wait(ASK_AGAIN_SECONDS)


def start(module: AnsibleModule, folder: Path) -> bool:
    """Start the load unless it runs; returns whether that was needed."""
    if _background.running(folder / PID_FILE):
        return False
    if module.check_mode:
        return True
    p, access = module.params, access_of(module)
    load = _traffic.Load(
        url=access.service_url(p["namespace"], p["service"], p["port"], p["endpoint"]),
        model=p["model"],
        prompt=p["prompt"],
        expect=p["expect"],
        max_tokens=p["max_tokens"],
        clients=p["clients"],
        interval=p["interval"],
        timeout=p["request_timeout"],
        deadline=time.time() + p["duration"],
    )
    door = _traffic.Door(folder)
    body = _traffic.body(load, access, door)
    pid = _background.start(folder / PID_FILE, folder / "traffic.log", body, door.open)
    if not pid:
        module.fail_json(msg=f"The load did not start; see {folder / 'traffic.log'}.")
    return True


def done(p: dict[str, Any], records: list[Record]) -> bool:
    """Whether the records show what is waited for."""
    if p["state"] == "good":
        return enough_good(records, p["count"], p["ratio"])
    return enough_failed(records, p["count"], p["error"])


def wait(module: AnsibleModule, folder: Path) -> tuple[list[Record], float]:
    """Records looked at and seconds waited, once they show what is waited for; fails otherwise."""
    p, begun = module.params, time.time()
    deadline = begun + p["timeout"]
    records: list[Record] = []
    try:
        news = _traffic.listen(folder, deadline)
        first = next(news, None)
        # The file is read after the listening began, so no request falls between the two.
        records = _traffic.read(folder, p["since"])
        known = {r["id"] for r in records}
        while first is not None and not done(p, records):
            if first["id"] not in known and first["ended_at"] >= p["since"]:
                records.append(first)
            first = next(news, None)
    except OSError as exc:
        module.fail_json(
            msg=f"No load is running for this run ({exc}): start it with state=started.",
            log=str(folder / "traffic.log"),
        )
    waited = time.time() - begun
    if not done(p, records):
        looked = records[-p["count"] :] if p["state"] == "good" else records
        summary = summarise(looked)
        wanted = (
            f"{p['ratio']:.0%} of the newest {p['count']} requests good"
            if p["state"] == "good"
            else f"{p['count']} requests failing with /{p['error']}/"
        )
        ratio = summary["good_ratio"]
        module.fail_json(
            msg=f"Not seen within {waited:.0f} s: {wanted}. Seen: {summary['total']} requests, "
            f"{summary['failed']} failed, good ratio {'none' if ratio is None else f'{ratio:.1%}'}"
            f", errors {summary['errors'] or 'none'}.",
            summary=summary,
            seconds=waited,
        )
    return records, waited


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        "path": {"type": "path"},
        "state": {
            "type": "str",
            "choices": ["started", "stopped", "ready", "good", "failing"],
            "required": True,
        },
        "workers": {"type": "int"},
        "namespace": {"type": "str"},
        "service": {"type": "str"},
        "port": {"type": "int", "default": 8000},
        "endpoint": {"type": "str", "default": "/v1/chat/completions"},
        "model": {"type": "str"},
        "prompt": {"type": "str", "default": "Request {n}: are you there?"},
        "expect": {"type": "str", "default": ".+"},
        "max_tokens": {"type": "int", "default": 16},
        "clients": {"type": "int", "default": 4},
        "interval": {"type": "float", "default": 0.1},
        "request_timeout": {"type": "float", "default": 30},
        "duration": {"type": "int", "default": 3600},
        "since": {"type": "float", "default": 0},
        "count": {"type": "int", "default": 50},
        "ratio": {"type": "float", "default": 0.99},
        "error": {"type": "str", "default": "."},
        "timeout": {"type": "float", "default": 60},
        "kubeconfig": {"type": "path", "aliases": ["config_file"]},
        "context": {"type": "str"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(), required_if=REQUIRED, supports_check_mode=True
    )
    refuse_empty(module, REQUIRED)
    if module.params["state"] == "ready":
        seen, waited = ready(module)
        module.exit_json(changed=False, seen=seen, seconds=round(waited, 2))
    folder, state = Path(module.params["path"]), module.params["state"]
    if not folder.is_dir():
        module.fail_json(msg=f"There is no folder {folder}: begin the run with drill_run.")
    if state == "started":
        module.exit_json(changed=start(module, folder))
    if state == "stopped":
        pid = _background.running(folder / PID_FILE)
        changed = bool(pid) if module.check_mode else _background.stop(folder / PID_FILE)
        module.exit_json(changed=changed)
    records, waited = wait(module, folder)
    if state == "good":
        records = records[-module.params["count"] :]
    result = {"summary": summarise(records), "seconds": round(waited, 2)}
    if state == "failing":
        result["matched"] = summarise(failed_with(records, module.params["error"]))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
