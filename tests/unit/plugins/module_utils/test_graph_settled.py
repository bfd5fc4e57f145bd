# SPDX-License-Identifier: Apache-2.0
"""`graph_settled` against what the real Dynamo operator was recorded doing."""

from __future__ import annotations

import re

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._graph_predicates import graph_settled
from graph_recordings import (
    ALPHA,
    CHANGES,
    CREATED,
    DISAGG,
    EVICTED,
    FULL,
    KILLED,
    NO_ROOM,
    RECREATE,
    SHIM,
    STOPPED,
    TO_ZERO,
    Recording,
    spells,
)

END = float("inf")
# When each graph was settled in truth: from the last of "successful at its generation", "last new
# worker Ready" and "last old pod gone" to the first sign that it is not any more. Read from the
# rows by hand. A container that has died shows 0.5 to 0.9 s late and a hung one 27 s late; no
# object says so earlier, so those seconds are in no spell's disfavour.
SETTLED = [
    (CREATED, [(13.432, END)]),
    (SHIM, [(25.247, 37.441), (65.381, END)]),
    (
        CHANGES,
        [
            (16.884, 20.763),
            (35.529, 41.449),
            (52.648, 52.685),
            (55.625, 58.036),
            (96.273, 100.601),
            (100.634, END),
        ],
    ),
    (KILLED, [(3.902, END)]),
    (STOPPED, [(72.995, 120.248)]),
    (EVICTED, [(-3.958, 0.383), (11.154, END)]),
    (NO_ROOM, [(31.519, END)]),
    (ALPHA, [(13.723, END)]),
    (TO_ZERO, []),
    (DISAGG, [(13.924, 16.468), (31.0, 34.787), (37.994, 48.833)]),
    (FULL, [(14.086, 14.198)]),
    (RECREATE, [(13.013, 13.175), (29.15, 38.292)]),
]


@pytest.mark.parametrize(("recording", "truth"), SETTLED, ids=[r.name for r, _ in SETTLED])
def test_a_graph_is_settled_when_it_was_so_in_truth_and_never_else(
    recording: Recording, truth: list[tuple[float, float]]
) -> None:
    said = spells(recording.moments(), graph_settled)
    wrong = [s for s in said if not any(a <= s[0] and s[1] <= b for a, b in truth)]
    assert wrong == [], "settled was said of a graph that was not"
    missed = [t for t in truth if not any(t[0] <= s[0] and s[1] == t[1] for s in said)]
    assert missed == [], "settled was not said of a graph that was"


@pytest.mark.parametrize(
    ("recording", "seconds", "seen"),
    [
        pytest.param(SHIM, 0.093, "generation 1 of 2", id="Ready at the old generation"),
        pytest.param(CHANGES, 100.601, "generation 8 of 9", id="Ready at the old generation again"),
        pytest.param(SHIM, 11.565, "rolling_update_in_progress", id="in the middle of a rollout"),
        pytest.param(SHIM, 23.833, "still ending: .*857m4", id="successful, last old pod ends"),
        pytest.param(DISAGG, 29.946, "still ending: .*decode.*prefill", id="two kinds still end"),
        pytest.param(CHANGES, 94.503, "3 of 2 workers", id="successful, old pod not ending yet"),
        pytest.param(STOPPED, 72.979, "1 of 2 workers", id="successful, worker not Ready yet"),
        pytest.param(EVICTED, 0.383, "still ending: .*gkjf2", id="evicted, still successful"),
        pytest.param(TO_ZERO, 1.516, "0 of 0 workers", id="successful with zero pods"),
        pytest.param(FULL, 14.761, "cannot be scheduled: .*Insufficient", id="no spare GPU"),
        pytest.param(FULL, 78.332, "generation 2 of 3", id="being deleted, still successful"),
        pytest.param(NO_ROOM, 0.939, "cannot be scheduled: .*unschedulable", id="nowhere to go"),
        pytest.param(RECREATE, 16.903, "rolling_update_in_progress", id="all old gone, none new"),
        pytest.param(CREATED, 0.171, "without status", id="just made"),
    ],
)
def test_a_stale_moment_is_seen_through_and_named(
    recording: Recording, seconds: float, seen: str
) -> None:
    _seconds, graph, pods = recording.at(seconds)
    settled, said = graph_settled(graph, pods)
    assert not settled
    assert re.search(seen, said), said


def test_a_graph_that_is_not_there_is_not_settled() -> None:
    assert graph_settled(None, []) == (False, "the DynamoGraphDeployment is not there")
