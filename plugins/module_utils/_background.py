# SPDX-License-Identifier: Apache-2.0
"""Processes that outlive the task that starts them, and can be stopped by any later process.

A process is known by a pid file that holds its id **and** its start time, so that an id which the
kernel has given to somebody else since is never signalled.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

# File by which a detached process says once that it is ready.
READY = 3


def start_ticks(pid: int) -> int | None:
    """Start time of `pid` in clock ticks since boot (proc(5), field 22), or None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def running(pid_file: Path) -> int | None:
    """Process id named in `pid_file` while that very process lives, else None."""
    try:
        known = json.loads(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return known["pid"] if start_ticks(known["pid"]) == known["start_ticks"] else None


def start(
    pid_file: Path,
    log_file: Path,
    body: Callable[[], None],
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Run `body()` in a detached process and return its id once its pid file is written.

    `prepare()` is done in that process before it counts as started: what others need to find it.
    Returns 0 of a process that is over already; its log says why.

    The child is a session leader of its own with stdin, stdout and stderr on `log_file`; it keeps
    no other open file of the caller, so Ansible does not wait for it.
    """
    ready_r, ready_w = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            code = 1
            try:
                _become(pid_file, log_file, ready_w)
                prepare()
                os.write(READY, b"1")
                os.close(READY)
                body()
                code = 0
            except SystemExit:
                code = 0
            except BaseException as exc:  # the log is the only place left to say it
                print(f"stopped by {type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            finally:
                with contextlib.suppress(OSError):
                    pid_file.unlink()
                # The Kubernetes client removes its copies of keys when a process ends.
                atexit._run_exitfuncs()
                os._exit(code)
        os._exit(0)
    os.close(ready_w)
    # This one alone: the end of another child is for whoever has started it.
    os.waitpid(between, 0)
    os.read(ready_r, 1)
    os.close(ready_r)
    pid = running(pid_file)
    return pid if pid is not None else 0


def _become(pid_file: Path, log_file: Path, ready: int) -> None:
    """Cut every tie to the caller but `ready`, which becomes READY, and write the pid file."""
    for name in (signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(name, signal.SIG_DFL)
    # An orderly end: what the body opened is closed, temporary files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    pid_file.write_text(json.dumps({"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}))
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(ready, READY)
    os.closerange(READY + 1, 4096)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)


def stop(pid_file: Path, timeout: float = 15.0) -> bool:
    """End the process of `pid_file`: SIGTERM, then SIGKILL after `timeout` seconds.

    Returns whether there was one to end. Waits on the process itself (pidfd), not on a clock.
    """
    pid = running(pid_file)
    if pid is None:
        with contextlib.suppress(FileNotFoundError):
            pid_file.unlink()
        return False
    # It may end by itself, as a load does, at any moment from here on.
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            for name, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
                signal.pidfd_send_signal(handle, name)
                if select.select([handle], [], [], patience)[0]:
                    break
        finally:
            os.close(handle)
    with contextlib.suppress(FileNotFoundError):
        pid_file.unlink()
    return True
