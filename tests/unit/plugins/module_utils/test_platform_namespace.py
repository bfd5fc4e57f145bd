# SPDX-License-Identifier: Apache-2.0
"""A drill makes and removes a namespace: one that nobody else needs, and that is really drained."""

from __future__ import annotations

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _platform as platform

DRAINER = """
systemNamespaces = "^(nvsentinel|kube-system)$"
[[userNamespaces]]
name = "drill-*"
mode = "Immediate"
"""


@pytest.mark.parametrize(
    ("labels", "run", "fine"),
    [
        ({"faultline.dev/run": "run-1"}, "run-1", True),
        ({"faultline.dev/run": "run-2"}, "run-1", False),
        ({"faultline.dev/drill": "allowed"}, "run-1", False),
        ({}, None, False),
        (None, "run-1", False),
    ],
)
def test_a_namespace_that_is_somebody_elses_is_never_taken(
    labels: dict | None, run: str | None, fine: bool
) -> None:
    found = {"metadata": {"name": "production", "labels": labels}}
    problems = platform.namespace_problem(found, run)
    assert (problems == []) is fine
    assert fine or "production" in problems[0]


def test_a_namespace_that_is_not_there_is_free() -> None:
    assert platform.namespace_problem(None, "run-1") == []


@pytest.mark.parametrize(
    ("namespace", "words"),
    [
        ("drill-run-1", None),
        ("kube-system", "systemNamespaces"),
        ("hw-fault-test", "node-drainer.userNamespaces"),
    ],
)
def test_a_namespace_that_the_drainer_leaves_alone_is_refused(
    namespace: str, words: str | None
) -> None:
    problems = platform.drainer_problem(DRAINER, namespace)
    assert (words in problems[0]) if words else problems == []


@pytest.mark.parametrize("text", [None, "", "not = [ toml", 'evictionTimeoutInSeconds = "60"'])
def test_settings_that_say_nothing_are_not_judged(text: str | None) -> None:
    assert platform.drainer_problem(text, "any") == []
