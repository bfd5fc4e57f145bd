# SPDX-License-Identifier: Apache-2.0
"""Runs entry points of the collection's roles from Python, by ansible-runner.

What happens streams to the log `faultline.roles` as it happens; a task that fails raises
FaultlineError with the role's own message. A caller that is cancelled (Ctrl-C, a timeout) ends the
play first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible_runner
from ansible_collections.faultline.gpu.plugins.module_utils import _driver
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from ansible_collections.faultline.gpu.plugins.module_utils._words import plain

TREE = Path(__file__).resolve().parents[2]
log = logging.getLogger("faultline.roles")

Results = dict[str, Any]
# Marks the processes of one play, in their environment.
MARK = "FAULTLINE_PLAY"
FAILED = ("runner_on_failed", "runner_on_unreachable")


class Listener:
    """Follows the events of one play: logs them, keeps results and what went wrong."""

    def __init__(self) -> None:
        # Result of each module by its short name, the last one of several, and registered facts.
        self.results: Results = {}
        self.failures: list[str] = []

    def __call__(self, event: Mapping[str, Any]) -> bool:
        """Take one event of ansible-runner; none is kept on disk."""
        kind, data = event["event"], event.get("event_data") or {}
        result = data.get("res") or {}
        if kind == "playbook_on_task_start":
            log.debug("%s", data.get("task"))
        elif kind == "runner_on_ok":
            self.results[str(data.get("task_action", "")).rsplit(".", 1)[-1]] = result
            self.results |= result.get("ansible_facts") or {}
            if result.get("seen"):
                log.info("%s: %s", data.get("task"), result["seen"])
        elif kind in FAILED and not data.get("ignore_errors"):
            words = "output is secret" if result.get("_ansible_no_log") else result.get("msg")
            words = words or result.get("stderr") or "failed without a word"
            self.failures.append(plain(str(words)))
            log.error("%s: %s", data.get("task"), self.failures[-1])
        elif kind == "error":
            self.failures.append(str(event.get("stdout")))
        return False


class Roles:
    """Roles and playbooks of this collection, run on this machine against one cluster.

    `kubeconfig` is a path, else KUBECONFIG and ~/.kube/config hold; `inventory` a path whose group
    `gpu_nodes` names the GPU hosts, else they are reached through the fault service's agents.
    """

    def __init__(self, kubeconfig: str | None = None, inventory: str | None = None) -> None:
        self.kubeconfig, self.inventory = kubeconfig, inventory

    async def role(self, name: str, entry: str = "main", **variables: Any) -> Results:
        """Run one entry point; returns the results of its modules by name, and its facts."""
        return await self.roles([(name, entry, variables)])

    async def roles(self, parts: list[tuple[str, str, Mapping[str, Any]]]) -> Results:
        """Run several entry points, each with its variables, as one play."""
        tasks = [
            {
                "name": f"{name}, {entry}",
                "ansible.builtin.include_role": {
                    "name": f"faultline.gpu.{name}",
                    "tasks_from": entry,
                },
                "vars": dict(variables),
            }
            for name, entry, variables in parts
        ]
        play = {"name": "Roles", "hosts": "localhost", "gather_facts": False, "tasks": tasks}
        return await self._run(False, playbook=[play])

    async def playbook(self, name: str, **variables: Any) -> Results:
        """Run a playbook of the collection with extra variables."""
        path = str(TREE / "playbooks" / f"{name}.yml")
        return await self._run(False, playbook=path, extravars=variables)

    async def way_back(self, **variables: Any) -> Results:
        """Run the cleanup playbook to its end, also when the caller is cancelled meanwhile."""
        path = str(TREE / "playbooks" / "cleanup.yml")
        return await self._run(True, playbook=path, extravars=variables)

    async def _run(self, to_the_end: bool, **what: Any) -> Results:
        listener, cancelled = Listener(), threading.Event()
        task = asyncio.create_task(asyncio.to_thread(self._play, listener, cancelled, what))
        interrupt: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                interrupt = error
                if to_the_end:
                    log.warning("everything is being undone: please wait")
                else:
                    cancelled.set()
        if interrupt:
            raise interrupt
        status = task.result()
        if listener.failures:
            raise FaultlineError(listener.failures[0])
        if status != "successful":
            raise FaultlineError(f"ansible-playbook ended as {status}, without a word.")
        return listener.results

    def _play(self, listener: Listener, cancelled: threading.Event, what: dict[str, Any]) -> str:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        own = {"all": {"hosts": {"localhost": local}}}
        environment = {
            "ANSIBLE_CONFIG": str(TREE / "ansible.cfg"),
            # The programs of this Python's environment, ansible-playbook among them.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        }
        if self.kubeconfig:
            environment["KUBECONFIG"] = self.kubeconfig
        environment[_driver.VARIABLE] = _driver.mark(_driver.describe(os.getpid()))
        environment[MARK] = uuid.uuid4().hex
        with tempfile.TemporaryDirectory(prefix="faultline-") as folder:
            runner = ansible_runner.run(
                private_data_dir=folder,
                inventory=self.inventory or own,
                envvars=environment,
                event_handler=listener,
                cancel_callback=cancelled.is_set,
                quiet=True,
                suppress_env_files=True,
                **what,
            )
        if cancelled.is_set():
            _driver.end_marked(f"{MARK}={environment[MARK]}")
        return str(runner.status)
