# SPDX-License-Identifier: Apache-2.0
"""What the modules share: options that say which cluster, and the one place that catches errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._client import Cluster
from ._errors import FaultlineError

CLUSTER_ARGS: dict[str, Any] = {
    "kubeconfig": {"type": "path", "aliases": ["config_file"]},
    "context": {"type": "str"},
}


def run(
    spec: dict[str, Any],
    work: Callable[[AnsibleModule, Cluster], dict[str, Any]],
    **options: Any,
) -> None:
    """Run a module: read its options, connect, do the work, answer in full sentences."""
    module = AnsibleModule(argument_spec=CLUSTER_ARGS | spec, supports_check_mode=True, **options)
    try:
        cluster = Cluster(module.params["kubeconfig"], module.params["context"])
        result = work(module, cluster)
    except FaultlineError as error:
        module.fail_json(msg=str(error), **error.details)
    else:
        module.exit_json(**({"changed": False} | result))
