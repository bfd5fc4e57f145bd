# SPDX-License-Identifier: Apache-2.0
"""The one family of errors of this collection. Their texts are sentences for people."""

from __future__ import annotations

from typing import Any


class FaultlineError(Exception):
    """Something is not as it must be. `details` goes into the module's result as it is."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class NoSuchKind(FaultlineError):
    """The cluster does not know a kind of objects."""


class WaitTimeout(FaultlineError):
    """What was waited for did not come in time."""


class WaitFailed(FaultlineError):
    """What was waited for cannot come any more."""
