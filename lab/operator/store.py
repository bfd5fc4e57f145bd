# SPDX-License-Identifier: Apache-2.0
"""What the operator has seen of the cluster, kept by watch events and by the answers to its own
writes."""

from __future__ import annotations

import threading
from typing import Any

from lab.operator import names

Object = dict[str, Any]
Key = tuple[str, str, str]
ENDED = ("Succeeded", "Failed")


def key_of(obj: Object) -> Key:
    """(kind, namespace, name)."""
    meta = obj["metadata"]
    return obj["kind"], meta.get("namespace", ""), meta["name"]


def _version(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion", 0))


class Store:
    """Newest known state per object. Safe for the watch loop and the reconcilers' threads."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._deleted: dict[str, int] = {}
        self._lock = threading.Lock()

    def put(self, obj: Object) -> bool:
        """Keep ``obj`` unless something newer (or its deletion) is known; True when it was kept."""
        with self._lock:
            if obj["metadata"].get("uid") in self._deleted:
                return False
            known = self._objects.get(key_of(obj))
            if known is not None and _version(known) >= _version(obj):
                return False
            self._objects[key_of(obj)] = obj
            return True

    def drop(self, obj: Object) -> None:
        """Forget a deleted object, but not one of the same name made since."""
        uid = obj["metadata"].get("uid", "")
        with self._lock:
            self._deleted[uid] = _version(obj)
            known = self._objects.get(key_of(obj))
            if known is not None and known["metadata"].get("uid") == uid:
                del self._objects[key_of(obj)]
            while len(self._deleted) > 4096:
                self._deleted.pop(next(iter(self._deleted)))

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        with self._lock:
            return self._objects.get((kind, namespace, name))

    def of_graph(self, kind: str, namespace: str, graph: str) -> list[Object]:
        """Objects of a kind that carry the graph's label."""
        with self._lock:
            return [
                obj
                for (known_kind, known_namespace, _), obj in self._objects.items()
                if known_kind == kind
                and known_namespace == namespace
                and obj["metadata"].get("labels", {}).get(names.GRAPH) == graph
            ]

    def live_pods(self, namespace: str, graph: str) -> dict[str, int]:
        """Pods that have not ended, counted by the DCD they belong to."""
        counts: dict[str, int] = {}
        for pod in self.of_graph("Pod", namespace, graph):
            if pod.get("status", {}).get("phase") in ENDED:
                continue
            owner = pod["metadata"]["labels"].get(names.SELECTOR, "")
            counts[owner] = counts.get(owner, 0) + 1
        return counts
