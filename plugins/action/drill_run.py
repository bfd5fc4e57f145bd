# SPDX-License-Identifier: Apache-2.0
"""Action behind the module drill_run."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.faultline.gpu.plugins.module_utils import _record
from ansible_collections.faultline.gpu.plugins.plugin_utils.local_action import LocalAction


class ActionModule(LocalAction):
    """Keep the record of a drill."""

    arguments: ClassVar[dict[str, Any]] = {
        "argument_spec": {
            "results_dir": {"type": "path", "required": True},
            "run_id": {"type": "str"},
            "facts": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "taken_over"], "default": "present"},
            "force": {"type": "bool", "default": False},
        }
    }

    def work(self, params: dict[str, Any], check: bool) -> dict[str, Any]:
        """Add the facts, or take the run over."""
        if params["state"] == "taken_over":
            return _record.take_over(
                params["results_dir"], params["run_id"], params["force"], check
            )
        return _record.keep(params["results_dir"], params["run_id"], params["facts"], check)
