# SPDX-License-Identifier: Apache-2.0
"""Base of the actions that keep a drill's record: they only touch files beside the playbook.

They run inside Ansible itself, without a process of their own: a drill notes its progress twenty
times, and the least of modules costs 17 times as much as an action (0.68 s against 0.04 s on two
cores, `tests/benchmarks/action_cost.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..module_utils._errors import FaultlineError


class LocalAction(ActionBase):
    """An action with checked arguments, check mode and errors in sentences."""

    _supports_check_mode = True
    _requires_connection = False
    # What `ActionBase.validate_argument_spec` takes.
    arguments: ClassVar[dict[str, Any]]

    @abstractmethod
    def work(self, params: dict[str, Any], check: bool) -> dict[str, Any]:
        """The result; raises FaultlineError with what was wrong."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Check the arguments, do the work."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(**self.arguments)
        try:
            return result | self.work(params, self._task.check_mode)
        except FaultlineError as error:
            raise AnsibleActionFail(str(error)) from None
