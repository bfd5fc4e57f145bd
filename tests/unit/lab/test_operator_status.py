# SPDX-License-Identifier: Apache-2.0
"""The order of what an observer sees, against the recorded experiments with the real operator.

The graph's state, reason, rollout phase and restart must be the recorded sequence exactly. Of the
counts, every recorded one must appear in the recorded order; between two of them ours may show
one more, because the real operator reads its cache a little later and so skips some.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from operator_recordings import dgd_of, rows
from operator_replay import (
    NOW,
    Replay,
    change_spec,
    component_counts,
    distinct,
    recorded_graph_rows,
    summary,
)

from lab.operator import names, status
from lab.operator.rollout import Plan

Object = dict[str, Any]
Change = Callable[[Object], None]


def keep(spec: Object) -> None:
    """No change to the base spec."""


def worker_env(name: str = "decode") -> Change:
    """One variable more in a worker's main container."""

    def change(spec: Object) -> None:
        worker = next(c for c in spec["components"] if c["name"] == name)
        worker["podTemplate"]["spec"]["containers"][0]["env"] = [{"name": "X", "value": "1"}]

    return change


def frontend_env(spec: Object) -> None:
    spec["components"][0]["podTemplate"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "value": "1"}
    ]


def replicas(count: int) -> Change:
    def change(spec: Object) -> None:
        spec["components"][1]["replicas"] = count

    return change


def restart(spec: Object) -> None:
    spec["restart"] = {"id": "r1"}


def recreate(spec: Object) -> None:
    decode = spec["components"][1]
    decode["podTemplate"]["metadata"] = {"annotations": {names.STRATEGY: "Recreate"}}


def recreate_and_env(spec: Object) -> None:
    recreate(spec)
    worker_env()(spec)


def fresh(dump: str, change: Change = keep) -> Object:
    """A graph as a user would create it."""
    dgd = dgd_of(dump)
    del dgd["status"]
    dgd["metadata"]["annotations"].pop(names.CURRENT_HASH)
    dgd["metadata"]["generation"] = 1
    change(dgd["spec"])
    return dgd


def settled(recording: list[Object], before: float, dump: str, worker_hash: str) -> Replay:
    """A replay that starts from a graph which is Ready, as its first recorded row shows it."""
    first = next(r for r in recorded_graph_rows(recording) if r["t"] < before)
    dgd = fresh(dump)
    generation = first["generation"] - 1
    dgd["metadata"]["generation"] = generation
    dgd["status"] = first["status"]
    dgd["metadata"]["annotations"][names.CURRENT_HASH] = worker_hash
    replay = Replay(dgd, dict.fromkeys(range(generation, generation + 12), worker_hash))
    replay.run(0.0)
    ready_conditions = [
        {"type": kind, "status": "True", "reason": "x", "message": "", "lastTransitionTime": NOW}
        for kind in ("Available", "DynamoComponentReady")
    ]
    for dcd in replay.dcds.values():
        part = first["status"]["components"][dcd["spec"]["name"]]
        seen = [
            r for r in recording if r.get("kind") == "dcd" and r["name"] == dcd["metadata"]["name"]
        ]
        if seen:
            dcd["metadata"]["generation"] = seen[0]["status"]["observedGeneration"]
        dcd["status"] = {
            "component": part,
            "conditions": ready_conditions,
            "observedGeneration": dcd["metadata"]["generation"],
        }
    replay.run(0.0)
    return replay


def assert_same(replay: Replay, recorded: list[Object], components: list[str]) -> None:
    """Compare all that was published since ``replay.statuses`` was last emptied."""
    ours = [dgd for _, dgd in replay.statuses]
    wanted = recorded_graph_rows(recorded)
    assert wanted, "the recording has no row for this step"
    assert distinct([summary(d) for d in ours]) == distinct([summary(r) for r in wanted])
    for component in components:
        shown = iter(distinct([component_counts(d, component) for d in ours]))
        for counts in distinct([component_counts(r, component) for r in wanted]):
            assert counts in shown, f"{component}: {counts} is missing or comes too late"


def play(replay: Replay, recording: list[Object], steps: Sequence[tuple[float, float, Change]],
         base: Object, components: list[str]) -> None:  # fmt: skip
    """Each step: rows from its first to its second time, after its change of the base spec."""
    for start, end, change in steps:
        part = [row for row in recording if start <= row["t"] < end]
        replay.statuses = [(start, copy.deepcopy(replay.dgd))]
        spec = copy.deepcopy(base)
        change(spec)
        change_spec(replay, spec, start)
        replay.feed(part)
        assert_same(replay, part, components)


def create(recording: list[Object], dgd: Object, hashes: dict[int, str], end: float) -> Replay:
    """A replay of a creation, compared up to ``end``."""
    replay = Replay(dgd, hashes)
    replay.run(0.0)
    part = [row for row in recording if row["t"] < end]
    replay.feed(part)
    assert_same(replay, part, [c["name"] for c in dgd["spec"]["components"]])
    return replay


