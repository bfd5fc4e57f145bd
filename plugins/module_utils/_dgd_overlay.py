# SPDX-License-Identifier: Apache-2.0
"""Additions to components of a stored DGD, for server-side apply. Pure functions.

An addition must speak the API version in which the DGD is written. `envs` of a v1alpha1 service is
one list with one owner, and what v1beta1 adds to the container lands in it: that is a conflict with
whoever applied the file (recorded: 409 on `.spec.services.<name>.envs`). Force takes the whole list
from its owner: taking the addition out again then empties it, and if the owner applies his file in
between, the addition is gone without a word (both seen on an API server 1.34). Said in v1alpha1,
the same goes to `extraPodSpec.mainContainer.env`, a list by name: no conflict (recorded), everybody
keeps what is his, and what is taken out leaves the specification as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._client import GRAPH, Kind, Obj
from ._dgd_spec import ALPHA, BETA, GROUP, SERVICES

MAIN = "main"


def schema_of(graph: Obj, manager: str) -> str:
    """API version for additions of a field manager: the one of its last apply, else the owner's."""
    entries = graph["metadata"].get("managedFields") or []
    mine = [e for e in entries if e.get("manager") == manager and e.get("operation") == "Apply"]
    owners = [e for e in entries if "f:services" in _of_spec(e)]
    used = [e["apiVersion"] for e in mine or owners]
    return ALPHA if f"{GROUP}/{ALPHA}" in used else BETA


def _of_spec(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    return found


def kind_in(schema: str) -> Kind:
    """DGDs in an API version."""
    return Kind(f"{GROUP}/{schema}", GRAPH.kind)


def parts(graph: Obj) -> dict[str, Obj]:
    """Components or services of a DGD by name, in whatever version it came."""
    spec = graph.get("spec") or {}
    services = spec.get(SERVICES[ALPHA])
    if services is not None:
        return dict(services)
    return {c["name"]: c for c in spec.get(SERVICES[BETA]) or []}


def overlay(graph: Obj, schema: str, added: Mapping[str, Obj]) -> Obj:
    """Body of a server-side apply that adds to components, by name.

    An addition has `container` (fields of the main container) and `volumes` of the pod. An empty
    one names the component only: that takes out what the same manager had added.
    """
    held: Any = {}
    for name, addition in added.items():
        pod = {"volumes": addition["volumes"]} if "volumes" in addition else {}
        if "container" not in addition:
            container: Obj = {}
        elif schema == ALPHA:
            container = {"mainContainer": addition["container"]}
        else:
            container = {"containers": [{"name": MAIN, **addition["container"]}]}
        held[name] = container | pod
    if schema == ALPHA:
        held = {name: {"extraPodSpec": pod} if pod else {} for name, pod in held.items()}
    else:
        held = [
            {"name": name, **({"podTemplate": {"spec": pod}} if pod else {})}
            for name, pod in held.items()
        ]
    return {
        "apiVersion": kind_in(schema).api_version,
        "kind": GRAPH.kind,
        "metadata": {key: graph["metadata"][key] for key in ("name", "namespace")},
        "spec": {SERVICES[schema]: held},
    }
