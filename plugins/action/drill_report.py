# SPDX-License-Identifier: Apache-2.0
"""Action behind the module drill_report."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.faultline.gpu.plugins.module_utils import _record
from ansible_collections.faultline.gpu.plugins.plugin_utils.local_action import LocalAction


class ActionModule(LocalAction):
    """Write the report of a drill."""

    arguments: ClassVar[dict[str, Any]] = {
        "argument_spec": {
            "path": {"type": "path", "required": True},
            "phases": {"type": "list", "elements": "dict", "required": True},
            "before_after": {"type": "dict", "default": {"equal": None, "differences": []}},
            "versions": {"type": "dict", "default": {}},
        }
    }

    def work(self, params: dict[str, Any], check: bool) -> dict[str, Any]:
        """Judge and write."""
        return _record.report(
            params["path"], params["phases"], params["before_after"], params["versions"], check
        )
