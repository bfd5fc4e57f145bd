# SPDX-License-Identifier: Apache-2.0
"""The one way to wait: LIST, then WATCH, one deadline for the whole set.

A condition is a pure function of everything that is followed. It says whether it holds and, in a
few words, what is seen; it raises WaitFailed when it cannot hold any more. Nothing polls.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ._client import WATCH_SECONDS, Cluster, Kind, Obj, reason
from ._errors import FaultlineError, NoSuchKind, WaitTimeout

Objects = dict[tuple[str, str], Obj]
Snapshot = Mapping[str, Objects]
Condition = Callable[[Snapshot], tuple[bool, str]]
# Seconds after which a condition is asked again although nothing has happened.
Again = Callable[[], float]
Recorder = Callable[[float, str, Obj], None]


class Follower(threading.Thread):
    """Follows one kind in a thread of its own and puts what happens into a queue."""

    def __init__(self, cluster: Cluster, key: str, kind: Kind, news: queue.Queue[Any]) -> None:
        super().__init__(daemon=True, name=f"follow-{key}")
        self.cluster, self.key, self.kind, self.news = cluster, key, kind, news

    def run(self) -> None:
        """LIST and WATCH until the process ends; says what went wrong at first."""
        from kubernetes.client import ApiException

        said = ""
        while True:
            try:
                self._round()
            except NoSuchKind as error:
                self.news.put((self.key, "FAILED", error))
                return
            except Exception as error:
                # Disconnected, or the version is too old: list again. The API server may be away.
                text = reason(error) if isinstance(error, ApiException) else str(error)
                if text != said:
                    said = text
                    self.news.put((self.key, "TROUBLE", f"{self.kind} cannot be read: {said}"))
                    print(f"following {self.kind} again: {said}", file=sys.stderr, flush=True)
                threading.Event().wait(0.3)

    def _round(self) -> None:
        resource, selectors = self.cluster.resource(self.kind), self.kind.selectors()
        listing = resource.get(**selectors).to_dict()
        for item in listing["items"]:
            item.setdefault("kind", self.kind.kind)
            item.setdefault("apiVersion", self.kind.api_version)
        self.news.put((self.key, "LIST", listing["items"]))
        version = listing["metadata"]["resourceVersion"]
        stream = self.cluster.dynamic.watch(
            resource, resource_version=version, timeout=WATCH_SECONDS, **selectors
        )
        for event in stream:
            self.news.put((self.key, event["type"], event["raw_object"]))


def followable(cluster: Cluster, wanted: Mapping[str, Kind]) -> dict[str, Kind]:
    """The kinds less those that the cluster does not know.

    Where it is in trouble and does not say, a wait may still hear of them: it asks again.
    """

    def known(kind: Kind) -> bool:
        try:
            return cluster.has(kind)
        except FaultlineError:
            return True

    return {key: kind for key, kind in wanted.items() if known(kind)}


def identity(obj: Obj) -> tuple[str, str]:
    """Namespace (empty of none) and name."""
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def absorb(snapshot: dict[str, Objects], key: str, op: str, content: Any) -> list[tuple[str, Obj]]:
    """Bring the snapshot up to date; returns (operation, object) for each change."""
    objects = snapshot[key]
    if op == "LIST":
        there = {identity(item): item for item in content}
        gone = [("DELETED", objects[i]) for i in objects if i not in there]
        new = [
            ("LISTED", item)
            for i, item in there.items()
            if objects.get(i, {}).get("metadata", {}).get("resourceVersion")
            != item["metadata"].get("resourceVersion")
        ]
        objects.clear()
        objects.update(there)
        return gone + new
    if op == "DELETED":
        objects.pop(identity(content), None)
    else:
        objects[identity(content)] = content
    return [(op, content)]


def heard(news: queue.Queue[Any], seconds: float) -> tuple[str, str, Any]:
    """Key, operation and content of what comes next; the operation QUIET when nothing does."""
    try:
        found: tuple[str, str, Any] = news.get(timeout=max(0.0, seconds))
    except queue.Empty:
        return "", "QUIET", None
    return found


def wait(
    cluster: Cluster,
    kinds: Mapping[str, Kind],
    condition: Condition,
    timeout: float,
    record: Recorder | None = None,
    again: Again = lambda: float("inf"),
) -> tuple[dict[str, Objects], float]:
    """Wait until `condition` holds for the objects of `kinds`; returns them and seconds waited.

    The condition is first asked when every kind has been listed; `again` is for one that depends on
    how long something has been so. Raises WaitTimeout with the last state, the newest events and
    the seconds waited, and WaitFailed when the condition does.
    """
    news: queue.Queue[Any] = queue.Queue()
    snapshot: dict[str, Objects] = {key: {} for key in kinds}
    begun, missing, seen = time.monotonic(), set(kinds), "nothing listed yet"
    troubles: dict[str, str] = {}
    for key, kind in kinds.items():
        Follower(cluster, key, kind, news).start()
    while (left := timeout - (time.monotonic() - begun)) > 0:
        key, op, content = heard(news, min(left, again()))
        if op == "FAILED":
            raise content
        if op == "TROUBLE":
            troubles[key] = content
        elif op != "QUIET":
            received = time.time()
            for what, obj in absorb(snapshot, key, op, content):
                if record:
                    record(received, what, obj)
            troubles.pop(key, None)
            missing.discard(key)
        if missing or not news.empty():
            continue
        done, seen = condition(snapshot)
        if done:
            return snapshot, time.monotonic() - begun
    waited = time.monotonic() - begun
    events = newest_events(cluster, kinds)
    text = f"Not seen within {waited:.0f} s. Last seen: {'; '.join([seen, *troubles.values()])}."
    if events:
        text += " Newest events: " + "; ".join(events)
    raise WaitTimeout(text, seconds=round(waited, 1), seen=seen, events=events)


def newest_events(cluster: Cluster, kinds: Mapping[str, Kind], count: int = 5) -> list[str]:
    """The newest warnings in the namespaces that were followed, one line each."""
    spaces = {kind.namespace for kind in kinds.values() if kind.namespace} or {"default"}
    found = []
    for space in sorted(spaces):
        try:
            found += cluster.list(Kind("v1", "Event", namespace=space))
        except FaultlineError:
            continue
    rows = [e for e in found if e.get("type") != "Normal"]
    rows.sort(key=lambda e: str(e.get("lastTimestamp") or e["metadata"]["creationTimestamp"]))
    return [
        f"{e['involvedObject'].get('kind')}/{e['involvedObject'].get('name')} {e.get('reason')}: "
        f"{(e.get('message') or '')[:160]}"
        for e in rows[-count:]
    ]
