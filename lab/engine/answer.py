# SPDX-License-Identifier: Apache-2.0
"""What the engine answers, and how text becomes tokens. Pure functions."""

from __future__ import annotations

import hashlib

SPECIAL = ("<unk>", "<s>", "</s>")
# Printable ASCII and the line break, one token each, behind the special ones.
ALPHABET = "".join(chr(code) for code in range(32, 127)) + "\n"
UNKNOWN, BEGIN, END = range(len(SPECIAL))


def encode(text: str) -> list[int]:
    """Token ids of a text, one per character."""
    return [ALPHABET.find(c) + len(SPECIAL) if c in ALPHABET else UNKNOWN for c in text]


def decode(tokens: list[int]) -> str:
    """Text of token ids; special tokens are left out."""
    first = len(SPECIAL)
    return "".join(ALPHABET[t - first] for t in tokens if first <= t < first + len(ALPHABET))


def answer(prompt: str) -> str:
    """The answer to `prompt`: `fl-` and the first eight hex digits of the prompt's SHA-256."""
    return f"fl-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"
