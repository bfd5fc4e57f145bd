# SPDX-License-Identifier: Apache-2.0
"""Reading and changing the tree of a DGD: plain mappings and lists, or those of ruamel.yaml.

In a tree of ruamel.yaml a comment block below a value belongs to that value. What is added behind
the value would land behind the comments about the next field, so they are moved along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yaml import ScalarNode
from yaml.resolver import Resolver

Tree = Any
Path = tuple[Any, ...]
STRING = "tag:yaml.org,2002:str"


def plain(tree: Tree) -> Any:
    """The same as built-in types, nothing shared: what an API client or Ansible can take."""
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    if tree is None or isinstance(tree, bool):
        return tree
    for kind in (int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    # YAML knows dates, Kubernetes does not: it reads them as text.
    return tree.isoformat() if hasattr(tree, "isoformat") else str(tree)


def look(tree: Tree, *path: str) -> Any:
    """What is at a path of keys, None when any of them is missing or empty."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def named(entries: Tree, name: str) -> Any:
    """The entry of a list of mappings with that `name`, or None."""
    found = (e for e in entries or [] if isinstance(e, Mapping) and e.get("name") == name)
    return next(found, None)


def put(tree: Tree, path: Path, value: Any) -> None:
    """Set what is at a path of keys (of mappings) and indices (of lists).

    What is missing on the way is made. A text keeps the quotes of the one before.
    """
    for depth, key in enumerate(path[:-1]):
        child = tree.get(key)
        if not isinstance(child, Mapping) or not child:
            for inner in reversed(path[depth + 1 :]):
                value = {inner: value}
            _set(tree, key, value)
            return
        tree = child
    _set(tree, path[-1], value)


def _set(tree: Tree, key: Any, value: Any) -> None:
    known = isinstance(tree, list) or key in tree
    old, new = plain(tree[key]) if known else None, plain(value)
    if known and old == new and type(old) is type(new):
        return
    nested = isinstance(old, dict | list) or isinstance(new, dict | list)
    if known and not nested:
        tree[key] = _like(tree[key], value, tree)
        return
    tail = _take_tail(tree, key if known else _last(tree))
    tree[key] = _made(value, tree)
    _give_tail(tree, key, tail)


def add(tree: Tree, path: Path, *values: Any) -> None:
    """Append to the list at a path; made if it is missing."""
    entries = look(tree, *path)
    if not isinstance(entries, list) or not entries:
        put(tree, path, list(values))
        return
    tail = _take_tail(entries, _last(entries))
    entries.extend(_made(value, entries) for value in values)
    _give_tail(entries, _last(entries), tail)


def insert_after(entries: Tree, index: int, value: Any) -> None:
    """Insert into a list, behind an index."""
    tail = _take_tail(entries, index)
    entries.insert(index + 1, _made(value, entries))
    _give_tail(entries, index + 1, tail)


def set_named(tree: Tree, path: Path, name: str, **fields: Any) -> None:
    """Give the entry of that `name`, in the list at a path, exactly these fields."""
    entry = named(look(tree, *path), name)
    if entry is None:
        add(tree, path, {"name": name, **fields})
    else:
        set_fields(entry, **fields)


def set_fields(entry: Tree, **fields: Any) -> None:
    """Give a mapping exactly these fields beside its `name`."""
    tail = _take_tail(entry, _last(entry))
    for key in [k for k in entry if k != "name" and k not in fields]:
        del entry[key]
    for key, value in fields.items():
        _set(entry, key, value)
    _give_tail(entry, _last(entry), tail)


def drop(tree: Tree, key: Any) -> None:
    """Remove a key of a mapping; comment lines below its value stay below the one before."""
    keys = list(tree)
    tail = _take_tail(tree, key)
    del tree[key]
    before = keys[keys.index(key) - 1] if keys[0] != key else None
    if before is not None:
        _give_tail(tree, before, tail)


def _last(tree: Tree) -> Any:
    """Last key or index of a container, None when it is empty."""
    if not tree:
        return None
    return list(tree)[-1] if isinstance(tree, Mapping) else len(tree) - 1


def _commented(tree: Tree) -> bool:
    return hasattr(tree, "ca")


def _made(value: Any, beside: Tree) -> Any:
    """A new value in the kind of tree that it goes into."""
    if not _commented(beside):
        return plain(value)
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, Mapping):
        made = CommentedMap()
        for key, child in value.items():
            made[key] = _made(child, beside)
        return made
    if isinstance(value, list):
        return CommentedSeq(_made(child, beside) for child in value)
    return DoubleQuotedScalarString(value) if _misread(value) else value


def _misread(value: Any) -> bool:
    """Whether a text without quotes is no text to Kubernetes, which reads YAML 1.1 (`yes`, `1`)."""
    if not isinstance(value, str):
        return False
    return (
        value.lower() in ("y", "n")
        or Resolver().resolve(ScalarNode, value, (True, False)) != STRING
    )


def _like(old: Any, new: Any, beside: Tree) -> Any:
    """A new scalar in the style of an old one: its quotes, its block, its folds."""
    if not (isinstance(new, str) and isinstance(old, str) and getattr(old, "style", None)):
        return _made(new, beside)
    made: Any = type(old)(new)
    if hasattr(old, "comment"):
        made.comment = old.comment
    if hasattr(old, "fold_pos"):
        pairs = enumerate(zip(old, new, strict=False))
        same = next((i for i, (a, b) in pairs if a != b), len(old))
        shift = len(new) - len(old)
        made.fold_pos = [at if at < same else at + shift for at in old.fold_pos]
    return made


def _leaf(tree: Tree, key: Any) -> tuple[Tree, Any]:
    """Container and key of the value that the text of `tree[key]` ends with."""
    child: Any = tree[key]
    while child and hasattr(child, "fa") and not child.fa.flow_style():
        tree, key = child, _last(child)
        child = tree[key]
    return tree, key


def _slot(tree: Tree) -> int:
    """Where ruamel.yaml keeps the comment behind a value: differs between mapping and list."""
    return 2 if isinstance(tree, Mapping) else 0


def _is_block(value: Any) -> bool:
    """Whether a text is a block (`|` or `>`): that has no line of its own to put a comment in."""
    return getattr(value, "style", None) in ("|", ">")


def _take_tail(tree: Tree, key: Any) -> str:
    """Remove and return the comment and blank lines below a value; one beside it stays."""
    if key is None or not _commented(tree):
        return ""
    place, last = _leaf(tree, key)
    comments = place.ca.items.get(last)
    token = comments[_slot(place)] if comments else None
    if token is None:
        return ""
    own, _newline, tail = token.value.partition("\n")
    if _is_block(place[last]):
        own, tail = "", token.value
    if own:
        token.value = f"{own}\n"
    else:
        comments[_slot(place)] = None
    return str(tail)


def _give_tail(tree: Tree, key: Any, tail: str) -> None:
    """Put comment lines below a value."""
    if not tail:
        return
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    place, last = _leaf(tree, key)
    comments = place.ca.items.setdefault(last, [None, None, None, None])
    token = comments[_slot(place)]
    own = token.value.rstrip("\n") if token else ""
    text = tail if _is_block(place[last]) else f"{own}\n{tail}"
    comments[_slot(place)] = CommentToken(text, CommentMark(0), None)
