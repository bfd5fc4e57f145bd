# SPDX-License-Identifier: Apache-2.0
"""Edits of a DGD that a module's options ask for, each done by DeploymentSpec. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._dgd_spec import DeploymentSpec
from ._errors import FaultlineError


def edit(spec: DeploymentSpec, options: Mapping[str, Any]) -> None:
    """Apply `model`, `image`, `tensor_parallel`, `replicas`, `envs`, `logging`, `router_mode` and
    `grove`, as far as they are given. Raises FaultlineError for what the DGD cannot take."""
    if options.get("model") is not None:
        spec.set_model(options["model"])
    if options.get("image") is not None:
        spec.set_image(options["image"])
    if options.get("tensor_parallel") is not None:
        spec.set_tensor_parallel(options["tensor_parallel"])
    for service, number in (options.get("replicas") or {}).items():
        spec.set_service_replicas(service, number)
    _set_envs(spec, options.get("envs") or {})
    if (logging := options.get("logging")) is not None:
        spec.set_logging(logging.get("jsonl", True), logging.get("level"))
    if options.get("router_mode") is not None:
        spec.set_router_mode(options["router_mode"])
    if options.get("grove") is not None:
        spec.disable_grove(not options["grove"])


def _set_envs(spec: DeploymentSpec, envs: Mapping[str, Any]) -> None:
    """Set variables in all workers."""
    if envs and not spec.worker_names():
        raise FaultlineError(f"The DGD has no worker to set {', '.join(envs)} in.")
    for name, value in envs.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise FaultlineError(
                f"The value of the variable {name} must be a text, not {value!r}: quote it."
            )
        for worker in spec.worker_names():
            spec.set_service_env_var(worker, name, str(value))
