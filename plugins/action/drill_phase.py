# SPDX-License-Identifier: Apache-2.0
"""Action behind the module drill_phase."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.faultline.gpu.plugins.module_utils import _record
from ansible_collections.faultline.gpu.plugins.module_utils._words import plain
from ansible_collections.faultline.gpu.plugins.plugin_utils.local_action import LocalAction


class ActionModule(LocalAction):
    """Note how far a drill has come."""

    arguments: ClassVar[dict[str, Any]] = {
        "argument_spec": {
            "path": {"type": "path", "required": True},
            "number": {"type": "int", "required": True},
            "name": {"type": "str", "required": True},
            "gate": {"type": "str", "required": True},
            "status": {
                "type": "str",
                "choices": ["started", "passed", "failed", "refused"],
                "required": True,
            },
            "evidence": {"type": "str"},
        },
        "required_if": [("status", s, ("evidence",)) for s in ("passed", "failed", "refused")],
    }

    def work(self, params: dict[str, Any], check: bool) -> dict[str, Any]:
        """Append the note."""
        params["evidence"] = plain(params["evidence"]) if params["evidence"] else None
        return _record.note(params.pop("path"), params, check)
