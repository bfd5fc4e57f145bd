# SPDX-License-Identifier: Apache-2.0
"""A clock for waits on the cluster in memory: it runs only while nothing is left to be read.

So a wait of a tenth of a second sees all that is there, however slow the machine is, and takes no
longer than that on a fast one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.faultline.gpu.plugins.module_utils import _watch
from fake_api import HANGS, Api

# Seconds between two looks at whether followers are still at it.
MOMENT = 0.01


class Unhurried:
    """Stands in for the clock of `_watch` and for how it listens to its followers."""

    def __init__(self, api: Api) -> None:
        self.api, self.now, self.listen = api, 0.0, _watch.heard
        self.time = time.time
        # What happens to the cluster once all of it has been read, one after the other.
        self.then: list[Callable[[], None]] = []

    def monotonic(self) -> float:
        """Seconds in which nothing was left to be read."""
        return self.now

    def heard(self, news: queue.Queue[Any], seconds: float) -> tuple[str, str, Any]:
        """What comes next; the time begins when every follower has handed on all there is."""
        hangs = time.monotonic() + HANGS
        while (found := self.listen(news, MOMENT))[1] == "QUIET" and time.monotonic() < hangs:
            if self._over(news):
                if not self.then:
                    break
                self.then.pop(0)()
        if found[1] == "QUIET":
            found = self.listen(news, seconds)
            self.now += seconds if found[1] == "QUIET" else 0.0
        return found

    def _over(self, news: queue.Queue[Any]) -> bool:
        threads = threading.enumerate()
        followers = [t for t in threads if isinstance(t, _watch.Follower) and t.news is news]
        return all(map(self.api.has_no_news_for, followers))
