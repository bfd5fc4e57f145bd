# SPDX-License-Identifier: Apache-2.0
"""The command line of a container: its flags read and changed, as a list or in a shell script.

In a script only the word that changes is written anew: variables, quotes, line breaks and what
stands around the engine's command (`exec`, traps, pipes, redirections) stay as they are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._dgd_tree import Path, Tree, add, insert_after, look, put
from ._errors import FaultlineError

SHELLS = ("sh", "bash", "dash", "ash", "zsh")
SCRIPT_FLAG = re.compile(r"-[a-z]*c")
ENGINE = re.compile(r"dynamo\.(\w+)(\..*)?")
NUMBER = re.compile(r"-\d")
TOKEN = re.compile(
    r"""
    (?P<space> (?: [ \t] | \\\n )+ )
    | (?P<comment> \# [^\n]* )
    | (?P<redirect> (?: \d* [<>] | &> ) [<>&|]* )
    | (?P<end> [;&|()\n]+ )
    | (?P<word> (?:
        [^\s'"\\`$;&|()<>] | \\ [^\n] | ' [^']* ' | " (?: [^"\\] | \\ . )* " | ` [^`]* `
        | \$ \( (?: [^()] | \( [^()]* \) )* \) | \$ \{ [^}]* \} | \$
      )+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Word:
    """A word of a command line: what the program gets, and where it stands.

    `holder[index]` is the text that it stands in; `start` and `end` are its bounds there, None
    when it is the whole text.
    """

    value: str
    holder: Any
    index: int
    start: int | None = None
    end: int | None = None

    @property
    def raw(self) -> str:
        """The word as it is written."""
        return str(self.holder[self.index])[self.start : self.end]

    def write(self, raw: str) -> None:
        """Put other text in the word's place."""
        text = str(self.holder[self.index])
        start, end = self.start or 0, len(text) if self.end is None else self.end
        put(self.holder, (self.index,), text[:start] + raw + text[end:])


class CommandLine:
    """`command` and `args` of the container at a path, as one command line."""

    def __init__(self, tree: Tree, path: Path, owner: str) -> None:
        self._tree, self._path, self.owner = tree, path, owner
        for key in ("command", "args"):
            if not isinstance(self._part(key), list):
                raise FaultlineError(f"`{key}` of {owner} must be a list of texts.")

    def __str__(self) -> str:
        return shlex.join(word.value for word in self._listed()) or "no command"

    def _part(self, key: str) -> Any:
        return look(self._tree, *self._path, key) or []

    def _listed(self) -> list[Word]:
        return [
            Word(str(text), self._part(key), index)
            for key in ("command", "args")
            for index, text in enumerate(self._part(key))
        ]

    def _script(self) -> Word | None:
        """The script, when the command is a shell with `-c`."""
        words = self._listed()
        if not words or words[0].value.rpartition("/")[2] not in SHELLS:
            return None
        flags = [i for i, word in enumerate(words) if SCRIPT_FLAG.fullmatch(word.value)]
        return words[flags[0] + 1] if flags and flags[0] + 1 < len(words) else None

    def words(self) -> list[Word]:
        """Words of the engine's command; of a script without an engine, its one with flags."""
        script = self._script()
        if not script:
            return self._listed()
        commands = list(_commands(script))
        engines = [c for c in commands if any(ENGINE.fullmatch(w.value) for w in c)]
        flagged = [c for c in commands if any(w.value.startswith("--") for w in c)]
        found = engines or (flagged if len(flagged) == 1 else commands)
        return found[0] if len(found) == 1 or engines else []

    @property
    def extensible(self) -> bool:
        """Whether it is known where a new flag goes."""
        return not self._script() or bool(self.words())

    @property
    def engine(self) -> str | None:
        """Name of the module of dynamo that runs, such as `vllm`."""
        found = (ENGINE.fullmatch(word.value) for word in self.words())
        return next((match[1] for match in found if match), None)

    def has(self, flag: str) -> bool:
        """Whether a flag is given."""
        return _find(self.words(), flag) is not None

    def get(self, *flags: str) -> str | None:
        """Value of the first of these flags that is given, None without any."""
        words = self.words()
        for flag in flags:
            at = _find(words, flag)
            if at is not None:
                word = words[at].value
                if word != flag:
                    return word.partition("=")[2]
                return words[at + 1].value if _has_value(words, at) else None
        return None

    def set(self, flag: str, value: str | None = None) -> None:
        """Give a flag this value, taken literally; add the flag when it is missing."""
        words = self.words()
        at = _find(words, flag)
        if at is None:
            self._append(words, flag, value)
        elif value is None:
            return
        elif words[at].value != flag:
            _write_joined(words[at], flag, value)
        elif _has_value(words, at):
            _write(words[at + 1], value)
        else:
            self._insert(words, at, value)

    def _append(self, words: list[Word], flag: str, value: str | None) -> None:
        added = [flag] if value is None else [flag, value]
        script = self._script()
        if not script:
            add(self._tree, (*self._path, "args"), *added)
            return
        if not self.extensible:
            raise FaultlineError(
                f"Where in the script of {self.owner} does {flag} belong? No command in it "
                f"runs an engine (dynamo.…): {script.value!r}. Add the flag by hand."
            )
        text, last = script.value, words[-1]
        new = text[: last.end] + _gap(words, text) + shlex.join(added) + text[last.end :]
        script.write(new)

    def _insert(self, words: list[Word], at: int, value: str) -> None:
        if words[at].start is None:
            insert_after(words[at].holder, words[at].index, value)
        else:
            words[at].write(f"{words[at].raw} {shlex.quote(value)}")


def _commands(script: Word) -> Iterator[list[Word]]:
    """Words of each simple command of a script."""
    text, words, target = script.value, [], False
    for token in TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "word" and not target:
            value = _unquoted(token[0])
            words.append(Word(value, script.holder, script.index, token.start(), token.end()))
        elif kind in ("end", "other") and words:
            yield words
            words = []
        if kind != "space":
            target = kind == "redirect"
    if words:
        yield words


def _unquoted(raw: str) -> str:
    try:
        parts = shlex.split(raw)
    except ValueError:
        return raw
    # A substitution with spaces in it is one word to the shell.
    return parts[0] if len(parts) == 1 else raw


def _find(words: list[Word], flag: str) -> int | None:
    """Index of the last word that is the flag or `flag=value`: the last one counts."""
    found = [i for i, w in enumerate(words) if w.value == flag or w.value.startswith(f"{flag}=")]
    return found[-1] if found else None


def _has_value(words: list[Word], at: int) -> bool:
    if at + 1 >= len(words):
        return False
    value = words[at + 1].value
    return not value.startswith("-") or bool(NUMBER.match(value))


def _quoted(value: str, before: str) -> str:
    """A value for the shell, in the quotes of the one before where they can hold it."""
    if before.startswith('"') and not re.search(r'["$`\\!]', value):
        return f'"{value}"'
    if before.startswith("'") and "'" not in value:
        return f"'{value}'"
    return shlex.quote(value)


def _write(word: Word, value: str) -> None:
    if word.value != value:
        word.write(value if word.start is None else _quoted(value, word.raw))


def _write_joined(word: Word, flag: str, value: str) -> None:
    """Put a value behind the `=` of a word."""
    if word.value == f"{flag}={value}":
        return
    if word.start is None:
        word.write(f"{flag}={value}")
        return
    written, _equals, before = word.raw.partition("=")
    # Quotes may also be around flag and value together.
    raw = f"{flag}={_quoted(value, before)}" if written == flag else shlex.quote(f"{flag}={value}")
    word.write(raw)


def _gap(words: list[Word], text: str) -> str:
    """What stands before the last flag of a command: a space, or a line break and an indent."""
    for before, word in zip(words[-2::-1], words[:0:-1], strict=True):
        if word.value.startswith("-"):
            gap = text[before.end : word.start]
            return gap if "\n" in gap else " "
    return " "
