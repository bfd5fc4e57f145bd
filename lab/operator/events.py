# SPDX-License-Identifier: Apache-2.0
"""Kubernetes Events of the operator, written from a thread of their own so that no reconcile waits
for them."""

from __future__ import annotations

import datetime
import logging
import queue
import threading
import uuid
from typing import Any

from lab.operator.kube import Kube, brief

Object = dict[str, Any]
LOG = logging.getLogger("dynamo-operator")


class Recorder:
    """``record`` returns at once; an Event that cannot be written is logged and lost."""

    def __init__(self, kube: Kube, component: str = "dynamo-operator") -> None:
        self._kube = kube
        self._component = component
        self._queue: queue.SimpleQueue[Object] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def record(self, about: Object, reason: str, message: str, kind: str = "Normal") -> None:
        """Queue an Event about an object (it needs kind, name and namespace; the uid if it has
        one)."""
        meta = about["metadata"]
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._queue.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"{meta['name'][:200]}.{uuid.uuid4().hex[:16]}",
                    "namespace": meta["namespace"],
                },
                "involvedObject": {
                    "apiVersion": about.get("apiVersion", ""),
                    "kind": about["kind"],
                    "name": meta["name"],
                    "namespace": meta["namespace"],
                    "uid": meta.get("uid", ""),
                },
                "reason": reason,
                "message": message,
                "type": kind,
                "source": {"component": self._component},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
        )

    def _run(self) -> None:
        while True:
            event = self._queue.get()
            try:
                self._kube.create(event)
            except Exception as error:
                # Whatever it was, the next one may be written.
                LOG.info("event %s lost: %s", event["reason"], brief(error))
