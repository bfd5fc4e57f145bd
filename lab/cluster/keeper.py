# SPDX-License-Identifier: Apache-2.0
"""Keeps named processes running: for the supervisor of a cluster and for process 1 of a node."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any


class Keeper:
    """Starts again whichever process ends, and collects what nobody else waits for.

    `commands` has a command line by name, `logs` is the folder of their logs, `least_seconds` the
    shortest time from one start of a process to its next, `options` go to subprocess.Popen.
    """

    def __init__(
        self, commands: dict[str, list[str]], logs: Path, least_seconds: float, **options: Any
    ) -> None:
        self.commands = commands
        self.logs = logs
        self.least_seconds = least_seconds
        self.options = options
        # The objects are kept: subprocess waits for children whose object is gone whenever it
        # starts another, and an end that it has seen is one that this class never hears of.
        self.running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self.began: dict[str, float] = {}
        self.ending = False

    def start(self, name: str) -> int:
        """Start one process; returns its id."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                self.commands[name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self.options,
            )
        self.running[child.pid] = name, child
        self.began[name] = time.monotonic()
        if self.ending:
            # Stopped after the look at it and before the process was on the list. Not by the
            # object, which would collect one that has ended: keep() would wait for it for ever.
            os.kill(child.pid, signal.SIGKILL)
        return child.pid

    def keep(self) -> None:
        """Look after what was started until all of it was stopped. For the main thread."""
        # A signal that comes just before a wait for children is not heard of in it: Python looks
        # for signals when the wait is over. In this pipe each one leaves a byte.
        news, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        child_ended = signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        try:
            self._keep(news)
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, child_ended)
            os.close(news)
            os.close(told)

    def _keep(self, news: int) -> None:
        while self.running:
            # Not collected before it is off the list: what is on the list can always be killed.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if ended is None:
                select.select([news], [], [])
                os.read(news, 4096)
                continue
            if ended.si_pid not in self.running:
                os.waitpid(ended.si_pid, 0)
                continue
            name, child = self.running.pop(ended.si_pid)
            child.wait()
            if not self.ending:
                print(f"{name} ended with {child.returncode}, starting it again", flush=True)
                time.sleep(max(0.0, self.least_seconds - (time.monotonic() - self.began[name])))
            # It may have been stopped meanwhile.
            if not self.ending:
                self.start(name)

    def stop(self) -> None:
        """Kill what runs and start nothing any more."""
        self.ending = True
        for pid in self.running:
            os.kill(pid, signal.SIGKILL)
