# SPDX-License-Identifier: Apache-2.0
"""Files of results: one JSON object each, written whole, again after every step that is done."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Put `content` into a file in one step. Long lists of simple things get a line per item."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(f"{_text(content)}\n")
    os.replace(draft, path)


def _text(value: Any, indent: str = "") -> str:
    flat = json.dumps(value)
    if len(flat) + len(indent) <= 100 or not isinstance(value, (dict, list)):
        return flat
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(str(key))}: {_text(one, inner)}" for key, one in value.items()]
    else:
        parts = [_text(one, inner) for one in value]
    body = f",\n{inner}".join(parts)
    left, right = "{}" if isinstance(value, dict) else "[]"
    return f"{left}\n{inner}{body}\n{indent}{right}"


def median(values: Sequence[float]) -> float:
    """Median of a list that is not empty."""
    return quantile(values, 0.5)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, between neighbours in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
