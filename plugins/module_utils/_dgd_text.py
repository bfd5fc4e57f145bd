# SPDX-License-Identifier: Apache-2.0
"""The YAML text around a DGD: what an edit does not touch stays as it is, byte for byte."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any

import yaml

from ._dgd_tree import look, plain
from ._errors import FaultlineError

KIND = "DynamoGraphDeployment"
# Indentation of mappings and of lists, and of the dash within a list's, as files have them.
STYLES = ((2, 4, 2), (2, 2, 0), (4, 4, 2), (4, 2, 0), (4, 4, 0), (4, 6, 4))
BYTE_ORDER_MARK = "\ufeff"
MARK_LINE = re.compile(r"[ \t]*(#[^\n]*)?\n")


class GraphText:
    """The one DGD of a YAML text and its editable tree, `root`.

    Other documents, comments, order of keys, quotes and unknown fields stay. An edit changes the
    lines that it must. Only where that cannot be done (an edit of something that an alias shares,
    or within a text that goes over several lines) the DGD's document is written anew in the
    indentation that fits it best; then aliases and merge keys are written out, `~` and `null`
    become nothing and spaces inside a line may change.
    """

    def __init__(self, text: str, source: str) -> None:
        self._original = text
        self._crlf = "\r\n" in text
        text = text.replace("\r\n", "\n")
        start, end = _bounds_of_graph(text, source)
        self._head, self._body, self._tail = text[:start], text[start:end], text[end:]
        self.root = _load(self._body)
        self._loaded = _fingerprint(self.root)

    def text(self) -> str:
        """The text with the edits of `root` in it."""
        if _fingerprint(self.root) == self._loaded:
            return self._original
        text = self._head + self._edited() + self._tail
        return text.replace("\n", "\r\n") if self._crlf else text

    @cached_property
    def _unedited(self) -> tuple[tuple[int, int, int], str]:
        """The style in which the document comes out most like itself, and how it comes out."""
        tree, made = _load(self._body), []
        for style in STYLES:
            made.append((style, _dump(tree, style)))
            if made[-1][1] == self._body:
                return made[-1]
        return min(made, key=lambda each: _distance(self._body, each[1]))

    def _edited(self) -> str:
        indent = _json_indent(self._body)
        if indent is not None:
            made = json.dumps(plain(self.root), indent=indent or None, ensure_ascii=False)
            return made + "\n" * self._body.endswith("\n")
        style, base = self._unedited
        whole = _dump(self.root, style)
        patched = _patched(self._body, base, whole)
        return patched if patched is not None and _reads_as(patched, self.root) else whole


class GraphMapping:
    """A DGD that came as a mapping, such as Ansible's; the given one is never changed."""

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


def _reads_as(text: str, tree: Any) -> bool:
    """Whether a text is the YAML of a tree."""
    from ruamel.yaml.error import YAMLError

    try:
        return _fingerprint(_load(text)) == _fingerprint(tree)
    except YAMLError:
        return False


def _json_indent(text: str) -> int | None:
    """Indentation of a JSON document, 0 if it has none; None for what is YAML only."""
    try:
        json.loads(text)
    except ValueError:
        return None
    first = re.search(r"\n( +)", text)
    return len(first[1]) if first else 0


def _fingerprint(tree: Any) -> str:
    return json.dumps(plain(tree))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Bounds of the content of every document, without its `---` line."""
    from ruamel.yaml.events import DocumentEndEvent, DocumentStartEvent

    start = 1 if text.startswith(BYTE_ORDER_MARK) else 0
    for event in _yaml().parse(text):
        if isinstance(event, DocumentStartEvent) and event.explicit:
            start = event.end_mark.index
            line = MARK_LINE.match(text, start)
            start = line.end() if line else start
        elif isinstance(event, DocumentEndEvent):
            yield start, event.start_mark.index
            start = event.end_mark.index


def _bounds_of_graph(text: str, source: str) -> tuple[int, int]:
    """Bounds of the one document of a text that is a DGD. Raises FaultlineError for none or two."""
    reader, line = _yaml(), 0
    from ruamel.yaml.error import YAMLError

    found, others = [], []
    try:
        for start, end in list(_spans(text)):
            line = text.count("\n", 0, start)
            document = reader.load(text[start:end])
            kind = look(document, "kind")
            if kind == KIND:
                found.append((start, end))
            elif document is not None:
                others.append(str(kind or "a document without kind"))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {line + mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise FaultlineError(f"{source} is no YAML{where}: {problem}.") from error
    if len(found) == 1:
        return found[0]
    if found:
        raise FaultlineError(f"{source} holds {len(found)} {KIND}s: give a file with one of them.")
    raise FaultlineError(f"{source} holds no {KIND}: it holds {', '.join(others) or 'nothing'}.")


def _distance(one: str, other: str) -> int:
    """Number of lines that differ."""
    return sum(
        max(b - a, d - c)
        for tag, a, b, c, d in _changes(one.splitlines(), other.splitlines())
        if tag != "equal"
    )


def _changes(one: list[str], other: list[str]) -> Sequence[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, one, other, autojunk=False).get_opcodes()


def _patched(original: str, before: str, after: str) -> str | None:
    """The original with the change from `before` to `after`, both of which are written by us.

    Also brings back what `before` has lost, such as a comment that ruamel.yaml cannot hold. None
    when a change begins or ends in the middle of lines that have no counterpart.
    """
    source, base, edited = (text.splitlines(keepends=True) for text in (original, before, after))
    # Where in the source each line of the base begins, and where the lines before it end.
    begin: dict[int, int] = {}
    end = {0: 0}
    for tag, a, b, c, d in _changes(base, source):
        if tag == "equal" or b - a == d - c:
            begin.update(zip(range(a, b), range(c, d), strict=True))
            end.update(zip(range(a + 1, b + 1), range(c + 1, d + 1), strict=True))
        elif a < b:
            begin[a], end[b] = c, d
    made, done = [], 0
    for tag, a, b, c, d in _changes(base, edited):
        if tag == "equal":
            continue
        start, stop = begin.get(a) if a < b else end.get(a), end.get(b)
        if start is None or stop is None:
            return None
        made += source[done:start] + edited[c:d]
        done = stop
    return "".join(made + source[done:])
