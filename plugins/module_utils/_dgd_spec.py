# SPDX-License-Identifier: Apache-2.0
"""A DynamoGraphDeployment (DGD) to load, edit and save, in the API version that it is written in.

Mended here, all of it documented or recorded elsewhere as going wrong without a word: a model that
no flag names is an error instead of a setting without effect, and the served name follows the
model; tensor parallelism has each engine's own flag and is refused where there is no GPU; missing
replicas are one, not none; logging goes to the field that the version has (`spec.envs` or
`spec.env`); workers are found by type in both versions, never by name; unknown services and
values out of range are sentences. A text keeps its comments, order, quotes and unknown fields.

What a setter does to several services it does to all of them or, on an error, to none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._checks import word
from ._dgd_component import ServiceSpec
from ._dgd_graph import ALPHA, BETA, Graph
from ._dgd_tree import look, named, put, set_named
from ._errors import FaultlineError

# Field of each version with the environment of all services.
ENV = {ALPHA: "envs", BETA: "env"}
GROVE = "nvidia.com/enable-grove"
JSONL, LEVEL = "DYN_LOGGING_JSONL", "DYN_LOG"
ROUTER, ROUTER_FLAG = "DYN_ROUTER_MODE", "--router-mode"
MODEL_CACHE = "HF_HOME"


class DeploymentSpec(Graph):
    """A DGD and what can be changed about it."""

    def _chosen(self, service: str | None) -> list[ServiceSpec]:
        return self.services if service is None else [self.get_service(service)]

    def _workers(self) -> list[ServiceSpec]:
        found = self.worker_services()
        if not found:
            raise FaultlineError(
                "The DGD has no worker: no service is of type worker, prefill or decode."
            )
        return found

    def set_model(self, model: str, service: str | None = None) -> None:
        """Serve another model, in one service or in every worker and who else names a model.

        `--model`, `--model-path` and, where given, `--served-model-name` and `--model-name` all
        become the model: clients ask for it by that name.
        """
        named_by = [s for s in self.services if not s.is_worker and s.model is not None]
        chosen = self._workers() + named_by if service is None else self._chosen(service)
        for each in chosen:
            each.check_model()
        for each in chosen:
            each.model = model

    def set_image(self, image: str, service: str | None = None) -> None:
        """Set the main container's image of one service or of all."""
        for each in self._chosen(service):
            each.image = image

    def set_frontend_sidecar_image(self, image: str, service: str | None = None) -> None:
        """Set the image of the frontend sidecar of one service or of all that have one."""
        chosen = self._chosen(service)
        if service is None:
            chosen = [s for s in chosen if s.has_frontend_sidecar]
            if not chosen:
                raise FaultlineError("No service of the DGD has a frontend sidecar.")
        for each in chosen:
            each.frontend_sidecar_image = image

    def set_tensor_parallel(self, tp: int, services: Iterable[str] | None = None) -> None:
        """Set tensor parallel size and GPUs of these services or of all that ask for GPUs."""
        if services is None:
            chosen = [s for s in self.services if s.gpus]
            if not chosen:
                raise FaultlineError("No service of the DGD asks for a GPU.")
        else:
            names = [services] if isinstance(services, str) else services
            chosen = [self.get_service(name) for name in names]
        for each in chosen:
            each.check_tensor_parallel(tp)
        for each in chosen:
            each.tensor_parallel_size = tp

    def set_service_env_var(self, service: str, name: str, value: str) -> None:
        """Set an environment variable of a service."""
        self.get_service(service).set_env_var(name, value)

    def get_service_env_vars(self, service: str) -> list[dict[str, Any]]:
        """Environment variables of a service, each with `name` and `value` or `valueFrom`."""
        return self.get_service(service).envs

    def add_arg_to_service(self, service: str, flag: str, value: str | None = None) -> None:
        """Add a flag to a service's command line, or change it."""
        self.get_service(service).set_arg(flag, value)

    def set_service_replicas(self, service: str, replicas: int) -> None:
        """Set the number of pods of a service."""
        self.get_service(service).replicas = replicas

    def get_service_replicas(self, service: str) -> int:
        """Number of pods of a service."""
        return self.get_service(service).replicas

    def _set_env(self, name: str, value: str) -> None:
        """Set a variable for all services, also in those that set it themselves."""
        set_named(self._root, ("spec", ENV[self.schema]), name, value=value)
        for service in self.services:
            if named(service.envs, name):
                service.set_env_var(name, value)

    def set_logging(self, enable_jsonl: bool = True, log_level: str | None = "debug") -> None:
        """Set the log format and, unless None, the level of all services."""
        if log_level is not None:
            word("The log level", log_level)
        self._set_env(JSONL, "true" if enable_jsonl else "false")
        if log_level is not None:
            self._set_env(LEVEL, log_level)

    def get_logging_config(self) -> dict[str, Any]:
        """Log format and level of all services: `jsonl_enabled` and `log_level`."""
        found = look(self._root, "spec", ENV[self.schema])
        jsonl = str(look(named(found, JSONL), "value")).lower()
        level = look(named(found, LEVEL), "value")
        return {
            "jsonl_enabled": jsonl in ("true", "1"),
            "log_level": None if level is None else str(level),
        }

    def disable_grove(self) -> None:
        """Have the operator make Deployments instead of Grove's pod cliques."""
        put(self._root, ("metadata", "annotations", GROVE), "false")

    def set_router_mode(self, mode: str) -> None:
        """Set how the frontend spreads requests, such as `kv`; also its flag, which would win."""
        frontend = self.frontend_service
        frontend.set_env_var(ROUTER, word("The router mode", mode))
        if frontend.command_line.has(ROUTER_FLAG):
            frontend.set_arg(ROUTER_FLAG, mode)

    def mount_model_cache_pvc(self, claim: str, path: str = "/models") -> None:
        """Mount a claim with models into all services and have them look for models there."""
        for service in self.services:
            service.check_pvc_mount(claim, path)
        for service in self.services:
            service.add_pvc_mount(claim, path)
        self._set_env(MODEL_CACHE, path)

    def set_runtime_version(self, version: str, service: str | None = None) -> None:
        """Say which runtime is in an image whose tag does not: of one service or of all."""
        for each in self._chosen(service):
            each.runtime_version = version
