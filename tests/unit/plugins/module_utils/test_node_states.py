# SPDX-License-Identifier: Apache-2.0
"""What NVSentinel does with a node, against what the real one was recorded doing."""

from __future__ import annotations

import pytest
import sentinel_recordings as recorded
from ansible_collections.faultline.gpu.plugins.module_utils import _node_predicates as predicates
from ansible_collections.faultline.gpu.plugins.module_utils._errors import WaitFailed
from graph_recordings import spells

END = float("inf")


@pytest.mark.parametrize(
    ("story", "run", "truth"),
    [
        pytest.param(recorded.S1, "gold-1", [[7.704, 94.809]], id="s1"),
        pytest.param(recorded.S1B_SIGTERM_IGNORED, "gold-1b", [[2.037, 132.08]], id="s1b"),
        pytest.param(
            recorded.S3D_CORDON_BEFORE_CONDITION,
            "gold-3d",
            [[7.449, 52.49]],
            id="s3d: cordon first",
        ),
        pytest.param(recorded.S5_UNCORDONED_BY_HAND, "gold-5", [[7.758, 10.222]], id="s5"),
        pytest.param(recorded.S6A_MORE_FAULTS, "gold-6a1", [[11.026, 77.929]], id="s6a: first"),
        pytest.param(recorded.S6A_MORE_FAULTS, "gold-6a2", [[41.0, 77.929]], id="s6a: second"),
        pytest.param(recorded.S6A_MORE_FAULTS, "gold-6a3", [[55.998, 77.929]], id="s6a: third"),
        pytest.param(
            recorded.S7_CORDONED_BY_A_HUMAN, "gold-7", [[6.733, 40.174]], id="s7: human cordon"
        ),
        pytest.param(recorded.S1, "gold-2", [], id="another run"),
        pytest.param(recorded.S1B_SIGTERM_IGNORED, "gold-1", [], id="a run whose id begins alike"),
        pytest.param(recorded.S6A_MORE_FAULTS, "gold-6a", [], id="three runs that begin alike"),
        pytest.param(recorded.S6A_MORE_FAULTS, "6a1", [], id="a run whose id ends alike"),
    ],
)
def test_a_node_is_quarantined_from_detection_and_cordon_for_this_run_on(
    story: recorded.Story, run: str, truth: list[list[float]]
) -> None:
    said = spells(recorded.moments(story), lambda n, _: predicates.node_quarantined(n, run))
    assert said == truth


@pytest.mark.parametrize(
    ("story", "since", "truth"),
    [
        # Still so after the release: who asks late must not wait for a label that is gone.
        pytest.param(recorded.S1, 7.704, [[17.793, END]], id="s1"),
        pytest.param(recorded.S1B_SIGTERM_IGNORED, 2.037, [[72.121, END]], id="s1b"),
        pytest.param(
            recorded.S3D_CORDON_BEFORE_CONDITION, 7.449, [[7.449, END]], id="s3d: no pods to drain"
        ),
        # Then a new pod comes to the released node.
        pytest.param(recorded.S6A_MORE_FAULTS, 11.026, [[21.117, 78.092]], id="s6a"),
        pytest.param(recorded.S7_CORDONED_BY_A_HUMAN, 6.733, [[16.778, END]], id="s7"),
    ],
)
def test_a_quarantined_node_is_drained_when_the_drainer_says_so_and_none_of_our_pods_is_there(
    story: recorded.Story, since: float, truth: list[list[float]]
) -> None:
    asked = (moment for moment in recorded.moments(story) if moment[0] >= since)
    assert spells(asked, predicates.node_drained) == truth


