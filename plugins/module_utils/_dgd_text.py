# SPDX-License-Identifier: Apache-2.0
"""Where a DGD comes from and goes to: the YAML text of a file, or a mapping such as Ansible's."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

import yaml

from ._dgd_tree import look, plain
from ._errors import FaultlineError

KIND = "DynamoGraphDeployment"
# Indentation of mappings and of lists, and of the dash within a list's, as files have them.
STYLES = ((2, 4, 2), (2, 2, 0), (4, 4, 2), (4, 2, 0), (4, 4, 0), (4, 6, 4))
# At the start of a line these dashes are a marker wherever they stand, also in a block of text.
MARKER = re.compile(r"^(---[ \t]*(?:#.*)?\n)", re.MULTILINE)


class GraphText:
    """The one DGD of a YAML text and its editable tree, `root`.

    A text without edits stays as it is, byte for byte. With edits, other documents stay so, and
    the DGD's keeps comments, order, quotes and unknown fields and is written in the indentation
    that fits it best; aliases and merge keys become copies, since an edit of one service must not
    change another.
    """

    def __init__(self, text: str, source: str) -> None:
        self._original = text
        # Documents and, between them, their markers.
        self._parts = MARKER.split(text.replace("\r\n", "\n"))
        self._index = _index_of_graph(self._parts, source)
        self.root = _load(self._parts[self._index])
        self._loaded = json.dumps(plain(self.root))

    def text(self) -> str:
        """The text with the edits of `root` in it."""
        if json.dumps(plain(self.root)) == self._loaded:
            return self._original
        parts = list(self._parts)
        parts[self._index] = _dump(self.root, _style(parts[self._index]))
        text = "".join(parts)
        return text.replace("\n", "\r\n") if "\r\n" in self._original else text


class GraphMapping:
    """A DGD that came as a mapping; the given one is never changed."""

    def __init__(self, graph: Mapping[str, Any], source: str) -> None:
        kind = look(graph, "kind")
        if kind != KIND:
            raise FaultlineError(f"{source} is of kind {kind or 'unknown'}: expected a {KIND}.")
        self.root = plain(graph)

    def text(self) -> str:
        """The DGD as YAML, its keys in their order."""
        return yaml.safe_dump(self.root, sort_keys=False, allow_unicode=True)


def _yaml() -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError as error:
        raise FaultlineError(
            "Editing the text of a DGD needs the Python package ruamel.yaml: install it, "
            "or give the DGD as a mapping."
        ) from error
    made = YAML(typ="rt", pure=True)
    made.preserve_quotes = True
    made.width = 1_000_000
    return made


def _load(text: str) -> Any:
    """Tree of one document, with what aliases share as copies."""
    reader = _yaml()
    reader.composer.return_alias = _unshared
    return reader.load(text)


def _unshared(node: Any) -> Any:
    node = copy.deepcopy(node)
    node.anchor = None
    return node


def _dump(tree: Any, style: tuple[int, int, int]) -> str:
    writer, stream = _yaml(), io.StringIO()
    writer.indent(*style)
    writer.dump(tree, stream)
    return stream.getvalue()


def _style(text: str) -> tuple[int, int, int]:
    """The style in which a document comes out most like itself."""
    lines, tree = text.splitlines(), _load(text)
    best, found = -1.0, STYLES[0]
    for style in STYLES:
        written = _dump(tree, style).splitlines()
        if written == lines:
            return style
        likeness = SequenceMatcher(None, lines, written, autojunk=False).ratio()
        if likeness > best:
            best, found = likeness, style
    return found


def _index_of_graph(parts: list[str], source: str) -> int:
    """Index of the one document that is a DGD. Raises FaultlineError for none or several."""
    reader = _yaml()
    from ruamel.yaml.error import YAMLError

    found, others, line = [], [], 1
    for index, part in enumerate(parts):
        try:
            document = None if index % 2 else reader.load(part)
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = str(getattr(error, "problem", None) or error).splitlines()[0]
            where = f" in line {line + mark.line}" if mark else ""
            raise FaultlineError(f"{source} is no YAML{where}: {problem}.") from error
        line += part.count("\n")
        kind = look(document, "kind")
        if kind == KIND:
            found.append(index)
        elif document is not None:
            others.append(str(kind or "a document without kind"))
    if len(found) == 1:
        return found[0]
    if found:
        raise FaultlineError(f"{source} holds {len(found)} {KIND}s: give a file with one of them.")
    raise FaultlineError(f"{source} holds no {KIND}: it holds {', '.join(others) or 'nothing'}.")
