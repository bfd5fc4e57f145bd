# SPDX-License-Identifier: Apache-2.0
"""Filter: what the workers of a DynamoGraphDeployment need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._dgd_edits import edit
from ..module_utils._dgd_spec import DeploymentSpec
from ..module_utils._errors import FaultlineError


def dgd_workers(definition: Any, src: str = "", **edits: Any) -> dict[str, Any]:
    """Pods, GPUs and names of a DGD's workers; raises AnsibleFilterError for what is no DGD.

    `src` is a file in place of the definition, `edits` are those of the module dgd; what is empty
    is not given.
    """
    try:
        spec = DeploymentSpec(src) if src else DeploymentSpec.from_mapping(definition)
        edit(spec, {option: value for option, value in edits.items() if value})
        workers = spec.worker_services()
        return {
            "replicas": sum(worker.pods for worker in workers),
            "gpus": sum(worker.pods * worker.gpus for worker in workers),
            "gpus_of_largest": max((w.gpus for w in workers if w.pods), default=0),
            "names": [worker.name for worker in workers],
        }
    except FaultlineError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of this collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {"dgd_workers": dgd_workers}