def test_creation_shows_the_recorded_states_and_counts() -> None:
    recording = rows("exp-01-apply-v1beta1")
    replay = create(recording, fresh("objects-v1beta1-agg-ready"), {1: "b5804dbe"}, 99.0)
    assert replay.dgd["status"]["state"] == "successful"


def test_the_texts_of_the_ready_condition_are_the_recorded_ones() -> None:
    recording = rows("exp-01-apply-v1beta1")
    replay = create(recording, fresh("objects-v1beta1-agg-ready"), {1: "b5804dbe"}, 99.0)

    def texts(graphs: list[Object]) -> list[str]:
        return distinct([g["status"]["conditions"][0]["message"] for g in graphs])

    assert texts([d for _, d in replay.statuses]) == texts(recorded_graph_rows(recording))


def test_adding_and_removing_the_shim_rolls_out_and_back_as_recorded() -> None:
    recording = rows("exp-02-shim-add-remove-ssa-v1beta1")
    replay = settled(recording, 1.0, "objects-v1beta1-agg-ready", "b5804dbe")
    replay.hashes = {1: "b5804dbe", 2: "8f1dec34", 3: "b5804dbe"}
    shimmed = dgd_of("objects-v1beta1-agg-shim-added")["spec"]

    def add(spec: Object) -> None:
        spec.update(copy.deepcopy(shimmed))

    base = fresh("objects-v1beta1-agg-ready")["spec"]
    steps = [(0.0, 37.4, add), (37.4, 99.0, keep)]
    play(replay, recording, steps, base, ["Frontend", "decode"])
    assert replay.events == ["RollingUpdateStarted", "RollingUpdateCompleted"] * 2
    assert replay.dgd["metadata"]["annotations"][names.CURRENT_HASH] == "b5804dbe"


def test_frontend_change_scaling_and_restart_go_as_recorded() -> None:
    recording = rows("exp-03-frontend-env-scale-restart")
    replay = settled(recording, 1.0, "objects-v1beta1-agg-ready", "b5804dbe")
    base = fresh("objects-v1beta1-agg-ready")["spec"]
    steps = [
        (0.0, 20.664, frontend_env),
        (20.664, 41.398, keep),
        (41.398, 52.66, replicas(3)),
        (52.66, 57.984, keep),
        (57.984, 100.555, restart),
        (100.555, 999.0, keep),
    ]
    play(replay, recording, steps, base, ["Frontend", "decode"])
    assert replay.events == [], "none of these changes is a managed rollout"


def test_a_broken_rollout_stays_pending_and_a_revert_ends_it_at_once() -> None:
    recording = rows("exp-04-broken-init-container")
    replay = settled(recording, 1.0, "objects-v1beta1-agg-ready", "b5804dbe")
    generation = replay.dgd["metadata"]["generation"]
    replay.hashes[generation + 1] = "45b415d3"
    base = fresh("objects-v1beta1-agg-ready")["spec"]
    steps = [(0.0, 45.058, worker_env()), (45.058, 999.0, keep)]
    play(replay, recording, steps, base, ["Frontend", "decode"])
    assert sorted(replay.dcds) == ["mock-decode-b5804dbe", "mock-frontend"]


def test_without_a_spare_gpu_a_rollout_waits_and_goes_on_when_one_appears() -> None:
    recording = rows("exp-22-shim-no-spare-gpu")
    dgd = fresh("objects-v1beta1-agg-ready")
    replay = create(recording, dgd, {1: "b5804dbe", 2: "6caca302"}, 14.16)
    steps = [(14.16, 78.25, worker_env())]
    play(replay, recording, steps, dgd["spec"], ["Frontend", "decode"])


def test_recreate_brings_the_old_generation_to_zero_before_the_new_one_starts() -> None:
    recording = rows("exp-23-shim-recreate-strategy")
    dgd = fresh("objects-v1beta1-agg-ready", recreate)
    replay = create(recording, dgd, {1: "e33e1e91", 2: "4dfc2cc7"}, 13.127)
    base = fresh("objects-v1beta1-agg-ready")["spec"]
    steps = [(13.127, 38.18, recreate_and_env)]
    play(replay, recording, steps, base, ["Frontend", "decode"])


def test_recreate_waits_for_the_last_old_pod_because_it_holds_the_gpu() -> None:
    replay = Replay(fresh("objects-v1beta1-agg-ready", recreate), {1: "aaaaaaaa", 2: "bbbbbbbb"})
    replay.run(0.0)
    changed = _with(replay.dgd["spec"], recreate_and_env)
    replay.live_pods = {"mock-decode-aaaaaaaa": 1}
    change_spec(replay, changed, 1.0)
    empty = {**dict.fromkeys(status.COUNTS, 0), "componentNames": [], "runtimeNamespace": "x"}
    replay.dcds["mock-decode-aaaaaaaa"]["status"] = {"component": empty}
    replay.run(2.0)
    assert replay.dcds["mock-decode-aaaaaaaa"]["spec"]["replicas"] == 0
    assert replay.dcds["mock-decode-bbbbbbbb"]["spec"]["replicas"] == 0
    replay.live_pods = {}
    replay.run(3.0)
    assert replay.dcds["mock-decode-bbbbbbbb"]["spec"]["replicas"] == 2


