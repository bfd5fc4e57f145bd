# SPDX-License-Identifier: Apache-2.0
"""One controller: a queue of keys without doubles, and one thread that handles them in turn."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable

from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError
from urllib3.exceptions import HTTPError

from lab.operator.kube import brief

LOG = logging.getLogger("dynamo-operator")
Key = tuple[str, str]


class Controller:
    """Runs ``reconcile(namespace, name)``; a failure is tried again later, a conflict at once."""

    def __init__(self, name: str, reconcile: Callable[[str, str], None]) -> None:
        self._name = name
        self._reconcile = reconcile
        self._due: list[tuple[float, Key]] = []
        self._queued: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work on the queue."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the key at hand and end the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def join(self, seconds: float) -> None:
        """Wait until a stopped controller has finished its key, ``seconds`` at most."""
        if self._thread.ident:
            self._thread.join(seconds)

    def add(self, namespace: str, name: str, delay: float = 0.0) -> None:
        """Queue a key, due in ``delay`` seconds. If it is queued already, the earlier time
        counts."""
        key, moment = (namespace, name), time.monotonic() + delay
        with self._wake:
            if self._queued.get(key, float("inf")) <= moment:
                return
            self._queued[key] = moment
            heapq.heappush(self._due, (moment, key))
            self._wake.notify()

    def _take(self) -> Key | None:
        with self._wake:
            while not self._stopped:
                now = time.monotonic()
                while self._due and self._queued.get(self._due[0][1]) != self._due[0][0]:
                    heapq.heappop(self._due)
                if self._due and self._due[0][0] <= now:
                    _, key = heapq.heappop(self._due)
                    del self._queued[key]
                    return key
                self._wake.wait(self._due[0][0] - now if self._due else None)
        return None

    def _run(self) -> None:
        while (key := self._take()) is not None:
            try:
                self._reconcile(*key)
                self._failures.pop(key, None)
            except ConflictError:
                # Somebody wrote between our read and our write: the watch brings the newer object.
                self.add(*key, delay=0.05)
            except (DynamicApiError, HTTPError, OSError) as error:
                self._failed(key, error)
            except Exception as error:
                # A bug on one object must not end the controller for all others.
                LOG.exception("%s %s/%s", self._name, *key)
                self._failed(key, error)

    def _failed(self, key: Key, error: Exception) -> None:
        tries = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(0.2 * 2**tries, 15.0)
        LOG.warning("%s %s/%s: %s; again in %.1f s", self._name, *key, brief(error), delay)
        self.add(*key, delay=delay)
