# SPDX-License-Identifier: Apache-2.0
"""Verdict, report.json and junit.xml of a drill. Pure functions."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

Phase = Mapping[str, Any]

# The steady state is proven in this phase: a drill that fails here says nothing about the cluster.
BASELINE = 3


def verdict(
    phases: Sequence[Phase], planned: int, before_after: Mapping[str, Any]
) -> tuple[str, str | None]:
    """Verdict of a drill of `planned` phases, and why it is not `passed`.

    `refused`: a precondition was not met and nothing was injected. `invalid`: there was no steady
    state to disturb. `failed`: a gate was not met, or something of ours was left behind.
    """
    for phase in phases:
        said = f"phase {phase['number']} {phase['name']}: {phase['evidence']}"
        if phase["status"] == "refused":
            return "refused", said
        if phase["status"] == "failed":
            return ("invalid" if phase["number"] == BASELINE else "failed"), said
    if len([p for p in phases if p["status"] == "passed"]) < planned:
        return "failed", f"only {len(phases)} of {planned} phases were run"
    if before_after.get("equal") is None:
        return "failed", "the cluster was not compared with the state before the drill"
    if not before_after["equal"]:
        left = "; ".join(str(d) for d in before_after["differences"][:5])
        return "failed", f"the cluster is not as it was before the drill: {left}"
    return "passed", None


def _judge_rest(case: ET.Element, report: Mapping[str, Any], counts: dict[str, int]) -> None:
    """The last test case: what was left behind, or why no failed phase is still no pass."""
    compared = report["before_after"]
    if compared["equal"] is False or (report["verdict"] != "passed" and not sum(counts.values())):
        counts["failures"] += 1
        failure = ET.SubElement(case, "failure", type="failed", message=report["reason"] or "")
        failure.text = "\n".join(str(d) for d in compared["differences"])
    elif compared["equal"] is None:
        counts["skipped"] += 1
        ET.SubElement(case, "skipped", message="not compared")


def junit(report: Mapping[str, Any], planned: Sequence[Mapping[str, Any]]) -> str:
    """JUnit XML of a report: one test case per planned phase, one for the state left behind.

    A gate that was not met is a `failure`; a drill that was refused or had no steady state is an
    `error` of that type; a phase that was never reached is `skipped`.
    """
    suite = ET.Element("testsuite", name=f"faultline.gpu drill {report['run_id']}")
    done = {p["number"]: p for p in report["phases"]}
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for plan in planned:
        phase = done.get(plan["number"])
        case = ET.SubElement(
            suite,
            "testcase",
            classname="faultline.gpu.drill",
            name=f"{plan['number']:02d} {plan['name']}",
            time=str((phase or {}).get("seconds") or 0),
        )
        if phase is None or phase["status"] == "skipped":
            counts["skipped"] += 1
            ET.SubElement(case, "skipped", message="not reached")
            continue
        ET.SubElement(case, "system-out").text = f"gate: {phase['gate']}\n{phase['evidence']}"
        if phase["status"] == "passed":
            continue
        word = report["verdict"] if report["verdict"] in ("refused", "invalid") else "failed"
        tag = "failure" if word == "failed" else "error"
        counts["failures" if tag == "failure" else "errors"] += 1
        ET.SubElement(case, tag, type=word, message=phase["evidence"])
    case = ET.SubElement(
        suite, "testcase", classname="faultline.gpu.drill", name="cluster is as it was before"
    )
    _judge_rest(case, report, counts)
    suite.set("tests", str(len(planned) + 1))
    suite.set("time", str(round(sum(p["seconds"] or 0 for p in report["phases"]), 1)))
    for name, count in counts.items():
        suite.set(name, str(count))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
