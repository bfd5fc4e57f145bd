# SPDX-License-Identifier: Apache-2.0
"""What the modules share: options that say which cluster, and the one place that catches errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._client import Cluster
from ._errors import FaultlineError

CLUSTER_ARGS: dict[str, Any] = {
    # The variables of kubernetes.core, so that roles that use both work on one cluster.
    "kubeconfig": {
        "type": "path",
        "aliases": ["config_file"],
        "fallback": (env_fallback, ["K8S_AUTH_KUBECONFIG"]),
    },
    "context": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_CONTEXT"])},
}


def refuse_empty(module: AnsibleModule, required_if: Sequence[Sequence[Any]]) -> None:
    """Fail when an option that must be given is an empty text, as a role's default may be.

    `required_if` is the module's; rules that one of several options fulfils are left out.
    """
    wanted = [name for name, option in module.argument_spec.items() if option.get("required")]
    for option, value, names, *one_of in required_if:
        wanted += names if module.params[option] == value and not any(one_of) else []
    if empty := [name for name in wanted if module.params[name] == ""]:
        module.fail_json(
            msg=f"{' and '.join(empty)} must not be empty: give the option of the module "
            f"{module._name}, or the variable of the role that uses it."
        )


def run(
    spec: dict[str, Any],
    work: Callable[[AnsibleModule, Cluster], dict[str, Any]],
    **options: Any,
) -> None:
    """Run a module: read its options, connect, do the work, answer in full sentences."""
    module = AnsibleModule(argument_spec=CLUSTER_ARGS | spec, supports_check_mode=True, **options)
    refuse_empty(module, options.get("required_if", ()))
    try:
        import kubernetes  # noqa: F401
    except ImportError:
        module.fail_json(msg=missing_required_lib("kubernetes"))
    try:
        cluster = Cluster(module.params["kubeconfig"], module.params["context"])
        result = work(module, cluster)
    except FaultlineError as error:
        module.fail_json(msg=str(error), **error.details)
    else:
        module.exit_json(**({"changed": False} | result))
