# SPDX-License-Identifier: Apache-2.0
"""A DynamoGraphDeployment (DGD) to load, edit and save, in the API version that it is written in.

A model that no flag names is an error, and the served name follows the model; tensor parallelism
has each engine's own flag and is refused where there is no GPU; missing replicas are one; logging
goes to the field that the version has (`spec.envs` or `spec.env`); workers are found by type in
both versions, never by name. What a setter does to several services it does to all of them or, on
an error, to none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from ._checks import label, word
from ._dgd_component import ServiceSpec
from ._dgd_engine import UNKNOWN
from ._dgd_places import AlphaPlaces, BetaPlaces, Places
from ._dgd_text import GraphMapping, GraphText
from ._dgd_tree import Tree, look, named, plain, put, set_named
from ._errors import FaultlineError

GROUP = "nvidia.com"
ALPHA, BETA = "v1alpha1", "v1beta1"
# Fields of each version with the services and with the environment of all services.
SERVICES = {ALPHA: "services", BETA: "components"}
ENV = {ALPHA: "envs", BETA: "env"}
GROVE = "nvidia.com/enable-grove"
JSONL, LEVEL = "DYN_LOGGING_JSONL", "DYN_LOG"
ROUTER, ROUTER_FLAG = "DYN_ROUTER_MODE", "--router-mode"
MODEL_CACHE = "HF_HOME"


class DeploymentSpec:
    """A DGD and what can be changed about it.

    `schema` is `v1alpha1` or `v1beta1`, as `apiVersion` says, else as the object looks. `endpoint`
    is the path to ask at the frontend's `port`; workers have health and metrics at `system_port`.
    """

    endpoint, port, system_port = "/v1/chat/completions", 8000, 9090

    def __init__(
        self,
        path: str | os.PathLike[str],
        endpoint: str = endpoint,
        port: int = port,
        system_port: int = system_port,
    ) -> None:
        """Load the one DGD of a YAML file. Raises FaultlineError if there is none, or two."""
        try:
            text = Path(path).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise FaultlineError(f"Cannot read {path}: {why}.") from error
        self._open(GraphText(text, str(path)), str(path))
        self.endpoint, self.port, self.system_port = endpoint, port, system_port

    @classmethod
    def from_mapping(cls, graph: Mapping[str, Any]) -> Self:
        """A DGD from a mapping, which itself stays as it is. Needs no ruamel.yaml."""
        made = cls.__new__(cls)
        made._open(GraphMapping(graph, "The definition"), "The definition")
        return made

    def _open(self, source: GraphText | GraphMapping, name: str) -> None:
        self._source: GraphText | GraphMapping = source
        self._root: Tree = source.root
        version = str(self._root.get("apiVersion") or "")
        group, _slash, suffix = version.rpartition("/")
        if version and group != GROUP:
            raise FaultlineError(f"{name} is of {version}: expected {GROUP}/{ALPHA} or /{BETA}.")
        listed = isinstance(look(self._root, "spec", SERVICES[BETA]), list)
        self.schema = suffix if suffix in SERVICES else BETA if listed else ALPHA
        other = SERVICES[ALPHA if self.schema == BETA else BETA]
        if look(self._root, "spec", other) is not None:
            raise FaultlineError(
                f"{name} is of {self.schema}, which has no spec.{other}: "
                f"expected spec.{SERVICES[self.schema]}."
            )

    def spec(self) -> dict[str, Any]:
        """The whole object as it is now, of built-in types: a copy to send or to compare."""
        return dict(plain(self._root))

    def text(self) -> str:
        """The whole object as YAML; the text it came from, if nothing was changed."""
        return self._source.text()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text to a file, with the other documents of the one it came from."""
        Path(path).write_bytes(self.text().encode())

    @property
    def api_version(self) -> str:
        """API version to send the object with."""
        return f"{GROUP}/{self.schema}"

    @property
    def name(self) -> str:
        """Name of the DGD."""
        found = look(self._root, "metadata", "name")
        if not found:
            raise FaultlineError("The DGD has no metadata.name: set one.")
        return str(found)

    @name.setter
    def name(self, value: str) -> None:
        put(self._root, ("metadata", "name"), label("The name of a DGD", value))

    @property
    def namespace(self) -> str | None:
        """Namespace, if the object names one."""
        return plain(look(self._root, "metadata", "namespace"))

    @namespace.setter
    def namespace(self, value: str) -> None:
        put(self._root, ("metadata", "namespace"), label("A namespace", value))

    @property
    def services(self) -> list[ServiceSpec]:
        """All services, in the order of the object."""
        spec: Tree = look(self._root, "spec") or {}
        held, framework = spec.get(SERVICES[self.schema]) or [], spec.get("backendFramework")
        if self.schema == ALPHA:
            places: dict[str, Places] = {str(n): AlphaPlaces(spec, str(n)) for n in held}
        else:
            places = {str(c["name"]): BetaPlaces(c) for c in held if look(c, "name")}
        return [ServiceSpec(n, self.schema, at, framework) for n, at in places.items()]

    def get_service(self, name: str) -> ServiceSpec:
        """A service by its name; case is no matter as long as only one fits."""
        known = self.services
        exact = [s for s in known if s.name == name]
        alike = [s for s in known if s.name.lower() == name.lower()]
        found = exact or alike
        if len(found) == 1:
            return found[0]
        raise FaultlineError(
            f"The DGD has no service {name!r}: it has "
            f"{', '.join(s.name for s in known) or 'no service at all'}."
        )

    def __getitem__(self, name: str) -> ServiceSpec:
        return self.get_service(name)

    def worker_services(self) -> list[ServiceSpec]:
        """Services that run a model."""
        return [s for s in self.services if s.is_worker]

    def worker_names(self) -> list[str]:
        """Names of the services that run a model."""
        return [s.name for s in self.worker_services()]

    @property
    def frontend_service(self) -> ServiceSpec:
        """The service that answers HTTP. Raises FaultlineError without one."""
        found = [s for s in self.services if s.component_type == "frontend"]
        if not found:
            raise FaultlineError("The DGD has no service of type frontend.")
        return found[0]

    def in_cluster_frontend_url(self, namespace: str | None = None) -> str:
        """Address of the frontend's Service, from inside the cluster."""
        namespace = namespace or self.namespace
        if not namespace:
            raise FaultlineError(f"DGD {self.name} names no namespace: give one.")
        host = f"{self.name}-{self.frontend_service.name.lower()}.{namespace}"
        return f"http://{host}.svc.cluster.local:{self.port}"

    @property
    def backend(self) -> str:
        """Engine of the workers as their command lines say, `unknown` if not one for all."""
        found = {s.backend for s in self.worker_services()}
        return found.pop() if len(found) == 1 else UNKNOWN

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
        """Set the number of replicas of a service."""
        self.get_service(service).replicas = replicas

    def get_service_replicas(self, service: str) -> int:
        """Number of replicas of a service."""
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

    def disable_grove(self, disabled: bool = True) -> None:
        """Have the operator make Deployments instead of Grove's pod cliques, or not so."""
        put(self._root, ("metadata", "annotations", GROVE), "false" if disabled else "true")

    def remove_env_from_secret(self) -> None:
        """Take no variables from Secrets, for a namespace that has none (a public model, say)."""
        for service in self.services:
            service.remove_env_from_secret()

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
