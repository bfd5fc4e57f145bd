# SPDX-License-Identifier: Apache-2.0
"""What a person sees while a playbook runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.callback.default import CallbackModule as Default
from ansible_collections.faultline.gpu.plugins.callback import drill

Object = dict[str, Any]


class Display:
    """Keeps what is shown."""

    verbosity = 0
    columns = 80

    def __init__(self) -> None:
        self.lines: list[tuple[str, str | None]] = []

    def display(self, text: str, color: str | None = None, **_: Any) -> None:
        self.lines.append((text, color))


@pytest.fixture
def shown() -> Display:
    return Display()


@pytest.fixture
def callback(shown: Display) -> drill.CallbackModule:
    found = drill.CallbackModule()
    found._display = shown
    return found


def result(action: str, content: Object, name: str = "Do it") -> Any:
    task = SimpleNamespace(action=action, get_name=lambda: name, no_log=False)
    host = SimpleNamespace(get_name=lambda: "gpu-node-1")
    return SimpleNamespace(_task=task, _result=content, _host=host)


def phase(status: str, at: float, **more: Any) -> Any:
    note = {"number": 2, "name": "CUDA setup", "gate": "it is mapped", "evidence": None}
    note |= {"status": status, "at": at} | more
    return result("faultline.gpu.drill_phase", {"phase": note})


def text(shown: Display) -> str:
    return "\n".join(line for line, _color in shown.lines)


def test_a_phase_is_one_line_with_its_seconds_and_evidence(
    callback: drill.CallbackModule, shown: Display
) -> None:
    callback.v2_runner_on_ok(phase("started", 100.0))
    assert shown.lines == []
    callback.v2_runner_on_ok(phase("passed", 112.34, evidence="seen in 2 workers"))
    ((line, color),) = shown.lines
    assert line.split() == ["✔", "2", "CUDA", "setup", "12.3", "s", "seen", "in", "2", "workers"]
    assert color == "green"


@pytest.mark.parametrize(
    ("status", "mark", "color"), [("failed", "✘", "red"), ("refused", "■", "yellow")]
)
def test_a_phase_that_did_not_pass_shows_its_gate(
    callback: drill.CallbackModule, shown: Display, status: str, mark: str, color: str
) -> None:
    callback.v2_runner_on_ok(phase("started", 100.0))
    callback.v2_runner_on_ok(phase(status, 101.0, evidence="none is"))
    assert mark in shown.lines[0][0]
    assert {c for _line, c in shown.lines} == {color}
    assert shown.lines[1][0].strip() == "gate: it is mapped"


def test_a_phase_that_ends_without_having_begun_has_no_seconds(
    callback: drill.CallbackModule, shown: Display
) -> None:
    callback.v2_runner_on_ok(phase("failed", 101.0, evidence="e"))
    assert "not seen" in shown.lines[0][0]


def report(**more: Any) -> Object:
    measures: Object = {key: None for key, _name, _note in drill.MEASURES}
    measures |= {"requests_total": 0, "requests_failed": 0, "latency_ms": {}}
    found: Object = {
        "measures": measures,
        "verdict": "passed",
        "reason": None,
        "before_after": {"equal": True, "differences": []},
    }
    return found | more


def closing(shown: Display, callback: drill.CallbackModule, content: Object) -> str:
    callback.v2_runner_on_ok(
        result("faultline.gpu.drill_report", {"report": content, "path": "results/run-1"})
    )
    return text(shown)


def test_the_summary_says_each_time_what_was_not_seen_and_the_verdict(
    callback: drill.CallbackModule, shown: Display
) -> None:
    measured = report()["measures"] | {
        "detect_seconds": 0.52,
        "requests_total": 100,
        "requests_failed": 7,
        "latency_ms": {"baseline": {"p50": 90.1, "p99": None}},
    }
    said = closing(shown, callback, report(measures=measured))
    assert "time to detect             0.5 s" in said
    assert "time to cordon          not seen" in said
    assert "7 of 100 failed" in said
    assert "latency baseline" in said
    assert "p99" not in said
    assert "VERDICT: PASSED" in said
    assert said.endswith("report: results/run-1/report.json")


def test_a_drill_that_measured_nothing_shows_no_empty_table(
    callback: drill.CallbackModule, shown: Display
) -> None:
    found = report(verdict="refused", reason="no spare GPU")
    said = closing(shown, callback, found)
    assert "time to detect" not in said
    assert "no spare GPU" in said


def test_what_is_not_as_it_was_is_named(callback: drill.CallbackModule, shown: Display) -> None:
    left = {"equal": False, "differences": ["Node/n is gone"]}
    said = closing(shown, callback, report(before_after=left, verdict="failed"))
    assert "as it was before              NO" in said
    assert "Node/n is gone" in said


def test_a_failed_task_is_named_with_its_sentence_and_a_command_with_its_output(
    callback: drill.CallbackModule, shown: Display
) -> None:
    callback.v2_runner_on_failed(result("x", {"msg": "There is no node n."}, "Look"))
    callback.v2_runner_on_failed(
        result("command", {"msg": "non-zero return code", "stderr": "address in use\n"}, "Start")
    )
    assert text(shown).split("\n") == [
        "  ✘ Look",
        "      There is no node n.",
        "  ✘ Start",
        "      non-zero return code: address in use",
    ]


def test_a_rescue_that_fails_with_the_words_of_what_it_rescued_is_not_shown_again(
    callback: drill.CallbackModule, shown: Display
) -> None:
    callback.v2_runner_on_failed(result("x", {"msg": "There is no node n."}, "Look"))
    callback.v2_runner_on_failed(
        result("ansible.builtin.fail", {"msg": "There is no node n."}, "Refuse")
    )
    assert "Refuse" not in text(shown)
    callback.v2_runner_on_failed(result("ansible.builtin.fail", {"msg": "Too bad."}, "Refuse"))
    assert "Too bad." in text(shown)


def test_a_loop_that_failed_is_shown_by_its_items_alone(
    callback: drill.CallbackModule, shown: Display
) -> None:
    callback.v2_runner_item_on_failed(result("x", {"msg": "There is no node n."}, "Look"))
    callback.v2_runner_on_failed(
        result("x", {"results": [{"failed": True}], "msg": "One or more items failed"}, "Look")
    )
    assert text(shown) == "  ✘ Look\n      There is no node n."


@pytest.mark.parametrize(
    "around",
    [
        "Task failed: Module failed: ",
        "Task failed: Finalization of task args for 'ansible.builtin.set_fact' failed: Error while "
        "resolving value for 'x': The filter plugin 'faultline.gpu.xid_profile' failed: ",
    ],
)
def test_an_error_is_shown_without_the_layers_that_it_came_through(
    callback: drill.CallbackModule, shown: Display, around: str
) -> None:
    callback.v2_runner_on_failed(result("x", {"msg": f"{around}An XID is a number."}, "Look"))
    assert shown.lines[-1][0] == "      An XID is a number."


def test_a_failure_that_is_expected_is_not_shown(
    callback: drill.CallbackModule, shown: Display
) -> None:
    callback.v2_runner_on_failed(result("x", {"msg": "no"}), ignore_errors=True)
    assert shown.lines == []


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_a_secret_is_never_shown(
    callback: drill.CallbackModule, shown: Display, verbosity: int
) -> None:
    shown.verbosity = verbosity
    content = {"msg": "hf_abcdef", "_ansible_no_log": True}
    callback.v2_runner_on_failed(result("x", content, "Log in"))
    callback.v2_runner_on_ok(result("ansible.builtin.debug", content))
    callback.v2_runner_on_unreachable(result("x", content))
    assert "hf_abcdef" not in text(shown)
    assert "Log in: failed (output is secret)" in text(shown)


def test_debug_messages_are_shown(callback: drill.CallbackModule, shown: Display) -> None:
    callback.v2_runner_on_ok(result("ansible.builtin.debug", {"msg": "cluster lab: running"}))
    assert shown.lines == [("  cluster lab: running", None)]


def test_with_v_tasks_are_shown_as_ansible_does(
    callback: drill.CallbackModule, shown: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(Default, "v2_playbook_on_task_start", lambda *given: seen.append(given))
    task: Any = SimpleNamespace(get_name=lambda: "Deploy")
    callback.v2_playbook_on_task_start(task, False)
    assert seen == []
    shown.verbosity = 1
    callback.v2_playbook_on_task_start(task, False)
    assert len(seen) == 1


@pytest.mark.parametrize(("bad", "word", "color"), [(0, "done", None), (1, "failed", "red")])
def test_the_last_line_says_how_it_ended(
    callback: drill.CallbackModule, shown: Display, bad: int, word: str, color: str | None
) -> None:
    stats = SimpleNamespace(changed={"a": 3}, failures={"a": bad}, dark={})
    callback.v2_playbook_on_stats(stats)
    ((line, shade),) = shown.lines
    assert line == f"{word} in 0 s (3 changed)"
    assert shade == color
