#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: keep what explains a drill afterwards."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_evidence
short_description: Keep what explains a drill afterwards
version_added: 0.1.0
description:
  - Writes the objects, the logs (those before a restart, too) and the metrics of the pods of a
    namespace into a folder, with the nodes, the faults, and the logs of NVSentinel.
  - Secrets and ConfigMaps are never read. Values of variables and options whose names tell of a
    secret are replaced by C((not kept)), in logs as well.
  - What does not fit into O(max_bytes) or is not there within O(timeout) is left out, and
    C(index.json) names it. Evidence that cannot be had is never an error.
options:
  path:
    description: Folder to write into; it is made.
    type: path
    required: true
  namespace:
    description: Namespace of the drill.
    type: str
    required: true
  sentinel_namespace:
    description: Namespace of NVSentinel, whose logs are kept.
    type: str
    default: nvsentinel
  max_bytes:
    description: Bytes that all files together may have.
    type: int
    default: 33554432
  max_log_bytes:
    description: Bytes of one container's log.
    type: int
    default: 524288
  log_lines:
    description: Newest lines of one container's log.
    type: int
    default: 2000
  timeout:
    description: Seconds for everything together.
    type: float
    default: 30
extends_documentation_fragment: [faultline.gpu.cluster]
"""

EXAMPLES = r"""
- name: Keep what the drill's namespace is like
  faultline.gpu.cluster_evidence:
    path: results/run-1/evidence/after
    namespace: drill-run-1
"""

RETURN = r"""
files:
  description: Files that were written, below O(path).
  type: list
  elements: str
  returned: always
left_out:
  description: What is missing, and why.
  type: dict
  returned: always
bytes:
  description: Size of all files.
  type: int
  returned: always
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _evidence, _run
from ..module_utils._client import FAULT, GRAPH, HOST, MAINTENANCE, NODE, POD, Cluster, Kind, Obj
from ..module_utils._errors import FaultlineError
from ..module_utils._module import run

THREADS = 8


def kinds(namespace: str) -> dict[str, Kind]:
    """Objects to keep, by the name of their file."""
    here = [
        GRAPH,
        POD,
        Kind("v1", "Event"),
        Kind("v1", "Service"),
        Kind("apps/v1", "Deployment"),
        Kind("nvidia.com/v1alpha1", "DynamoWorkerMetadata"),
    ]
    everywhere = [NODE, FAULT, HOST, *MAINTENANCE]
    found = {k.kind: Kind(k.api_version, k.kind, namespace) for k in here}
    return found | {k.kind: k for k in everywhere}


class Folder:
    """Where files go, as long as there is room."""

    def __init__(self, path: Path, room: int) -> None:
        self.path, self.room = path, room
        self.files: list[str] = []
        self.bytes = 0
        self.left_out: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        """Keep a file unless it is too large for what is left."""
        content = text.encode()
        if self.bytes + len(content) > self.room:
            self.left_out[name] = f"{len(content)} bytes are more than what is left of {self.room}"
            return
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.files.append(name)
        self.bytes += len(content)


def objects(cluster: Cluster, namespace: str, folder: Folder) -> dict[str, list[Obj]]:
    """All objects to keep; what the cluster does not know or give is noted in the folder."""
    found = {}
    for name, kind in kinds(namespace).items():
        try:
            found[name] = cluster.list(kind)
        except FaultlineError as error:
            folder.left_out[f"objects/{name}.json"] = str(error)
    return found


def texts(
    cluster: Cluster, pieces: list[_evidence.Piece], deadline: float
) -> Iterator[tuple[_evidence.Piece, int, str]]:
    """Pieces with their status and text, as they come; those that come too late do not."""
    access = cluster.access()

    def fetch(piece: _evidence.Piece) -> tuple[_evidence.Piece, int, str]:
        left = deadline - time.monotonic()
        if left <= 0:
            return piece, 0, "the time was up"
        return piece, *access.ask(access.pod_url(piece.namespace, piece.pod, piece.path), left)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in as_completed([pool.submit(fetch, piece) for piece in pieces]):
            yield future.result()


def work(module: AnsibleModule, cluster: Cluster) -> dict[str, Any]:
    """Collect."""
    p = module.params
    deadline = time.monotonic() + p["timeout"]
    folder = Folder(Path(p["path"]), p["max_bytes"])
    if module.check_mode:
        return {"changed": True, "files": [], "left_out": {}, "bytes": 0}
    found = objects(cluster, p["namespace"], folder)
    secrets = _evidence.secrets_in(list(found.values()))
    for name, items in found.items():
        text = json.dumps(_evidence.cleaned(items, secrets), indent=1)
        folder.write(f"objects/{name}.json", text)
    pods = found.get("Pod", [])
    try:
        sentinel = cluster.list(Kind("v1", "Pod", p["sentinel_namespace"]))
    except FaultlineError as error:
        sentinel, folder.left_out[f"logs/{p['sentinel_namespace']}"] = [], str(error)
    pieces = _evidence.metrics(pods)
    pieces += _evidence.logs([*pods, *sentinel], p["max_log_bytes"], p["log_lines"])
    for piece, status, text in texts(cluster, pieces, deadline):
        if status == 200:
            folder.write(piece.file, _evidence.hidden(text, secrets))
        else:
            folder.left_out[piece.file] = f"HTTP {status}: {text[:200]}" if status else text
    index = {"files": sorted(folder.files), "bytes": folder.bytes, "left_out": folder.left_out}
    _run.write_json(folder.path / "index.json", index)
    return {"changed": True} | index


def main() -> None:
    """Run the module."""
    run(
        {
            "path": {"type": "path", "required": True},
            "namespace": {"type": "str", "required": True},
            "sentinel_namespace": {"type": "str", "default": "nvsentinel"},
            "max_bytes": {"type": "int", "default": 32 << 20},
            "max_log_bytes": {"type": "int", "default": 512 << 10},
            "log_lines": {"type": "int", "default": 2000},
            "timeout": {"type": "float", "default": 30},
        },
        work,
    )


if __name__ == "__main__":
    main()
