# SPDX-License-Identifier: Apache-2.0
"""The one way to wait: LIST, then WATCH, one deadline for the whole set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._client import (
    FAULT,
    HOST,
    NODE,
    Kind,
)
from ansible_collections.faultline.gpu.plugins.module_utils._errors import (
    FaultlineError,
    WaitFailed,
    WaitTimeout,
)
from ansible_collections.faultline.gpu.plugins.module_utils._watch import (
    Snapshot,
    followable,
    wait,
)
from fake_api import Api, refusal
from unhurried import Unhurried

Object = dict[str, Any]
PODS = {"pods": Kind("v1", "Pod", "drill")}
LONG = 20.0


def pod(name: str, phase: str = "Pending", namespace: str = "drill") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "status": {"phase": phase},
    }


def phases(now: Snapshot) -> dict[str, str]:
    return {name: o["status"]["phase"] for (_space, name), o in now["pods"].items()}


class Steps:
    """A condition that does one step each time it is asked, and holds after the last."""

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self.steps = list(steps)
        self.seen: list[dict[str, str]] = []

    def __call__(self, now: Snapshot) -> tuple[bool, str]:
        self.seen.append(phases(now))
        if not self.steps:
            return True, "done"
        self.steps.pop(0)()
        return False, f"{len(self.steps)} steps to go"


def test_what_is_listed_is_followed_from_the_lists_version_on(api: Api) -> None:
    api.put(pod("a"))
    version = api.revision
    steps = Steps(lambda: api.put(pod("b")), lambda: api.put(pod("a", "Running")))
    now, seconds = wait(api.cluster(), PODS, steps, LONG)
    assert phases(now) == {"a": "Running", "b": "Pending"}
    assert steps.seen == [
        {"a": "Pending"},
        {"a": "Pending", "b": "Pending"},
        {"a": "Running", "b": "Pending"},
    ]
    assert api.lists == ["Pod"]
    assert api.watches == [("Pod", version)]
    assert 0 <= seconds < LONG / 4


def test_a_condition_that_holds_at_once_needs_no_event(api: Api) -> None:
    api.put(pod("a"))
    assert phases(wait(api.cluster(), PODS, Steps(), LONG)[0]) == {"a": "Pending"}


def test_nothing_is_asked_before_every_kind_has_been_listed(api: Api) -> None:
    api.put(pod("a"))
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    api.gates["Node"] = threading.Event()
    asked: list[set[str]] = []

    def condition(now: Snapshot) -> tuple[bool, str]:
        asked.append({key for key, objects in now.items() if objects})
        return True, ""

    def record(_at: float, _op: str, obj: Object) -> None:
        # The pods are there: only now may the nodes be listed.
        if obj["kind"] == "Pod":
            api.gates["Node"].set()

    wait(api.cluster(), PODS | {"nodes": Kind("v1", "Node")}, condition, LONG, record)
    assert asked == [{"pods", "nodes"}]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(refusal(410, "too old resource version: 101 (180)"), id="version too old"),
        pytest.param(ConnectionResetError("reset by peer"), id="disconnected"),
        pytest.param(None, id="ended by the server"),
    ],
)
def test_after_a_lost_watch_all_is_listed_again_and_what_is_gone_counts_as_deleted(
    api: Api, error: Exception | None
) -> None:
    for name in ("same", "changed", "gone"):
        api.put(pod(name))
    told: list[tuple[str, str]] = []

    def lose() -> None:
        api.until(lambda: bool(api.watches))
        api.remove(api.one("Pod", "gone", "drill"), told=False)
        api.history.clear()
        api.put(pod("changed", "Running"))
        api.put(pod("new"))
        api.history.clear()
        api.cut(error)

    def condition(now: Snapshot) -> tuple[bool, str]:
        if "new" not in phases(now):
            if api.objects.get(("Pod", "drill", "new")) is None:
                lose()
        elif phases(now)["new"] == "Pending":
            api.put(pod("new", "Running"))
        return phases(now).get("new") == "Running", ""

    def record(_at: float, op: str, obj: Object) -> None:
        told.append((op, obj["metadata"]["name"]))

    now, _seconds = wait(api.cluster(), PODS, condition, LONG, record)
    assert phases(now) == {"same": "Pending", "changed": "Running", "new": "Running"}
    assert sorted(told[:3]) == [("LISTED", "changed"), ("LISTED", "gone"), ("LISTED", "same")]
    assert sorted(told[3:6]) == [("DELETED", "gone"), ("LISTED", "changed"), ("LISTED", "new")]
    assert told[6:] == [("MODIFIED", "new")]
    assert api.lists == ["Pod", "Pod"]
    assert len(api.watches) == 2


def test_an_api_server_that_is_away_is_asked_again_and_named_once(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.put(pod("a"))
    api.errors["Pod"] = iter([ConnectionRefusedError("refused")] * 2)
    wait(api.cluster(), PODS, Steps(), LONG)
    assert api.lists == ["Pod"] * 3
    assert capsys.readouterr().err == "following Pod in drill again: refused\n"


def test_an_unknown_kind_is_an_error_at_once(api: Api) -> None:
    api.unknown.add("GPUHost")
    begun = time.monotonic()
    kinds = PODS | {"hosts": Kind("faultline.dev/v1alpha1", "GPUHost")}
    with pytest.raises(FaultlineError, match=r"^The cluster knows no GPUHost \(faultline.dev/"):
        wait(api.cluster(), kinds, lambda _now: (False, ""), LONG)
    assert time.monotonic() - begun < LONG / 4


def test_one_deadline_holds_for_all_kinds_however_much_happens(api: Api) -> None:
    api.put(pod("a"))
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})

    def busy(now: Snapshot) -> tuple[bool, str]:
        api.put(pod("a", phase=str(time.monotonic())))
        return False, "busy"

    begun = time.monotonic()
    with pytest.raises(WaitTimeout):
        wait(api.cluster(), PODS | {"nodes": Kind("v1", "Node")}, busy, 0.15)
    assert 0.15 <= time.monotonic() - begun < LONG / 4


def test_a_condition_that_cannot_hold_any_more_ends_the_wait_at_once(api: Api) -> None:
    def hopeless(_now: Snapshot) -> tuple[bool, str]:
        raise WaitFailed("It never will.")

    begun = time.monotonic()
    with pytest.raises(WaitFailed, match="It never will"):
        wait(api.cluster(), PODS, hopeless, LONG)
    assert time.monotonic() - begun < LONG / 4


def event(number: int, kind: str = "Warning", namespace: str = "drill") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"e{9 - number}", "namespace": namespace, "creationTimestamp": "2026"},
        "lastTimestamp": f"2026-11-24T08:00:{number:02d}Z",
        "type": kind,
        "reason": f"Reason{number}",
        "message": "0/3 nodes are available" + "!" * 300,
        "involvedObject": {"kind": "Pod", "name": "a"},
    }


def test_a_timeout_names_last_state_newest_warnings_and_seconds(
    api: Api, unhurried: Unhurried
) -> None:
    for number in (3, 1, 2, 7, 5, 6):
        api.put(event(number))
    api.put(event(8, "Normal"))
    api.put(event(9, namespace="other"))
    with pytest.raises(WaitTimeout) as error:
        wait(api.cluster(), PODS, lambda _now: (False, "0 of 2 workers Ready"), 0.1)
    text = str(error.value)
    assert text.startswith("Not seen within 0 s. Last seen: 0 of 2 workers Ready. Newest events: ")
    named = [number for number in range(1, 10) if f"Pod/a Reason{number}: 0/3 nodes" in text]
    assert named == [2, 3, 5, 6, 7]
    assert text.index("Reason2") < text.index("Reason7")
    assert len(text) < 1200
    assert error.value.details["seen"] == "0 of 2 workers Ready"
    assert 0.1 <= error.value.details["seconds"] < 1
    assert len(error.value.details["events"]) == 5


def test_a_timeout_before_anything_was_read_says_why_it_was_not(
    api: Api, unhurried: Unhurried
) -> None:
    api.errors["Pod"] = repeat(refusal(403, "pods is forbidden: User cannot list"))
    with pytest.raises(WaitTimeout, match=r"Pod in drill cannot be read: .*forbidden") as error:
        wait(api.cluster(), PODS, Steps(), 0.1)
    assert "nothing listed yet" in str(error.value)


def test_a_trouble_that_is_over_is_no_longer_named(api: Api, unhurried: Unhurried) -> None:
    api.put(pod("a"))
    api.errors["Pod"] = iter([ConnectionRefusedError("refused")])
    with pytest.raises(WaitTimeout) as error:
        wait(api.cluster(), PODS, lambda now: (False, f"saw {phases(now)}"), 0.1)
    assert str(error.value) == "Not seen within 0 s. Last seen: saw {'a': 'Pending'}."


def test_what_came_in_just_before_a_trouble_is_looked_at_while_the_trouble_lasts(api: Api) -> None:
    api.put(pod("a"))

    def change_and_go_away() -> None:
        api.until(lambda: bool(api.watches))
        api.errors["Pod"] = repeat(ConnectionRefusedError("refused"))
        api.put(pod("a", "Running"))
        # The event is read before the watch is cut, and listing has failed before this is over.
        api.until(lambda: api.read >= api.revision)
        api.cut(ConnectionResetError("reset"))
        api.until(lambda: len(api.lists) > 1)

    steps = Steps(change_and_go_away)
    assert phases(wait(api.cluster(), PODS, steps, LONG)[0]) == {"a": "Running"}


def test_the_recorder_is_told_every_change_once_in_order_and_when_it_came_in(api: Api) -> None:
    api.put(pod("a"))
    begun = time.time()
    told: list[tuple[float, str, str, str]] = []

    def record(at: float, op: str, obj: Object) -> None:
        told.append((at, op, obj["metadata"]["name"], obj["status"]["phase"]))

    def change() -> None:
        api.put(pod("b"))
        api.put(pod("b", "Running"))
        api.remove(api.one("Pod", "b", "drill"))
        api.put(pod("a", "Succeeded"))

    def condition(now: Snapshot) -> tuple[bool, str]:
        if not told[1:]:
            change()
        return phases(now) == {"a": "Succeeded"}, ""

    wait(api.cluster(), PODS, condition, LONG, record)
    assert [entry[1:] for entry in told] == [
        ("LISTED", "a", "Pending"),
        ("ADDED", "b", "Pending"),
        ("MODIFIED", "b", "Running"),
        ("DELETED", "b", "Running"),
        ("MODIFIED", "a", "Succeeded"),
    ]
    times = [entry[0] for entry in told]
    assert times == sorted(times)
    assert begun <= times[0]
    assert times[-1] <= time.time()


def test_listed_objects_say_their_kind_as_watched_ones_do(api: Api) -> None:
    api.put(pod("a"))
    now, _seconds = wait(api.cluster(), PODS, Steps(), LONG)
    assert now["pods"][("drill", "a")]["kind"] == "Pod"
    assert now["pods"][("drill", "a")]["apiVersion"] == "v1"


def test_objects_of_one_name_in_two_namespaces_are_two(api: Api) -> None:
    api.put(pod("a"))
    api.put(pod("a", "Running", namespace="other"))
    now, _seconds = wait(api.cluster(), {"pods": Kind("v1", "Pod")}, lambda _now: (True, ""), LONG)
    assert sorted(now["pods"]) == [("drill", "a"), ("other", "a")]


@pytest.mark.parametrize(
    "kind",
    [
        Kind("v1", "Pod", "drill", name="a"),
        Kind("v1", "Pod", "drill", label_selector="x=1"),
        Kind("v1", "Pod", "drill", field_selector="status.host=n1"),
    ],
    ids=str,
)
def test_only_what_is_selected_is_followed(api: Api, kind: Kind) -> None:
    ours = pod("a")
    ours["metadata"]["labels"] = {"x": "1"}
    ours["status"]["host"] = "n1"
    for obj in (ours, pod("b"), pod("a", namespace="other")):
        api.put(obj)
    told: set[tuple[str, str]] = set()

    def condition(now: Snapshot) -> tuple[bool, str]:
        if phases(now) == {"a": "Pending"}:
            api.put(pod("c"))
            api.put(ours | {"status": {"phase": "Running", "host": "n1"}})
        return phases(now) == {"a": "Running"}, ""

    def record(_at: float, _op: str, obj: Object) -> None:
        told.add((obj["metadata"]["namespace"], obj["metadata"]["name"]))

    wait(api.cluster(), {"pods": kind}, condition, LONG, record)
    assert told == {("drill", "a")}


def test_a_condition_that_depends_on_time_is_asked_again_although_nothing_happens(api: Api) -> None:
    api.put(pod("a"))
    steps = Steps(lambda: None, lambda: None)
    _now, seconds = wait(api.cluster(), PODS, steps, LONG, again=lambda: 0.05)
    assert len(steps.seen) == 3
    assert 0.1 <= seconds < LONG / 4


def test_a_condition_that_is_asked_again_waits_for_the_lists_and_for_the_deadline(api: Api) -> None:
    api.gates["Pod"] = threading.Event()
    steps = Steps(*[lambda: None] * 99)
    with pytest.raises(WaitTimeout, match="nothing listed yet"):
        wait(api.cluster(), PODS, steps, 0.2, again=lambda: 0.05)
    assert steps.seen == []


def test_a_wait_goes_on_where_the_api_server_does_not_say_yet_what_it_offers(
    api: Api, unhurried: Unhurried, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put(pod("a"))
    cluster = api.cluster()
    asked, troubles = cluster.resource, [FaultlineError("The API server does not answer.")]

    def resource(kind: Kind) -> Any:
        if troubles:
            raise troubles.pop()
        return asked(kind)

    monkeypatch.setattr(cluster, "resource", resource)
    now, _ = wait(cluster, PODS, lambda now: (bool(now["pods"]), "no pod"), LONG)
    assert phases(now) == {"a": "Pending"}
    assert troubles == []


def test_what_a_cluster_in_trouble_may_know_is_followed_and_what_it_does_not_know_is_not(
    api: Api,
) -> None:
    api.refuses_looks["GPUFault"] = 500
    api.unknown.add("GPUHost")
    wanted = {"nodes": NODE, "faults": FAULT, "hosts": HOST}
    assert list(followable(api.cluster(), wanted)) == ["nodes", "faults"]
