# SPDX-License-Identifier: Apache-2.0
"""The node agent as a process: one at a time on a node."""

from __future__ import annotations

import threading
from pathlib import Path

from faultline_service.agent import alone


def test_an_agent_waits_until_the_one_before_it_has_ended(tmp_path: Path) -> None:
    file, begun = tmp_path / "state/agent.lock", threading.Event()
    first = alone(file, threading.Event())
    assert first is not None

    def second() -> None:
        assert alone(file, threading.Event()) is not None
        begun.set()

    threading.Thread(target=second, daemon=True).start()
    assert not begun.wait(0.2)
    first.close()
    assert begun.wait(30)


def test_an_agent_that_is_stopped_while_it_waits_does_not_begin(tmp_path: Path) -> None:
    stop = threading.Event()
    first = alone(tmp_path / "agent.lock", stop)
    assert first is not None
    stop.set()
    assert alone(tmp_path / "agent.lock", stop) is None
