# SPDX-License-Identifier: Apache-2.0
"""A DynamoGraphDeployment (DGD): where it comes from, what it is and what it is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ._checks import label
from ._dgd_component import ServiceSpec
from ._dgd_engine import UNKNOWN
from ._dgd_places import AlphaPlaces, BetaPlaces, Places
from ._dgd_text import GraphMapping, GraphText
from ._dgd_tree import Tree, look, plain, put
from ._errors import FaultlineError

GROUP = "nvidia.com"
ALPHA, BETA = "v1alpha1", "v1beta1"
# Field of each version with the services.
SERVICES = {ALPHA: "services", BETA: "components"}


class Graph:
    """One DynamoGraphDeployment, and how to reach what it serves."""

    _source: GraphText | GraphMapping

    def __init__(
        self,
        path: str | os.PathLike[str],
        endpoint: str = "/v1/chat/completions",
        port: int = 8000,
        system_port: int = 9090,
    ) -> None:
        """Load the one DGD of a YAML file. Raises FaultlineError if there is none, or two."""
        try:
            text = Path(path).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise FaultlineError(f"Cannot read {path}: {error}.") from error
        self._open(GraphText(text, str(path)), str(path))
        self._endpoint, self._port, self._system_port = endpoint, port, system_port

    @classmethod
    def from_mapping(
        cls,
        graph: Mapping[str, Any],
        endpoint: str = "/v1/chat/completions",
        port: int = 8000,
        system_port: int = 9090,
    ) -> Self:
        """A DGD from a mapping, which itself stays as it is. Needs no ruamel.yaml."""
        made = cls.__new__(cls)
        made._open(GraphMapping(graph, "The definition"), "The definition")
        made._endpoint, made._port, made._system_port = endpoint, port, system_port
        return made

    def _open(self, source: GraphText | GraphMapping, name: str) -> None:
        self._source, self._root = source, source.root
        version = str(self._root.get("apiVersion") or "")
        group, _slash, suffix = version.rpartition("/")
        if version and group != GROUP:
            raise FaultlineError(f"{name} is of {version}: expected {GROUP}/{ALPHA} or /{BETA}.")
        listed = isinstance(look(self._root, "spec", SERVICES[BETA]), list)
        self._schema = suffix if suffix in SERVICES else BETA if listed else ALPHA
        other = SERVICES[ALPHA if self._schema == BETA else BETA]
        if look(self._root, "spec", other) is not None:
            raise FaultlineError(
                f"{name} is of {self._schema}, which has no spec.{other}: "
                f"expected spec.{SERVICES[self._schema]}."
            )

    def spec(self) -> dict[str, Any]:
        """The whole object as it is now, of built-in types: a copy to send or to compare."""
        found: dict[str, Any] = plain(self._root)
        return found

    def text(self) -> str:
        """The whole object as YAML; the text it came from, if nothing was changed."""
        return self._source.text()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text to a file, with the other documents of the one it came from."""
        Path(path).write_bytes(self.text().encode())

    @property
    def endpoint(self) -> str:
        """Path of the HTTP endpoint to ask."""
        return self._endpoint

    @property
    def port(self) -> int:
        """HTTP port of the frontend."""
        return self._port

    @property
    def system_port(self) -> int:
        """Port of the workers' health and metrics."""
        return self._system_port

    @property
    def schema(self) -> str:
        """`v1alpha1` or `v1beta1`: what `apiVersion` says, else what the object looks like."""
        return self._schema

    @property
    def api_version(self) -> str:
        """API version to send the object with."""
        return f"{GROUP}/{self._schema}"

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
        held, framework = spec.get(SERVICES[self._schema]) or [], spec.get("backendFramework")
        if self._schema == ALPHA:
            places: dict[str, Places] = {str(n): AlphaPlaces(spec, str(n)) for n in held}
        else:
            places = {str(c["name"]): BetaPlaces(c) for c in held if look(c, "name")}
        return [ServiceSpec(n, self._schema, at, framework) for n, at in places.items()]

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
