# SPDX-License-Identifier: Apache-2.0
"""What explains a drill afterwards, without what must stay secret. Pure functions.

Secrets and ConfigMaps are never read. Values that stand literally in a pod's specification under a
name that tells of a secret are replaced, there and wherever else they occur.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._objects import GRAPH_LABEL

Obj = Mapping[str, Any]

HIDDEN = "(not kept)"
SECRET_NAME = re.compile(r"(?i)token$|secret|passw|api_?key|access_?key|private_?key|credential")
SECRET_TEXT = re.compile(
    r"(?i)(--[\w-]*(?:token|secret|password|api-key|credential)s?[= ]"
    r"|bearer |authorization: basic )(?!\(not kept)\S+"
)
# Where metrics are, by the port's name as the Dynamo operator sets it (recorded), or its number.
METRICS_PORTS = {"http": 8000, "system": 9090}
DROPPED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class Piece:
    """Something to fetch: file it goes to below the folder, and path at a pod's address."""

    file: str
    namespace: str
    pod: str
    path: str


def secrets_in(value: Any) -> set[str]:
    """Literal values of variables whose names tell of a secret, at any depth."""
    if isinstance(value, Mapping):
        name, text = value.get("name"), value.get("value")
        mine = (
            {text}
            if isinstance(name, str) and isinstance(text, str) and SECRET_NAME.search(name)
            else set()
        )
        return mine.union(*(secrets_in(v) for v in value.values())) - {""}
    if isinstance(value, list):
        return set().union(*(secrets_in(v) for v in value))
    return set()


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, and without what follows an option that tells of one."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return SECRET_TEXT.sub(rf"\1{HIDDEN}", text)


def cleaned(value: Any, secrets: Iterable[str] = ()) -> Any:
    """An object without bookkeeping of the API server, and without secrets."""
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if k not in ("managedFields", DROPPED_ANNOTATION)}
        if isinstance(kept.get("name"), str) and SECRET_NAME.search(kept["name"]):
            kept |= {"value": HIDDEN} if "value" in kept else {}
        return {k: cleaned(v, secrets) for k, v in kept.items()}
    if isinstance(value, list):
        # An option and its value may be two entries.
        rows = [cleaned(v, secrets) for v in value]
        for at, row in enumerate(rows[:-1]):
            if isinstance(row, str) and row.startswith("--") and "=" not in row:
                both = hidden(f"{row} {rows[at + 1]}", ())
                rows[at + 1] = HIDDEN if both.endswith(HIDDEN) else rows[at + 1]
        return rows
    return hidden(value, secrets) if isinstance(value, str) else value


def logs(pods: Iterable[Obj], limit: int, lines: int) -> list[Piece]:
    """Logs of all containers that have begun, and those from before a restart.

    Of each the newest `lines`, and of these the first `limit` bytes.
    """
    found = []
    for pod in pods:
        meta, status = pod["metadata"], pod.get("status") or {}
        rows = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
        for row in rows:
            begun = "waiting" not in (row.get("state") or {})
            query = f"/log?container={row['name']}&limitBytes={limit}&tailLines={lines}"
            query += "&timestamps=true"
            place = f"logs/{meta['namespace']}/{meta['name']}/{row['name']}"
            if begun:
                found.append(Piece(f"{place}.log", meta["namespace"], meta["name"], query))
            if row.get("restartCount"):
                earlier = f"{query}&previous=true"
                found.append(
                    Piece(f"{place}.previous.log", meta["namespace"], meta["name"], earlier)
                )
    return found


def metrics(pods: Iterable[Obj]) -> list[Piece]:
    """Metrics pages of the running pods of graphs: the frontend's port 8000, workers' 9090."""
    found = []
    for pod in pods:
        meta = pod["metadata"]
        if GRAPH_LABEL not in (meta.get("labels") or {}):
            continue
        if (pod.get("status") or {}).get("phase") != "Running":
            continue
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or []:
                number = port["containerPort"]
                if METRICS_PORTS.get(port.get("name", "")) or number in METRICS_PORTS.values():
                    file = f"metrics/{meta['name']}-{number}.txt"
                    path = f":{number}/proxy/metrics"
                    found.append(Piece(file, meta["namespace"], meta["name"], path))
    return found
