# SPDX-License-Identifier: Apache-2.0
"""Files that others read at any time."""

from __future__ import annotations

from pathlib import Path


def draft_of(path: Path) -> Path:
    """Where `replace` writes before it renames; who is killed in between leaves it there."""
    return path.with_name(f".{path.name}.new")


def replace(path: Path, text: str) -> None:
    """Write a file by a rename: who reads it, or is killed, meanwhile leaves the old or the new."""
    draft = draft_of(path)
    draft.write_text(text)
    draft.replace(path)
