# SPDX-License-Identifier: Apache-2.0
"""How pods of a DGD are restarted. Pure functions.

All components: by the operator's own `spec.restart.id`, one after the other (recorded). It knows no
single component. One of them: by a variable in its pod template, which replaces the pods of a
frontend, and those of all workers together when it is in any of them (recorded).
"""

from __future__ import annotations

from ._client import GRAPH, Obj
from ._dgd_overlay import overlay, schema_of
from ._dgd_spec import DeploymentSpec

# Two field managers: what one of them does not say any more would be taken out.
ALL, ONE = "faultline-dgd-restart", "faultline-dgd-restart-component"
VARIABLE = "FAULTLINE_RESTART_ID"


def restart_of_all(graph: Obj, restart_id: str) -> Obj:
    """Body of a server-side apply that restarts all components."""
    meta = {key: graph["metadata"][key] for key in ("name", "namespace")}
    body = {"apiVersion": GRAPH.api_version, "kind": GRAPH.kind, "metadata": meta}
    return body | {"spec": {"restart": {"id": restart_id}}}


def restart_of_one(graph: Obj, component: str, restart_id: str) -> Obj:
    """Body of a server-side apply that restarts a component, in the version of the DGD's owner.

    Earlier restarts of others stay in it: taking their variable out would restart them, too. Raises
    FaultlineError when there is no such component.
    """
    spec = DeploymentSpec.from_mapping(graph)
    chosen = spec.get_service(component).name
    ids = {s.name: s.get_env_var(VARIABLE) for s in spec.services} | {chosen: restart_id}
    added = {
        name: {"container": {"env": [{"name": VARIABLE, "value": found}]}}
        for name, found in ids.items()
        if found
    }
    return overlay(graph, schema_of(graph, ONE), added)
