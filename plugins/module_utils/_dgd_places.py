# SPDX-License-Identifier: Apache-2.0
"""Where each API version of a DGD keeps what a service is made of.

Both lay the same pod out; the v1alpha1 places and their precedence are the recorded ones of the
conversion to v1beta1: the main container's own env and resources win over the service's, the
service's probe over the main container's.
"""

from __future__ import annotations

import re
from typing import Protocol

from ._dgd_tree import Path, Tree, add, look, named

Spot = tuple[Tree, Path]
GPU = "nvidia.com/gpu"
SIDECAR = "sidecar-frontend"
CLAIM = ("persistentVolumeClaim", "claimName")
POD = ("podTemplate", "spec")
ROLES = ("prefill", "decode")
# A claim's name may be longer than a volume's and hold dots.
NO_LABEL = re.compile(r"[^a-z0-9-]+")


class Places(Protocol):
    """The places of one service. What is only read is None where it is missing."""

    @property
    def body(self) -> Tree:
        """The service's own mapping, to read."""

    def whole(self) -> Spot:
        """The service's own mapping, to write."""

    def kind(self) -> tuple[str | None, str | None]:
        """Component type and sub-type."""

    def main(self) -> Tree:
        """The main container."""

    def main_spot(self) -> Spot:
        """The main container, to write."""

    def pod_spot(self) -> Spot:
        """The pod's specification, to write."""

    def env_lists(self) -> list[Tree]:
        """Lists of environment variables; of two with one name the later one counts."""

    def env_spot(self) -> Spot:
        """Where new variables go."""

    def secret_places(self) -> list[tuple[Tree, str]]:
        """Mappings that take environment variables from Secrets, with the key."""

    def gpu_places(self, section: str) -> list[tuple[Tree, str]]:
        """Mappings that hold the number of GPUs, with the key; the first one counts."""

    def gpu_spot(self) -> Spot:
        """Where the limit goes when there is none."""

    def probes_spot(self) -> Spot:
        """The mapping that holds the probes that count."""

    def sidecar(self) -> Tree:
        """The mapping with the frontend sidecar's image."""

    def mounts(self) -> dict[str, str]:
        """Names of what is mounted, by path."""

    def volume(self, claim: str) -> str:
        """Name of the volume that stands for a PersistentVolumeClaim."""

    def taken(self, claim: str) -> bool:
        """Whether that name stands for something else."""

    def mount(self, claim: str, path: str) -> None:
        """Make that volume and mount it, where that is missing."""


class AlphaPlaces:
    """v1alpha1: a service's own fields beside `extraPodSpec.mainContainer`."""

    def __init__(self, spec: Tree, name: str) -> None:
        self._spec, self._name = spec, name

    @property
    def body(self) -> Tree:
        return look(self._spec, "services", self._name) or {}

    def whole(self) -> Spot:
        return self._spec, ("services", self._name)

    def _spot(self, *path: str) -> Spot:
        return self._spec, ("services", self._name, *path)

    def kind(self) -> tuple[str | None, str | None]:
        return self.body.get("componentType"), self.body.get("subComponentType")

    def main(self) -> Tree:
        return look(self.body, "extraPodSpec", "mainContainer")

    def main_spot(self) -> Spot:
        return self._spot("extraPodSpec", "mainContainer")

    def pod_spot(self) -> Spot:
        return self._spot("extraPodSpec")

    def env_lists(self) -> list[Tree]:
        lists = [self.body.get("envs"), look(self.main(), "env")]
        return [entries for entries in lists if entries]

    def env_spot(self) -> Spot:
        return self._spot("envs")

    def secret_places(self) -> list[tuple[Tree, str]]:
        places = [(self.body, "envFromSecret"), (self.main(), "envFrom")]
        return [(place, key) for place, key in places if look(place, key)]

    def gpu_places(self, section: str) -> list[tuple[Tree, str]]:
        own = look(self.body, "resources", section)
        places = [
            (look(self.main(), "resources", section), GPU),
            (look(own, "custom"), GPU),
            (own, "gpu"),
        ]
        return [(place, key) for place, key in places if look(place, key) is not None]

    def gpu_spot(self) -> Spot:
        return self._spot("resources", "limits", "gpu")

    def probes_spot(self) -> Spot:
        return self.whole()

    def sidecar(self) -> Tree:
        return look(self.body, "frontendSidecar")

    def mounts(self) -> dict[str, str]:
        found = {m.get("mountPath"): m.get("name") for m in look(self.main(), "volumeMounts") or []}
        own = self.body.get("volumeMounts") or []
        return {**found, **{m.get("mountPoint"): m.get("name") for m in own}}

    def volume(self, claim: str) -> str:
        return claim

    def taken(self, claim: str) -> bool:
        return False

    def mount(self, claim: str, path: str) -> None:
        if not named(self._spec.get("pvcs"), claim):
            add(self._spec, ("pvcs",), {"name": claim, "create": False})
        if path not in self.mounts():
            tree, place = self._spot("volumeMounts")
            add(tree, place, {"name": claim, "mountPoint": path})


class BetaPlaces:
    """v1beta1: a pod template whose container `main` is the service's."""

    def __init__(self, component: Tree) -> None:
        self.body = component

    def whole(self) -> Spot:
        return self.body, ()

    def kind(self) -> tuple[str | None, str | None]:
        kind = self.body.get("type")
        return kind, kind if kind in ROLES else None

    def _containers(self) -> Tree:
        return look(self.body, *POD, "containers")

    def main(self) -> Tree:
        return named(self._containers(), "main")

    def main_spot(self) -> Spot:
        if not self.main():
            add(self.body, (*POD, "containers"), {"name": "main"})
        return self.main(), ()

    def pod_spot(self) -> Spot:
        return self.body, POD

    def env_lists(self) -> list[Tree]:
        entries = look(self.main(), "env")
        return [entries] if entries else []

    def env_spot(self) -> Spot:
        return self.main_spot()[0], ("env",)

    def secret_places(self) -> list[tuple[Tree, str]]:
        return [(self.main(), "envFrom")] if look(self.main(), "envFrom") else []

    def gpu_places(self, section: str) -> list[tuple[Tree, str]]:
        place = look(self.main(), "resources", section)
        return [(place, GPU)] if look(place, GPU) is not None else []

    def gpu_spot(self) -> Spot:
        return self.main_spot()[0], ("resources", "limits", GPU)

    def probes_spot(self) -> Spot:
        return self.main_spot()

    def sidecar(self) -> Tree:
        return named(self._containers(), str(self.body.get("frontendSidecar") or SIDECAR))

    def _volumes(self) -> list[Tree]:
        return look(self.body, *POD, "volumes") or []

    def mounts(self) -> dict[str, str]:
        found = look(self.main(), "volumeMounts") or []
        return {m.get("mountPath"): m.get("name") for m in found}

    def volume(self, claim: str) -> str:
        ours = [str(v["name"]) for v in self._volumes() if look(v, *CLAIM) == claim]
        return ours[0] if ours else NO_LABEL.sub("-", claim)[:63].strip("-")

    def taken(self, claim: str) -> bool:
        there = named(self._volumes(), self.volume(claim))
        return there is not None and look(there, *CLAIM) != claim

    def mount(self, claim: str, path: str) -> None:
        name = self.volume(claim)
        if not named(self._volumes(), name):
            add(self.body, (*POD, "volumes"), {"name": name, CLAIM[0]: {CLAIM[1]: claim}})
        if path not in self.mounts():
            mount = {"name": name, "mountPath": path}
            add(self.main_spot()[0], ("volumeMounts",), mount)
