# SPDX-License-Identifier: Apache-2.0
"""One kind, watched for ever: LIST, then WATCH from there, LIST again when that is too old."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from kubernetes.dynamic.exceptions import DynamicApiError
from kubernetes.watch.watch import iter_resp_lines
from urllib3.exceptions import HTTPError

from lab.operator.kube import Kube, brief

Object = dict[str, Any]
Handler = Callable[[str, Object], None]
LOG = logging.getLogger("dynamo-operator")
RETRY_SECONDS = 1.0


class Expired(Exception):
    """The API server no longer knows our resource version."""


class Informer:
    """Calls ``handler(type, object)`` for each change; ``type`` is ADDED, MODIFIED or DELETED.

    Objects that vanished while nobody watched are reported as DELETED after the next LIST.
    ``synced`` is set after the first LIST was handled.
    """

    def __init__(
        self,
        kube: Kube,
        kind: str,
        handler: Handler,
        labels: str | None = None,
        fields: str | None = None,
    ) -> None:
        self._kube = kube
        self._kind = kind
        self._handler = handler
        self._labels = labels
        self._fields = fields
        self._known: dict[str, Object] = {}
        self._stopped = threading.Event()
        self.synced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """No more calls of the handler after the one at hand; the thread ends with its request."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                version = self._list()
                self.synced.set()
                while not self._stopped.is_set():
                    version = self._watch(version)
            except Expired:
                LOG.info("watch of %s is too old: list again", self._kind)
            except (DynamicApiError, HTTPError, OSError, ValueError) as error:
                LOG.warning("watch of %s: %s", self._kind, brief(error))
                self._stopped.wait(RETRY_SECONDS)
            except Exception:
                # An object that the handler does not expect must not end the watch for good.
                LOG.exception("watch of %s", self._kind)
                self._stopped.wait(RETRY_SECONDS)

    def _tell(self, change: str, obj: Object) -> None:
        obj.setdefault("kind", self._kind)
        uid = obj["metadata"]["uid"]
        if change == "DELETED":
            self._known.pop(uid, None)
        else:
            self._known[uid] = obj
        if not self._stopped.is_set():
            self._handler(change, obj)

    def _list(self) -> str:
        found = self._kube.list_all(self._kind, self._labels, self._fields)
        present = {item["metadata"]["uid"] for item in found["items"]}
        for uid in [uid for uid in self._known if uid not in present]:
            self._tell("DELETED", self._known[uid])
        for item in found["items"]:
            self._tell("ADDED", item)
        return str(found["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        response = self._kube.watch_all(self._kind, self._labels, self._fields, version)
        try:
            for line in iter_resp_lines(response):
                if self._stopped.is_set():
                    break
                version = self._line(line, version)
        finally:
            response.close()
        return version

    def _line(self, line: str, version: str) -> str:
        event = json.loads(line)
        change, obj = event["type"], event["object"]
        if change == "ERROR":
            if obj.get("code") == 410:
                raise Expired
            raise ValueError(obj.get("message", "watch error"))
        if change != "BOOKMARK":
            self._tell(change, obj)
        return str(obj["metadata"].get("resourceVersion", version))
