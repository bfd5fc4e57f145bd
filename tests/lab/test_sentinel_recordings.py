# SPDX-License-Identifier: Apache-2.0
"""The stand-in of NVSentinel does what recordings of the real one show."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from sentinel_replay import Blocks, Replay
from sentinel_stage import Stage, control_plane

pytestmark = pytest.mark.lab

# One after the other they take a minute, on nodes of their own at the same time a few seconds.
TOGETHER = (
    "s1",
    "s1c",
    "s2",
    "s2b",
    "s3c",
    "s3d",
    "s4",
    "s5",
    "s5b",
    "s5c",
    "s6a",
    "s6b",
    "s7",
)
# Counts the cordons of all nodes, so it needs the cluster for itself.
ALONE = "s8"
Played = tuple[Blocks, Blocks, str]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch, control_plane():
        patch.setenv("SENTINEL_PROFILE", "fast")
        made = Stage()
        yield made
        made.end()


@pytest.fixture(scope="module")
def played(stage: Stage) -> Iterator[dict[str, Future[Played]]]:
    with ThreadPoolExecutor(len(TOGETHER)) as pool:
        yield {name: pool.submit(Replay(stage, name).run) for name in TOGETHER}


def difference(wanted: Blocks, came: Blocks) -> str:
    """Readable differences of all chains, empty when there is none."""
    parts: list[str] = []
    for node, chain in sorted(wanted.keys() | came.keys()):
        old, new = wanted.get((node, chain), []), came.get((node, chain), [])
        before, after = (
            [line for text, _ in blocks for line in text.split("\n")] for blocks in (old, new)
        )
        names = (f"recorded: {node} {chain}", f"came: {node} {chain}")
        parts += difflib.unified_diff(before, after, *names, lineterm="")
        for (text, recorded_who), (same, who) in zip(old, new, strict=False):
            # Two updates of one manager within a second show no writer.
            if text == same and recorded_who and who and recorded_who != who:
                parts.append(f"{text}\nwritten by {sorted(who)}, recorded {sorted(recorded_who)}")
    return "\n".join(parts)


def check(result: Played) -> None:
    """Fail with what is different between what was recorded and what came."""
    wanted, came, stuck = result
    found = difference(wanted, came)
    if found or stuck:
        pytest.fail(f"{stuck}\n{found}", pytrace=False)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_recorded_scenario_comes_about_as_recorded(
    played: dict[str, Future[Played]], name: str
) -> None:
    check(played[name].result())


def test_an_open_circuit_breaker_does_what_was_recorded(
    stage: Stage, played: dict[str, Future[Played]]
) -> None:
    wait(played.values())
    check(Replay(stage, ALONE).run())


def test_every_component_says_where_it_goes_on(stage: Stage) -> None:
    found = stage.admin.get("v1", "ConfigMap", "resume-control", "nvsentinel")
    names = ("fault-quarantine", "fault-remediation", "node-drainer")
    assert found
    assert json.dumps(found["data"], sort_keys=True) == json.dumps(dict.fromkeys(names, "RESUME"))
