# SPDX-License-Identifier: Apache-2.0
"""A worker that crashes or hangs loses one item, not the series."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from faultline_gpu.watch import Series

WORKER = """
import json, os, signal, sys, time
items = json.loads(sys.argv[1])
def say(**line):
    os.write(1, json.dumps(line).encode() + b"\\n")
if "dead" in items:
    sys.exit(4)
os.write(1, b"noise of a library\\n")
say(ready={"cuStreamSynchronize": 719})
for item in items:
    say(begin=item)
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "hang":
        time.sleep(600)
    if item == "leave":
        os._exit(7)
    say(result=item, outcome="returned", code=0)
say(end=True)
"""


def start(items: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, json.dumps(list(items))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def run(*items: str, seconds: float = 120, item_s: float = 60) -> Series:
    series = Series(start)
    series.run(items, time.monotonic() + seconds, item_s)
    return series


def test_every_item_has_a_result_when_nothing_goes_wrong() -> None:
    series = run("a", "b")
    assert series.results == {item: {"outcome": "returned", "code": 0} for item in ("a", "b")}
    assert series.ready == {"cuStreamSynchronize": 719}
    assert series.starts == 1


def test_a_crash_is_noted_with_its_signal_and_the_rest_is_still_done() -> None:
    series = run("a", "crash", "b")
    assert series.results["crash"] == {"outcome": "crash", "signal": 11}
    assert series.results["b"]["outcome"] == "returned"
    assert series.starts == 2


def test_a_worker_that_leaves_in_the_middle_counts_as_crashed() -> None:
    assert run("leave", "b").results["leave"] == {"outcome": "crash", "signal": 0}


def test_a_hang_is_ended_after_its_time_and_the_rest_is_still_done() -> None:
    begun = time.monotonic()
    series = run("a", "hang", "b", item_s=1.5)
    assert series.results["hang"]["outcome"] == "hang"
    assert series.results["b"]["outcome"] == "returned"
    assert time.monotonic() - begun < 60


def test_a_worker_that_never_begins_is_not_started_for_ever() -> None:
    series = run("dead", "a")
    assert series.results == {}
    assert series.starts == 2
    assert series.error == "the worker ended with 4 before its first item"


def test_nothing_is_said_of_an_item_that_the_time_was_over_for() -> None:
    series = run("a", "hang", seconds=1)
    assert "hang" not in series.results
