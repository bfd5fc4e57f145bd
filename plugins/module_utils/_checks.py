# SPDX-License-Identifier: Apache-2.0
"""Checks of values that somebody gave. Each returns the value or raises a sentence."""

from __future__ import annotations

import re
from typing import Any

from ._errors import FaultlineError

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def whole_number(what: str, value: Any, least: int) -> int:
    """The value, if it is a whole number of at least so many. Raises FaultlineError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FaultlineError(f"{what} must be a whole number of at least {least}, not {value!r}.")
    return value


def word(what: str, value: Any) -> str:
    """The value, if it is a text without spaces in it. Raises FaultlineError."""
    if not isinstance(value, str) or not value or any(sign.isspace() for sign in value):
        raise FaultlineError(f"{what} must be a text without spaces, not {value!r}.")
    return value


def label(what: str, value: Any) -> str:
    """The value, if it can be a name in Kubernetes (RFC 1123 label). Raises FaultlineError."""
    if not isinstance(value, str) or not LABEL.fullmatch(value):
        raise FaultlineError(
            f"{what} must be at most 63 small letters, digits and inner dashes, not {value!r}."
        )
    return value