@pytest.mark.parametrize(
    ("story", "truth"),
    [
        pytest.param(recorded.S1, [[-1.118, 7.663], [94.874, END]], id="s1"),
        pytest.param(
            recorded.S1B_SIGTERM_IGNORED,
            [[-0.311, 2.004], [132.115, END]],
            id="s1b: un-cordon before the condition",
        ),
        pytest.param(
            recorded.S3D_CORDON_BEFORE_CONDITION, [[-0.425, 7.404], [52.732, END]], id="s3d"
        ),
        pytest.param(recorded.S5_UNCORDONED_BY_HAND, [[-0.481, 7.719]], id="s5: condition stays"),
        pytest.param(recorded.S6A_MORE_FAULTS, [[-0.429, 10.99], [78.033, END]], id="s6a"),
        pytest.param(
            recorded.S7_CORDONED_BY_A_HUMAN,
            [[-2.3, -2.129], [45.412, END]],
            id="s7: the human's cordon stays",
        ),
    ],
)
def test_a_node_is_released_when_nothing_of_the_fault_is_left_on_it(
    story: recorded.Story, truth: list[list[float]]
) -> None:
    said = spells(recorded.moments(story), lambda n, _: predicates.node_released(n))
    assert said == truth


@pytest.mark.parametrize("events", [None, 0])
def test_a_cordon_without_health_events_is_not_nvsentinels(events: int | None) -> None:
    node = recorded.node_of(
        {"xid": recorded.message(79, "gold-1"), "cordon": True, "events": events}
    )
    quarantined, said = predicates.node_quarantined(node, "gold-1")
    assert not quarantined
    assert "not by NVSentinel" in said


@pytest.mark.parametrize("text", ["", "[]", "{}", "[{", "null"])
def test_an_annotation_that_names_no_event_is_no_quarantine(text: str) -> None:
    node = recorded.node_of({})
    node["metadata"]["annotations"]["quarantineHealthEvent"] = text
    assert predicates.quarantined_events(node) == []


def test_a_drain_that_was_given_up_ends_the_wait() -> None:
    node = recorded.node_of({"state": "drain-failed", "cordon": True, "events": 1})
    with pytest.raises(WaitFailed, match="gave up draining gpu-node-2"):
        predicates.node_drained(node, [])


def test_a_node_that_was_uncordoned_by_hand_was_not_drained_although_its_pod_is_gone() -> None:
    asked = [m for m in recorded.moments(recorded.S5_UNCORDONED_BY_HAND) if m[0] >= 7.758]
    for _seconds, node, pods in asked[:3]:
        assert not predicates.node_drained(node, pods)[0]
    for _seconds, node, pods in asked[3:]:
        with pytest.raises(WaitFailed, match="gpu-node-2 was un-cordoned by hand"):
            predicates.node_drained(node, pods)


@pytest.mark.parametrize("state", ["quarantined", "draining"])
def test_an_empty_node_is_not_drained_before_the_drainer_says_so(state: str) -> None:
    node = recorded.node_of({"state": state, "cordon": True, "events": 1})
    assert not predicates.node_drained(node, [])[0]


@pytest.mark.parametrize(
    ("left", "seen"),
    [
        ({"cordon": True}, "cordoned"),
        ({"events": 1}, "in quarantine"),
        ({"state": "draining"}, "state draining"),
        ({"xid": recorded.message(79, "gold-1")}, "SysLogsXIDError True"),
    ],
)
def test_one_mark_alone_keeps_a_node_from_being_released(left: recorded.Object, seen: str) -> None:
    assert predicates.node_released(recorded.node_of(left)) == (False, f"gpu-node-2: {seen}")


def test_the_message_of_a_condition_that_is_false_again_counts_for_nothing() -> None:
    node = recorded.node_of({"xid": recorded.message(79, "gold-1"), "cordon": True, "events": 1})
    assert predicates.node_quarantined(node, "gold-1")[0]
    node["status"]["conditions"][1]["status"] = "False"
    assert not predicates.node_quarantined(node, "gold-1")[0]


def test_a_node_that_is_not_ready_is_not_released() -> None:
    node = recorded.node_of({})
    node["status"]["conditions"][0]["status"] = "Unknown"
    assert predicates.node_released(node) == (False, "gpu-node-2: not Ready")


def test_a_node_that_is_not_there_is_in_no_state() -> None:
    assert not predicates.node_quarantined(None, "gold-1")[0]
    assert not predicates.node_drained(None, [])[0]
    assert not predicates.node_released(None)[0]
