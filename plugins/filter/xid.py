# SPDX-License-Identifier: Apache-2.0
"""Filter: what an XID is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._errors import FaultlineError
from ..module_utils._xid import profile


def xid_profile(xid: Any) -> dict[str, Any]:
    """The row of an XID in the table of XIDs; raises AnsibleFilterError for what is no XID."""
    try:
        return profile(xid)
    except FaultlineError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of this collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {"xid_profile": xid_profile}
