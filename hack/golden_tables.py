# SPDX-License-Identifier: Apache-2.0
"""Tables of the golden table: genuine and injected faults side by side, and what explains the rest.

A set of results whose classes are not those of this tree carries a prediction beside the
measurement, under the name `predicted`: see tests/gpu/faultline_gpu/predict.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

TREE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TREE / "tests/gpu"), str(TREE / "service")]

from faultline_gpu import diff, predict  # noqa: E402

Results = dict[str, dict[str, Any]]
SHOWN = 6  # names in a cell


def add_prediction(results: Results) -> Results:
    """The results, with `predicted` unless their golden table has the classes of this tree."""
    table = results.get("golden")
    if table is None or predict.is_measured(table):
        return results
    return results | {"predicted": predict.predict(table)}


def rules() -> list[dict[str, Any]]:
    """Rules that explain differences between genuine and injected faults."""
    text = (TREE / "tests/gpu/explained.yml").read_text()
    return list(yaml.safe_load(text)["rules"])


def markdown(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def of_this_tree(results: Results) -> dict[str, Any]:
    """The golden table for the classes of this tree: measured, or else predicted."""
    return results.get("predicted") or results["golden"]


def how(results: Results) -> str:
    """What the table for the classes of this tree is."""
    return "predicted, not measured" if "predicted" in results else "measured"


def build(results: Results) -> str:
    """Build of the shim that was measured."""
    return str(results["machine"]["machine"]["shim_build"])


def unexplained(table: dict[str, Any]) -> int:
    """Rows of a golden table that differ for no reason that a rule names."""
    return sum(not row["rule"] for row in diff.differences(table, rules()))


def golden(results: Results) -> str:
    """Per fault: functions called, how many did the same, how many differ and are explained."""
    sides = [(f"measured, build `{build(results)}`", results["golden"])]
    if "predicted" in results:
        sides.append(("predicted, not measured, this tree", results["predicted"]))
    return markdown(
        (
            "fault",
            "code",
            "injected side",
            "functions called",
            "the same",
            "differ, explained",
            "differ, unexplained",
        ),
        [
            (fault, results["golden"]["faults"][fault]["code"], side, *_counts(table, fault))
            for fault in results["golden"]["faults"]
            for side, table in sides
        ],
    )


def _counts(table: dict[str, Any], fault: str) -> tuple[int, int, int, int]:
    called = [row for row in diff.rows(table) if row["fault"] == fault and diff.compared(row)]
    differ = [row for row in diff.differences(table, rules()) if row["fault"] == fault]
    explained = sum(bool(row["rule"]) for row in differ)
    return len(called), len(called) - len(differ), explained, len(differ) - explained


def differences(results: Results) -> str:
    """Each rule with what it explains for the classes of this tree, and what none does."""
    return _differences(of_this_tree(results), f"injected, {how(results)}")


def measured_differences(results: Results) -> str:
    """The same for what was measured, whatever classes the shim had then."""
    return _differences(results["golden"], "injected, measured")


def _differences(table: dict[str, Any], injected: str) -> str:
    merged: dict[tuple[str, str, str, str], set[str]] = {}
    for row in diff.by_function(diff.differences(table, rules())):
        key = (row["rule"] or "", row["class"], _said(row, "genuine"), _said(row, "injected"))
        merged.setdefault(key, set()).add(row["name"])
    rows = [
        (rule or "**unexplained**", letter, genuine, said, _names(names))
        for (rule, letter, genuine, said), names in sorted(merged.items())
    ]
    return markdown(("rule", "class", "genuine", injected, "functions"), rows)


def explanations(results: Results) -> str:
    """Each rule, why it says what it says, and how many rows it explains."""
    found = diff.differences(of_this_tree(results), rules())
    rows = [
        (rule["id"], " ".join(rule["why"].split()), sum(row["rule"] == rule["id"] for row in found))
        for rule in rules()
    ]
    return markdown(("rule", "why", f"differences, {how(results)}"), rows)


def _said(row: dict[str, Any], side: str) -> str:
    written = row[f"{side}_written"]
    more = f", writes {', '.join(written)}" if written else ""
    return f"{row[side]}{more}{', over a second' if row[f'{side}_blocked'] else ''}"


def _names(names: set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(f"`{name}`" for name in listed[:SHOWN]) + more


def suggestions(table: dict[str, Any]) -> dict[str, str]:
    """Functions whose class the genuine faults contradict, with the class they ask for."""
    said: dict[str, set[str]] = {}
    for row in diff.rows(table):
        if row["healthy"] == "0" and row["genuine"] not in ("unknown", "absent"):
            said.setdefault(row["name"], set()).add(row["genuine"])
    wanted = {}
    for name, answers in said.items():
        letter = table["classes"][name]
        if answers == {"fault"} and letter == "P":
            wanted[name] = "S"
        elif answers == {"0"} and letter in "SQTL":
            wanted[name] = "P"
    return wanted


def classes(results: Results) -> str:
    """Functions whose class in this tree the genuine faults contradict."""
    table = of_this_tree(results)
    wanted = suggestions(table)
    if not wanted:
        return "(none: no class contradicts what the genuine faults did)"
    rows = [(f"`{name}`", table["classes"][name], new) for name, new in sorted(wanted.items())]
    return markdown(("function", "class", "genuine faults ask for"), rows)


def reclassified(results: Results) -> str:
    """Functions whose class is another now than it was when the table was measured."""
    then, now = results["golden"]["classes"], of_this_tree(results)["classes"]
    moved: dict[tuple[str, str], set[str]] = {}
    for name in now:
        if name in then and then[name] != now[name]:
            moved.setdefault((then[name], now[name]), set()).add(name)
    if not moved:
        return "(none: the classes of this tree are those that were measured)"
    rows = [(*pair, len(names), _names(names)) for pair, names in sorted(moved.items())]
    return markdown(("class when measured", "class now", "functions", "which"), rows)
