# SPDX-License-Identifier: Apache-2.0
"""What the documentation names is there: files, folders and tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
PAGES = sorted([TREE / "README.md", *(TREE / "docs").glob("*.md")])
ROOMS = ("playbooks", "roles", "plugins", "shim", "service", "lab", "data", "tests", "docs", "hack")
NAMED = re.compile(r"`([^`\s]+)`")


@cache
def sources() -> str:
    """All test files in one text."""
    return "\n".join(
        p.read_text() for p in TREE.glob("**/tests/**/test_*.py") if ".venv" not in str(p)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    names = {n for n in NAMED.findall(page.read_text()) if n.split("/")[0] in ROOMS and "/" in n}
    assert [n for n in sorted(names) if not (TREE / n).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    names = {n for n in NAMED.findall(page.read_text()) if n.startswith("test_") and "." not in n}
    assert [n for n in sorted(names) if f"def {n}(" not in sources()] == []


def test_the_framework_page_names_tests() -> None:
    names = NAMED.findall((TREE / "docs/framework.md").read_text())
    assert len([n for n in names if n.startswith("test_")]) > 20
