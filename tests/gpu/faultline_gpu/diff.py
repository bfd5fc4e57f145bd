# SPDX-License-Identifier: Apache-2.0
"""Genuine and injected faults side by side: what differs, and which rule explains it.

Pure. A *row* is one function under one fault: what it did in a healthy process, after the genuine
fault and after the injected one. Codes are written as texts: a number, or `fault` for the fault's
own code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

SLOW_US = 1_000_000


def told(result: Mapping[str, Any] | None, code: int) -> str:
    """What a result says: `fault`, another code, `crash`, `hang`, `absent`, or `unknown`."""
    if not result:
        return "unknown"
    if result["outcome"] != "returned":
        return str(result["outcome"])
    return "fault" if result["code"] == code else str(result["code"])


def written(result: Mapping[str, Any] | None) -> list[str]:
    """Parameters whose memory a call changed, `name=zero` where with zeros only."""
    found = (result or {}).get("written", {})
    return sorted(name if how == "value" else f"{name}=zero" for name, how in found.items())


def blocked(result: Mapping[str, Any] | None) -> bool:
    """Whether a call took longer than a second."""
    return bool(result) and float((result or {}).get("us", 0)) > SLOW_US


def row(
    name: str,
    letter: str,
    fault: str,
    code: int,
    healthy: Mapping[str, Any] | None,
    genuine: Mapping[str, Any] | None,
    injected: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """One function under one fault."""
    return {
        "name": name,
        "class": letter,
        "fault": fault,
        "healthy": told(healthy, code),
        "genuine": told(genuine, code),
        "injected": told(injected, code),
        "genuine_written": written(genuine),
        "injected_written": written(injected),
        "genuine_blocked": blocked(genuine),
        "injected_blocked": blocked(injected),
    }


def differs(one: Mapping[str, Any]) -> bool:
    """Whether genuine and injected fault differ in code, in memory written, or in blocking."""
    pairs = ("", "_written", "_blocked")
    return any(one[f"genuine{pair}"] != one[f"injected{pair}"] for pair in pairs)


def compared(one: Mapping[str, Any]) -> bool:
    """Whether a function was called after the genuine or after the injected fault."""
    return {one["genuine"], one["injected"]} - {"unknown", "absent"} != set()


def rows(golden: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of a golden table (the content of golden.json) whose functions were called."""
    found = []
    for fault, series in golden["faults"].items():
        for name, letter in golden["classes"].items():
            if name in golden["not_called"]:
                continue
            sides = (golden["healthy"], series["genuine"], series["injected"])
            found.append(
                row(
                    name,
                    letter,
                    fault,
                    series["code"],
                    *(side["results"].get(name) for side in sides),
                )
            )
    return found


def _fits(rule: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    if not re.fullmatch(rule.get("names", ".*"), one["name"]):
        return False
    if one["class"] not in rule.get("classes", "PSQITL"):
        return False
    for side in ("healthy", "genuine", "injected"):
        wanted = rule.get(side)
        if wanted is None:
            continue
        said = one[side]
        same = {"healthy": one["healthy"], "not-zero": said if said != "0" else ""}
        if said not in [same.get(str(value), str(value)) for value in wanted]:
            return False
    parts = [
        part
        for part in ("code", "written", "blocked")
        if one[_key("genuine", part)] != one[_key("injected", part)]
    ]
    return set(parts) <= set(rule.get("parts", ["code", "written", "blocked"]))


def _key(side: str, part: str) -> str:
    return side if part == "code" else f"{side}_{part}"


def explain(one: Mapping[str, Any], rules: Iterable[Mapping[str, Any]]) -> str | None:
    """Id of the first rule that explains a difference, None when none does.

    A rule names what must be true of the row: `names` (a regular expression), `classes`, lists of
    what `healthy`, `genuine` and `injected` said (`healthy` in a list stands for what the healthy
    process said, `not-zero` for any answer but 0), and which `parts` may differ.
    """
    return next((str(rule["id"]) for rule in rules if _fits(rule, one)), None)


def differences(
    golden: Mapping[str, Any], rules: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows that differ, each with the `rule` that explains it (or None)."""
    listed = list(rules)
    return [one | {"rule": explain(one, listed)} for one in rows(golden) if differs(one)]


def by_function(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that say the same of one function under several faults as one, with all `faults`."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in found:
        rest = {key: value for key, value in one.items() if key != "fault"}
        key = tuple(str(value) for value in rest.values())
        merged.setdefault(key, rest | {"faults": []})["faults"].append(one["fault"])
    return list(merged.values())
