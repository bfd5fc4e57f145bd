# SPDX-License-Identifier: Apache-2.0
"""Puts this folder on the path, and gives tests of all kinds of plugins a cluster in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.module_utils.testing import patch_module_args
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible_collections.faultline.gpu.plugins.module_utils import _module, _watch
from fake_api import Api, Run
from unhurried import Unhurried


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A cluster in memory. Followers that lost their connection come back at once."""
    at_once = SimpleNamespace(wait=lambda _seconds: None)
    patient = SimpleNamespace(**(vars(threading) | {"Event": lambda: at_once}))
    monkeypatch.setattr(_watch, "threading", patient)
    found = Api()
    yield found
    found.close()


@pytest.fixture
def unhurried(api: Api, monkeypatch: pytest.MonkeyPatch) -> Unhurried:
    """Waits whose time passes only while nothing is left to be read."""
    clock = Unhurried(api)
    monkeypatch.setattr(_watch, "time", clock)
    monkeypatch.setattr(_watch, "heard", clock.heard)
    return clock


def act(action: type[ActionBase], check: bool, given: dict[str, Any]) -> dict[str, Any]:
    """Result of an action that runs inside Ansible."""
    task, local = Task(), SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    task.args, task.check_mode = given, check
    try:
        found = action(task, local, None, None, None, None).run(task_vars={})
    except AnsibleError as error:
        return {"failed": True, "msg": str(error)}
    # What Ansible keeps of it passes through JSON.
    result: dict[str, Any] = json.loads(json.dumps(found))
    return result


@pytest.fixture
def run(
    api: Api,
    unhurried: Unhurried,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a module's main(), or an action, on the cluster in memory and returns its result.

    `check` is check mode. A result with `failed` came with another exit status than 0. A wait
    reads all there is before its time begins.
    """
    monkeypatch.setattr(_module, "Cluster", lambda _kubeconfig, _context: api.cluster())

    def call(module: ModuleType, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {k: v for k, v in options.items() if v is not None}
        if hasattr(module, "ActionModule"):
            return act(module.ActionModule, check, given)
        with (
            patch_module_args(given | {"_ansible_check_mode": check, "_ansible_diff": True}),
            pytest.raises(SystemExit) as ended,
        ):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert bool(ended.value.code) is bool(result.get("failed"))
        return result

    return call
