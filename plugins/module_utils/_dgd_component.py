# SPDX-License-Identifier: Apache-2.0
"""One service of a DGD, in either API version."""

from __future__ import annotations

from typing import Any

from ._checks import whole_number, word
from ._dgd_command import CommandLine
from ._dgd_engine import (
    BACKENDS,
    MODEL_FLAGS,
    NAME_FLAGS,
    TP_FLAGS,
    UNKNOWN,
    override,
    set_model,
    set_tensor_parallel,
    tensor_parallel,
)
from ._dgd_places import Places, Spot
from ._dgd_tree import add, drop, look, named, plain, put, set_fields
from ._errors import FaultlineError
from ._graph_predicates import WORKERS


class ServiceSpec:
    """A service (v1alpha1) or component (v1beta1): one kind of pod of the deployment."""

    def __init__(self, name: str, schema: str, places: Places, framework: str | None) -> None:
        self._name, self._schema, self._at, self._framework = name, schema, places, framework

    def _put(self, spot: Spot, key: str, value: Any) -> None:
        put(spot[0], (*spot[1], key), value)

    def __repr__(self) -> str:
        return f"ServiceSpec({self._name!r}, {self._schema})"

    @property
    def name(self) -> str:
        """Name of the service."""
        return self._name

    @property
    def schema(self) -> str:
        """`v1alpha1` or `v1beta1`."""
        return self._schema

    @property
    def component_type(self) -> str | None:
        """`frontend`, `worker`, … as the version has it: v1beta1 has `prefill` and `decode`."""
        return self._at.kind()[0]

    @property
    def sub_component_type(self) -> str | None:
        """`prefill` or `decode`, if the service is one of them."""
        return self._at.kind()[1]

    @property
    def is_worker(self) -> bool:
        """Whether it runs a model."""
        return self.component_type in WORKERS

    @property
    def image(self) -> str | None:
        """Image of the main container."""
        return plain(look(self._at.main(), "image"))

    @image.setter
    def image(self, value: str) -> None:
        self._put(self._at.main_spot(), "image", word(f"The image of service {self.name}", value))

    @property
    def runtime_version(self) -> str | None:
        """Version that is said to be in the image; needed when its tag is no version."""
        return plain(self._at.body.get("runtimeVersionOverride"))

    @runtime_version.setter
    def runtime_version(self, value: str) -> None:
        value = word(f"The runtime version of service {self.name}", value)
        self._put(self._at.whole(), "runtimeVersionOverride", value)

    @property
    def has_frontend_sidecar(self) -> bool:
        """Whether a frontend runs beside the worker."""
        return self._at.sidecar() is not None

    @property
    def frontend_sidecar_image(self) -> str | None:
        """Image of the frontend that runs beside a worker, if one does."""
        return plain(look(self._at.sidecar(), "image"))

    @frontend_sidecar_image.setter
    def frontend_sidecar_image(self, value: str) -> None:
        value = word(f"The sidecar's image of service {self.name}", value)
        sidecar = self._at.sidecar()
        if sidecar is None:
            raise FaultlineError(f"Service {self.name} has no frontend sidecar to set an image of.")
        put(sidecar, ("image",), value)

    @property
    def envs(self) -> list[dict[str, Any]]:
        """Environment variables as the main container gets them from the service."""
        found = {e.get("name"): plain(e) for entries in self._at.env_lists() for e in entries}
        return list(found.values())

    @envs.setter
    def envs(self, value: list[dict[str, Any]]) -> None:
        if value == self.envs:
            return
        tree, path = self._at.env_spot()
        if any(entries is not look(tree, *path) for entries in self._at.env_lists()):
            self._put(self._at.main_spot(), "env", [])
        put(tree, path, value)

    def get_env_var(self, name: str) -> str | None:
        """Value of a variable, None if it is not set or comes from elsewhere (`valueFrom`)."""
        return look(named(self.envs, name), "value")

    def set_env_var(self, name: str, value: str) -> None:
        """Set a variable where it counts; a `valueFrom` of before goes."""
        word(f"The name of a variable of service {self.name}", name)
        found = [named(entries, name) for entries in self._at.env_lists() if named(entries, name)]
        if found:
            set_fields(found[-1], value=str(value))
        else:
            add(*self._at.env_spot(), {"name": name, "value": str(value)})

    def remove_env_from_secret(self) -> None:
        """Take no environment variables from Secrets any more; ConfigMaps stay."""
        for place, key in self._at.secret_places():
            entries = place[key] if isinstance(place[key], list) else []
            kept = [entry for entry in entries if "secretRef" not in entry]
            if kept:
                put(place, (key,), kept)
            else:
                drop(place, key)

    @property
    def replicas(self) -> int:
        """Number of replicas; 1 when the field is missing, as the operator has it."""
        value = self._at.body.get("replicas")
        return 1 if value is None else int(value)

    @replicas.setter
    def replicas(self, value: int) -> None:
        value = whole_number(f"The replicas of service {self.name}", value, 0)
        self._put(self._at.whole(), "replicas", value)

    @property
    def nodes(self) -> int:
        """Number of nodes that a replica spans, with a pod on each."""
        return int(look(self._at.body, "multinode", "nodeCount") or 1)

    @property
    def pods(self) -> int:
        """Number of pods."""
        return self.replicas * self.nodes

    @property
    def command_line(self) -> CommandLine:
        """Command and arguments of the main container."""
        return CommandLine(self._at.main(), (), f"service {self.name}")

    def _line(self) -> CommandLine:
        """The command line to write."""
        return CommandLine(*self._at.main_spot(), f"service {self.name}")

    def set_arg(self, flag: str, value: str | None = None) -> None:
        """Add or change a flag of the engine; the value is taken literally, also in a script."""
        if not flag.startswith("-") or any(sign.isspace() for sign in flag):
            raise FaultlineError(f"{flag!r} is no flag for service {self.name}: it starts with -.")
        if not any(look(self._at.main(), key) for key in ("command", "args")):
            self._write_default_command(flag)
        self._line().set(flag, None if value is None else str(value))

    def _write_default_command(self, flag: str) -> None:
        """Write out what the operator runs by default: it does so only where no args are given."""
        if self.component_type != "frontend":
            raise FaultlineError(f"Service {self.name} has no command for {flag}: write one first.")
        self._put(self._at.main_spot(), "command", ["python3"])
        self._put(self._at.main_spot(), "args", ["-m", "dynamo.frontend"])

    @property
    def backend(self) -> str:
        """`vllm`, `sglang`, `trtllm`, `mocker` or `unknown`.

        The module of the command line says it, else the deployment's `backendFramework`.
        """
        engine = self.command_line.engine
        if engine is None and self.is_worker:
            engine = self._framework
        return engine if engine in BACKENDS else UNKNOWN

    @property
    def model(self) -> str | None:
        """Model (name or path) that the command line names."""
        return self.command_line.get(*MODEL_FLAGS)

    @model.setter
    def model(self, value: str) -> None:
        value = word(f"The model of service {self.name}", value)
        self.check_model()
        set_model(self._line(), value)

    def check_model(self) -> None:
        """Raise FaultlineError when no flag names the model."""
        if not any(self.command_line.has(flag) for flag in MODEL_FLAGS):
            raise FaultlineError(
                f"Service {self.name} names no model: looked for {' and '.join(MODEL_FLAGS)} in "
                f"`{self.command_line}`. Add the flag to its args."
            )

    @property
    def served_model_name(self) -> str | None:
        """Name that clients ask for: that of its own flag, else the model."""
        return self.command_line.get(*NAME_FLAGS) or self.model

    @property
    def gpus(self) -> int:
        """GPUs of each pod."""
        places = self._at.gpu_places("limits") or self._at.gpu_places("requests")
        value = places[0][0][places[0][1]] if places else 0
        try:
            return int(value)
        except ValueError:
            raise FaultlineError(
                f"Service {self.name} asks for {value!r} GPUs: expected a whole number."
            ) from None

    @gpus.setter
    def gpus(self, value: int) -> None:
        value = whole_number(f"The GPUs of service {self.name}", value, 0)
        limits = self._at.gpu_places("limits")
        if not limits:
            put(*self._at.gpu_spot(), str(value))
        # Kubernetes refuses requests of GPUs that differ from the limits.
        for place, key in limits + self._at.gpu_places("requests"):
            put(place, (key,), value if isinstance(place[key], int) else str(value))

    @property
    def tensor_parallel_size(self) -> int | None:
        """Tensor parallel size, 1 when the command line says none, None when it cannot be known."""
        return tensor_parallel(self.command_line, self.backend)

    @tensor_parallel_size.setter
    def tensor_parallel_size(self, value: int) -> None:
        self.check_tensor_parallel(value)
        set_tensor_parallel(self._line(), self.backend, value)
        self.gpus = value

    def check_tensor_parallel(self, value: int) -> None:
        """Raise FaultlineError when a tensor parallel size cannot be set."""
        whole_number("The tensor parallel size", value, 1)
        problem = None
        if not self.gpus:
            problem = "it asks for no GPU"
        elif self.backend not in TP_FLAGS:
            problem = f"`{self.command_line}` runs none of {', '.join(TP_FLAGS)}"
        elif not self.command_line.extensible:
            problem = "no command of its script runs an engine"
        elif self.nodes > 1:
            problem = f"a replica of it spans {self.nodes} nodes: set flag and GPUs by hand"
        if problem:
            raise FaultlineError(f"Service {self.name} has no tensor parallel size: {problem}.")
        if self.backend == "trtllm":
            override(self.command_line)

    def add_pvc_mount(self, claim: str, path: str) -> None:
        """Mount a PersistentVolumeClaim of the namespace; the same mount twice is one."""
        self.check_pvc_mount(claim, path)
        self._at.mount(claim, path)

    def check_pvc_mount(self, claim: str, path: str) -> None:
        """Raise FaultlineError when a claim cannot be mounted at a path."""
        word("The name of a PersistentVolumeClaim", claim)
        if not word("A mount's path", path).startswith("/"):
            raise FaultlineError(f"The mount's path {path!r} must begin with a slash.")
        volume = self._at.volume(claim)
        if self._at.mounts().get(path, volume) != volume:
            problem = f"has the volume {self._at.mounts()[path]} at {path}: mount {claim} elsewhere"
        elif self._at.taken(claim):
            problem = f"has a volume {volume} that is not the claim {claim}: rename it first"
        else:
            return
        raise FaultlineError(f"Service {self.name} {problem}.")

    def set_termination_grace_period(self, seconds: int = 60) -> None:
        """Give the pod so many seconds between SIGTERM and SIGKILL."""
        seconds = whole_number(f"The grace period of service {self.name}", seconds, 0)
        self._put(self._at.pod_spot(), "terminationGracePeriodSeconds", seconds)

    def set_readiness_probe(
        self,
        period: int = 10,
        initial: int = 0,
        timeout: int = 4,
        threshold: int = 3,
        path: str = "/health",
        port: int = 9090,
    ) -> None:
        """Replace the readiness probe by an HTTP GET; times in seconds."""
        probe = {
            "httpGet": {"path": path, "port": whole_number("The probe's port", port, 1)},
            "initialDelaySeconds": whole_number("The probe's initial delay", initial, 0),
            "periodSeconds": whole_number("The probe's period", period, 1),
            "timeoutSeconds": whole_number("The probe's timeout", timeout, 1),
            "failureThreshold": whole_number("The probe's threshold", threshold, 1),
        }
        self._put(self._at.probes_spot(), "readinessProbe", probe)