def test_changing_prefill_alone_rolls_decode_too() -> None:
    recording = rows("exp-21-disagg-apply-patch-kill")
    dgd = fresh("objects-v1beta1-disagg-ready")
    replay = create(recording, dgd, {1: "4dd85cb3", 2: "c8aa9412"}, 16.351)
    change_spec(replay, _with(dgd["spec"], worker_env("prefill")), 16.351)
    assert {"mockd-decode-c8aa9412", "mockd-prefill-c8aa9412"} <= set(replay.dcds)
    ready = replay.dgd["status"]["conditions"][0]
    assert ready["reason"] == "rolling_update_in_progress"


def _with(spec: Object, change: Change) -> Object:
    result = copy.deepcopy(spec)
    change(result)
    return result


def deployment_rows(recording: list[Object], name: str) -> list[Object]:
    """A Deployment's rows as objects; its generation is counted from changes of replicas."""
    generation, before, found = 1, None, []
    for row in recording:
        if row.get("kind") != "deployment" or row["name"] != name or row["type"] == "DELETED":
            continue
        if before is not None and row["spec_replicas"] != before:
            generation += 1
        before = row["spec_replicas"]
        found.append(
            {
                "metadata": {"generation": generation},
                "spec": {"replicas": row["spec_replicas"]},
                "status": row["status"],
            }
        )
    return found


def dcd_picture(part: Object) -> tuple[Any, ...]:
    """Counts and the Available condition of a DCD's status."""
    condition = next(c for c in part["conditions"] if c["type"] == "Available")
    component = part["component"]
    return (*(component[key] for key in status.COUNTS), condition["status"], condition["reason"])


@pytest.mark.parametrize(
    ("experiment", "name", "end"),
    [
        ("exp-01-apply-v1beta1", "mock-frontend", 99.0),
        ("exp-01-apply-v1beta1", "mock-decode-b5804dbe", 99.0),
        ("exp-22-shim-no-spare-gpu", "mock-decode-6caca302", 78.0),
        ("exp-23-shim-recreate-strategy", "mock-decode-4dfc2cc7", 38.0),
    ],
)
def test_a_components_status_follows_its_deployment_as_recorded(
    experiment: str, name: str, end: float
) -> None:
    recording = [row for row in rows(experiment) if row["t"] < end]
    labels = {names.NAMESPACE: "drill-mock"}
    dcd: Object = {
        "metadata": {"name": name, "generation": 1, "labels": labels},
        "spec": {"type": "frontend"},
    }
    ours = [dcd_picture(status.dcd_status(dcd, None, NOW))]
    ours += [dcd_picture(status.dcd_status(dcd, d, NOW)) for d in deployment_rows(recording, name)]
    wanted = [
        dcd_picture(row["status"])
        for row in recording
        if row.get("kind") == "dcd" and row["name"] == name and "component" in row["status"]
    ]
    ignored = [picture for picture in wanted if picture[-1] != "Reconciling"]
    assert distinct(ignored)[-1] == distinct(ours)[-1]
    shown = distinct(ours)
    assert [picture for picture in distinct(ignored) if picture not in shown] == []


def test_a_component_that_wants_no_replicas_is_ready() -> None:
    empty = {"metadata": {"generation": 2}, "spec": {"replicas": 0}, "status": {}}
    assert status.deployment_is_ready(empty)


def test_a_crash_shows_as_pending_with_the_old_transition_time_kept_until_the_flip() -> None:
    dgd = dgd_of("objects-v1beta1-agg-ready")
    replay = Replay(fresh("objects-v1beta1-agg-ready"), {1: "b5804dbe"})
    replay.run(0.0)
    assert replay.dgd["status"]["state"] == "pending"
    for dcd in replay.dcds.values():
        dcd["status"] = {
            "component": dgd["status"]["components"][dcd["spec"]["name"]],
            "conditions": [{"type": "Available", "status": "True"}],
            "observedGeneration": 1,
        }
    replay.run(1.0)
    assert replay.dgd["status"]["state"] == "successful"
    crashed = copy.deepcopy(replay.dcds["mock-decode-b5804dbe"])
    crashed["status"]["conditions"] = [{"type": "Available", "status": "False"}]
    later = status.dgd_status(
        replay.dgd, {**replay.dcds, "mock-decode-b5804dbe": crashed}, Plan(), "b5804dbe", "later"
    )
    assert later["state"] == "pending"
    assert later["conditions"][0]["lastTransitionTime"] == "later"
    assert later["conditions"][0]["reason"] == "some_resources_are_not_ready"
