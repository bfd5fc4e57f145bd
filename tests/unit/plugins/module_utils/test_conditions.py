# SPDX-License-Identifier: Apache-2.0
"""Conditions written as data."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _conditions as conditions
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError

Object = dict[str, Any]
GRAPH: Object = {
    "kind": "DynamoGraphDeployment",
    "metadata": {
        "name": "agg",
        "generation": 2,
        "annotations": {"nvidia.com/current-worker-hash-v2": "b5804dbe"},
    },
    "spec": {"components": [{"name": "Frontend"}, {"name": "decode", "replicas": 2}]},
    "status": {
        "observedGeneration": 2,
        "state": "successful",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}],
        "zero": 0,
    },
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status.state", "successful"),
        ("metadata.generation", 2),
        ("status.conditions[type=Ready].status", "True"),
        ("status.conditions[type=Other].status", "False"),
        ("status.conditions[type=Gone].status", None),
        ("spec.components[name=decode].replicas", 2),
        ("spec.components[replicas=2].name", "decode"),
        (r"metadata.annotations.nvidia\.com/current-worker-hash-v2", "b5804dbe"),
        ("metadata.annotations.nvidia.com/current-worker-hash-v2", None),
        ("status.zero", 0),
        ("status.nothing", None),
        ("status.state.deeper", None),
        ("status.conditions.type", None),
        ("status[type=Ready]", None),
        ("nothing.at.all", None),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path: str, value: Any) -> None:
    assert conditions.value_at(GRAPH, path) == value


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        ({"path": "status.state", "equals": "successful"}, True),
        ({"path": "status.state", "equals": "pending"}, False),
        ({"path": "status.zero", "equals": 0}, True),
        ({"path": "status.nothing", "equals": 0}, False),
        ({"path": "status.state", "in": ["pending", "successful"]}, True),
        ({"path": "status.state", "in": ["pending"]}, False),
        ({"path": "status.nothing", "in": ["pending"]}, False),
        ({"path": "status.state", "regex": "^succ"}, True),
        ({"path": "status.state", "regex": "^ucc"}, False),
        ({"path": "status.nothing", "regex": "None"}, False),
        ({"path": "status.state", "present": True}, True),
        ({"path": "status.state", "present": False}, False),
        ({"path": "status.nothing", "present": True}, False),
        ({"path": "status.nothing", "present": False}, True),
        ({"path": "status.zero", "present": True}, True),
        ({"path": "status.observedGeneration", "same_as": "metadata.generation"}, True),
        ({"path": "status.zero", "same_as": "metadata.generation"}, False),
        ({"path": "status.nothing", "same_as": "metadata.nothing"}, False),
    ],
)
def test_a_rule_is_met_by_what_stands_at_its_path(rule: Object, good: bool) -> None:
    assert conditions.meets(GRAPH, rule)[0] is good


def test_a_rule_that_is_not_met_says_what_is_there() -> None:
    rule = {"path": "status.state", "equals": "pending"}
    assert conditions.meets(GRAPH, rule)[1] == "status.state is 'successful'"


@pytest.mark.parametrize(
    "rule", ["Ready", {"equals": 1}, {"path": "status.state"}, {"path": "a", "is": 1}, None, 7]
)
def test_a_rule_that_says_nothing_is_refused_with_what_it_could_say(rule: Any) -> None:
    with pytest.raises(FaultlineError, match=r"^A condition (is `ready`|says equals)") as error:
        conditions.meets(GRAPH, rule)
    assert repr(rule) in str(error.value)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"path": "a", "in": "abc"}, "`in` of a condition is a list, not 'abc'."),
        ({"path": "a", "regex": "("}, "`regex` of {'path': 'a', 'regex': '('} is no regular"),
        ({"path": "a", "regex": 7}, "`regex` of {'path': 'a', 'regex': 7} is no regular"),
    ],
)
def test_a_rule_with_a_value_of_the_wrong_kind_is_refused(rule: Object, said: str) -> None:
    with pytest.raises(FaultlineError) as error:
        conditions.check(rule)
    assert str(error.value).startswith(said)


def workload(kind: str, spec: Object, observed: int | None = 2, **status: int) -> Object:
    return {
        "kind": kind,
        "metadata": {"name": "x", "generation": 2},
        "spec": spec,
        "status": status | ({"observedGeneration": observed} if observed else {}),
    }


def deployment(ready: int, updated: int, total: int, wanted: int | None = 2, **more: Any) -> Object:
    spec = {} if wanted is None else {"replicas": wanted}
    counts = {"readyReplicas": ready, "updatedReplicas": updated, "replicas": total}
    return workload("Deployment", spec, **more, **counts)


def daemon_set(wanted: int, ready: int, updated: int, **more: Any) -> Object:
    counts = {
        "desiredNumberScheduled": wanted,
        "numberReady": ready,
        "updatedNumberScheduled": updated,
    }
    return workload("DaemonSet", {}, **more, **counts)


def pod(ready: str, **meta: Any) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": "x", **meta},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("obj", "good", "seen"),
    [
        (deployment(2, 2, 2), True, "2 of 2 ready"),
        (deployment(1, 1, 1, wanted=None), True, "1 of 1 ready"),
        (deployment(1, 2, 2), False, "1 of 2 ready"),
        pytest.param(deployment(2, 1, 2), False, "2 of 2 ready", id="an old one serves"),
        pytest.param(deployment(2, 2, 3), False, "2 of 2 ready", id="an old one is left"),
        pytest.param(deployment(2, 2, 2, observed=1), False, "2 of 2 ready", id="stale status"),
        pytest.param(deployment(2, 2, 2, observed=None), False, "2 of 2 ready", id="new"),
        (workload("StatefulSet", {"replicas": 1}), False, "0 of 1 ready"),
        (daemon_set(3, 3, 3), True, "3 of 3 ready"),
        (daemon_set(3, 2, 3), False, "2 of 3 ready"),
        (daemon_set(3, 3, 2), False, "3 of 3 ready"),
        pytest.param(daemon_set(0, 0, 0), False, "0 of 0 ready", id="no node wants it"),
        (daemon_set(3, 3, 3, observed=1), False, "3 of 3 ready"),
        (pod("True"), True, "phase Running"),
        (pod("False"), False, "phase Running"),
        ({"kind": "Pod", "metadata": {"name": "x"}}, False, "phase None"),
        pytest.param(pod("True", deletionTimestamp="t"), False, "phase Running", id="ending"),
    ],
)
def test_ready_means_all_of_the_newest_generation_and_nothing_else(
    obj: Object, good: bool, seen: str
) -> None:
    assert conditions.meets(obj, "ready") == (good, seen)
