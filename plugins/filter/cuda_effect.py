# SPDX-License-Identifier: Apache-2.0
"""Filter: how a fault will show in CUDA calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._cuda_effect import effect_of
from ..module_utils._errors import FaultlineError


def cuda_effect(
    cuda: Any, xid: Any, effects: list[str], duration: Any, drill: bool = False
) -> dict[str, Any]:
    """Mode, classes and code of a fault, and `problems`; AnsibleFilterError for what is no XID."""
    try:
        return effect_of(cuda, xid, effects, int(duration), drill)
    except FaultlineError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of this collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {"cuda_effect": cuda_effect}
