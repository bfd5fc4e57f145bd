# SPDX-License-Identifier: Apache-2.0
"""Callback plugin: what a person sees while a playbook of this collection runs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: drill
type: stdout
short_description: One line per phase of a drill
version_added: 0.1.0
description:
  - Shows one line per phase with the evidence for its gate and the seconds it took, what went wrong
    in full sentences, and a summary with the times measured.
  - Quiet by default; C(-v) shows every task, C(-vv) the results of tasks that changed something.
author: The faultline.gpu maintainers (@faultline-gpu)
requirements:
  - set as stdout in configuration
extends_documentation_fragment:
  - default_callback
"""

import shutil
import sys
import time
from typing import Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Default

from ..module_utils._words import plain

MEASURES = (
    ("detect_seconds", "time to detect", "kernel line written to condition True"),
    ("cordon_seconds", "time to cordon", "kernel line written to cordon by NVSentinel"),
    ("first_failure_seconds", "first failed request", "kernel line written to first bad answer"),
    ("error_window_seconds", "error window", "first to last bad answer"),
    ("drain_seconds", "drain", "cordon to last of our pods gone"),
    ("recovery_seconds", "time to recovery", "kernel line written to all workers Ready elsewhere"),
)
FAIL = ("ansible.builtin.fail", "fail")
MARKS = {"passed": ("✔", "green"), "failed": ("✘", "red"), "refused": ("■", "yellow")}
VERDICTS = {"passed": "green", "failed": "red", "refused": "yellow", "invalid": "yellow"}


def seconds(value: float | None) -> str:
    """Seconds as a person writes them, `not seen` of None."""
    return "not seen" if value is None else f"{value:.1f} s"


def summary(report: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Lines of the closing table, each with its colour."""
    measures = report["measures"]
    lines: list[tuple[str, str | None]] = [("", None)]
    if any(measures[key] is not None for key, _name, _note in MEASURES):
        for key, name, note in MEASURES:
            lines.append((f"  {name:<22}{seconds(measures[key]):>10}   {note}", None))
    if measures["requests_total"]:
        bad = f"{measures['requests_failed']} of {measures['requests_total']} failed"
        lines.append((f"  {'requests':<22}{'':>10}   {bad}", None))
        for name, latency in measures["latency_ms"].items():
            times = "  ".join(f"{k} {v} ms" for k, v in latency.items() if v is not None)
            lines.append((f"  {'latency ' + name:<22}{'':>10}   {times}", None))
    equal = report["before_after"]["equal"]
    state = {True: "yes", False: "NO", None: "not compared"}[equal]
    lines.append((f"  {'as it was before':<22}{state:>10}", None if equal else "red"))
    lines += [(f"      {d}", "red") for d in report["before_after"]["differences"][:10]]
    lines.append(("", None))
    word = report["verdict"]
    lines.append((f"VERDICT: {word.upper()}", VERDICTS[word]))
    if report["reason"]:
        lines.append((f"  {report['reason']}", VERDICTS[word]))
    return lines


def reason(result: dict[str, Any]) -> str:
    """The sentence of a failed result that helps most."""
    text = result.get("msg") or result.get("stderr") or result.get("stdout") or "no message"
    if result.get("stderr") and "non-zero return code" in str(text):
        text = f"{text}: {result['stderr'].strip()[-800:]}"
    return plain(str(text).strip())


class CallbackModule(Default):
    """Phases instead of tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "faultline.gpu.drill"
    # ansible-core 2.22 masks secrets in what is handed to `_display`; nothing here bypasses it.
    ANSIBLE_SUPPORTS_MASKING = True

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()
        self._open_line = False
        self._phase_label = ""
        self._said = ""
        self._phase_begun: float | None = None

    @property
    def _verbose(self) -> bool:
        return bool(self._display.verbosity)

    def _line(self, text: str, color: str | None = None) -> None:
        if self._open_line:
            sys.stdout.write("\r\033[K")
            self._open_line = False
        self._display.display(text, color=color)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        if self._verbose:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        if play.get_name():
            self._line(f"{play.get_name()}", C.COLOR_HIGHLIGHT)

    def _now(self, text: str) -> None:
        """Show on a terminal what is being done; the next line takes its place."""
        if not self._verbose and sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            sys.stdout.write(f"\r\033[K{f'  … {text}'[: width - 1]}")
            sys.stdout.flush()
            self._open_line = True

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        if self._verbose:
            super().v2_playbook_on_task_start(task, is_conditional)
        else:
            self._now(f"{self._phase_label}{task.get_name()}")

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        if self._verbose:
            super().v2_playbook_on_handler_task_start(task)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        if self._verbose:
            super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result: Any) -> None:
        content = result._result
        if "phase" in content and result._task.action.endswith("drill_phase"):
            self._phase(content["phase"])
        elif "report" in content and result._task.action.endswith("drill_report"):
            for text, color in summary(content["report"]):
                self._line(text, color)
            self._line(f"  report: {content['path']}/report.json")
        elif self._display.verbosity > 1 and content.get("changed"):
            super().v2_runner_on_ok(result)
        elif result._task.action in C._ACTION_DEBUG and not self._verbose and "msg" in content:
            secret = content.get("_ansible_no_log")
            self._line("  (output is secret)" if secret else f"  {content['msg']}")

    def _phase(self, phase: dict[str, Any]) -> None:
        label = f"{phase['number']:>2} {phase['name']}"
        if phase["status"] == "started":
            self._phase_begun = phase["at"]
            self._phase_label = f"{label}: "
            return
        self._phase_label = ""
        mark, color = MARKS[phase["status"]]
        begun, self._phase_begun = self._phase_begun, None
        took = seconds(None if begun is None else phase["at"] - begun)
        self._line(f"  {mark} {label:<18}{took:>9}   {phase['evidence']}", color)
        if phase["status"] != "passed":
            self._line(f"      gate: {phase['gate']}", color)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if ignore_errors or result._result.get("_ansible_no_log"):
            if not ignore_errors:
                self._line(f"  ✘ {result._task.get_name()}: failed (output is secret)", "red")
            return
        if self._verbose:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        if "results" in result._result:
            return  # its items have been shown, each with its sentence
        said, self._said = self._said, reason(result._result)
        # A rescue that fails on purpose repeats the words of what it rescued.
        if said == self._said and result._task.action in FAIL:
            return
        self._line(f"  ✘ {result._task.get_name()}", C.COLOR_ERROR)
        for line in self._said.splitlines():
            self._line(f"      {line}", C.COLOR_ERROR)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        secret = result._result.get("_ansible_no_log")
        why = "output is secret" if secret else reason(result._result)
        name = result._host.get_name()
        self._line(f"  ✘ {name} cannot be reached: {why}", C.COLOR_UNREACHABLE)

    def v2_runner_on_skipped(self, result: Any) -> None:
        if self._display.verbosity > 1:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if self._display.verbosity > 1:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        self.v2_runner_on_failed(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        if self._display.verbosity > 1:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_retry(self, result: Any) -> None:
        if self._verbose:
            super().v2_runner_retry(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if self._display.verbosity > 1:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._verbose:
            super().v2_playbook_on_stats(stats)
            return
        changed = sum(stats.changed.values())
        bad = sum(stats.failures.values()) + sum(stats.dark.values())
        total = time.monotonic() - self._begun
        word = "failed" if bad else "done"
        self._line(f"{word} in {total:.0f} s ({changed} changed)", "red" if bad else None)
