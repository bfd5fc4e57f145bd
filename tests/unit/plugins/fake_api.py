# SPDX-License-Identifier: Apache-2.0
"""The dynamic client of a cluster in memory: what `Cluster` and `wait` use of it."""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from ansible_collections.faultline.gpu.plugins.module_utils._client import Cluster
from kubernetes.client import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError

from lab.operator.convert import convert

Object = dict[str, Any]
# The fixture `run`: a module, then its options.
Run = Callable[..., Object]
# Fields that name an entry of a list; lists without one are replaced as a whole.
KEYS = ("name", "mountPath")
# Lists of v1alpha1 that are one value with one owner although their entries have names.
ATOMIC = ("envs",)
GRAPH = "DynamoGraphDeployment"
# Seconds after which a test that waits for a follower has failed.
HANGS = 30.0
STORED, ALPHA = "nvidia.com/v1beta1", "nvidia.com/v1alpha1"


class Answer:
    """What the client returns."""

    def __init__(self, content: Object) -> None:
        self._content = content

    def to_dict(self) -> Object:
        return copy.deepcopy(self._content)


def refusal(status: int, message: str) -> ApiException:
    """An error as the API server gives it."""
    error = ApiException(status=status, reason="Refused")
    error.body = json.dumps({"kind": "Status", "message": message})
    return error


def key_of(entries: list[Any]) -> str | None:
    """The field that names the entries of a list; volume mounts have a name that is no key."""
    fields = [k for k in reversed(KEYS) if all(isinstance(e, dict) and k in e for e in entries)]
    return fields[0] if entries and fields else None


def merged(old: Any, new: Any) -> Any:
    """`new` laid over `old`, as server-side apply does it."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {k: merged(None if k in ATOMIC else old.get(k), v) for k, v in new.items()}
    if isinstance(old, list) and isinstance(new, list) and (key := key_of(new)):
        there = {entry[key]: entry for entry in old}
        mine = {entry[key]: merged(there.get(entry[key]), entry) for entry in new}
        return list((there | mine).values())
    return copy.deepcopy(new)


def merge_patched(old: Any, change: Any) -> Any:
    """`old` after a JSON merge patch: lists are replaced, what is None goes."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in change.items():
        new[key] = merge_patched(new.get(key), value)
        if value is None:
            del new[key]
    return new


def without(obj: Any, given: Any, kept: Any) -> Any:
    """`obj` less what a manager gave before and does not give any more; None of nothing left."""
    if isinstance(obj, dict) and isinstance(given, dict):
        kept = kept if isinstance(kept, dict) else {}
        rest = {
            k: v if k not in given else without(v, None if k in ATOMIC else given[k], kept.get(k))
            for k, v in obj.items()
        }
        return {k: v for k, v in rest.items() if v is not None} or None
    if isinstance(obj, list) and isinstance(given, list) and (key := key_of(given)):
        mine = {entry[key]: entry for entry in given}
        still = {entry[key]: entry for entry in kept or []}
        rest = []
        for entry in obj:
            name = entry[key]
            left = without(entry, mine[name], still.get(name)) if name in mine else entry
            # The name of an entry stays as long as anything else of it does.
            if left is not None:
                rest.append({key: name} | left)
        return rest or None
    return None if kept is None else obj


def conflict(manager: str, field: str) -> ApiException:
    """A conflict on an atomic list, as the API server answers it (recorded)."""
    said = f'conflict with "{manager}" using {ALPHA}'
    error = refusal(409, f"Apply failed with 1 conflict: {said}: {field}")
    causes = [{"reason": "FieldManagerConflict", "message": said, "field": field}]
    status = {"message": json.loads(str(error.body))["message"], "reason": "Conflict"}
    error.body = json.dumps(status | {"details": {"causes": causes}})
    return error


def managed(obj: Object, manager: str, content: Object) -> None:
    """Note in an object who applies which fields of its specification, in which version."""
    fields = {f"f:{key}": {} for key in content.get("spec") or {}}
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": obj["apiVersion"],
        "fieldsV1": {"f:spec": fields},
    }
    others = [e for e in obj["metadata"].get("managedFields") or [] if e["manager"] != manager]
    obj["metadata"]["managedFields"] = [*others, entry]


class Resource:
    """One kind of objects."""

    def __init__(self, api: Api, api_version: str, kind: str) -> None:
        self.api, self.api_version, self.kind = api, api_version, kind

    def get(self, name: str | None = None, namespace: str | None = None, **select: Any) -> Answer:
        if name:
            return Answer(self.shown(self.api.one(self.kind, name, namespace)))
        if select.pop("limit", None):
            # Only looks whether the kind is served.
            if self.kind in self.api.refuses_looks:
                raise refusal(self.api.refuses_looks[self.kind], "refused")
            return Answer({"items": []})
        self.api.listed(self.kind)
        found = [o for o in self.api.all(self.kind) if matches(o, namespace, **select)]
        # An API server leaves kind and version out of a list's items.
        items = [{k: v for k, v in o.items() if k not in ("kind", "apiVersion")} for o in found]
        return Answer({"items": items, "metadata": {"resourceVersion": str(self.api.revision)}})

    def server_side_apply(
        self,
        body: Object,
        name: str,
        namespace: str | None = None,
        field_manager: str = "",
        force_conflicts: bool = False,
        dry_run: str | None = None,
    ) -> Answer:
        place = (self.kind, namespace or "", name)
        stored = self.api.objects.get(place)
        old = self.shown(stored) if stored else None
        given = self.api.applied.get((*place, field_manager), {})
        content = {k: v for k, v in body.items() if k not in ("apiVersion", "kind")}
        start = without(old, given, content) if given and old else old
        new = merged(start or {}, body)
        before = (old or {}).get("metadata", {}).get("generation", 0)
        new["metadata"]["generation"] = before + (new.get("spec") != (old or {}).get("spec"))
        for owner in self.api.losers(place, stored, new, field_manager):
            if not force_conflicts:
                raise conflict(*owner)
        managed(new, field_manager, content)
        if not dry_run:
            by_force = " by force" if force_conflicts else ""
            self.api.writes.append(f"apply {self.kind} {name} as {field_manager}{by_force}")
            self.api.applied[(*place, field_manager)] = copy.deepcopy(content)
            new = self.shown(self.api.put(new))
        return Answer(new)

    def shown(self, obj: Object) -> Object:
        """A stored object in the version that was asked for."""
        obj = copy.deepcopy(obj)
        return convert(obj, self.api_version) if self.kind == GRAPH else obj

    def patch(
        self, body: Object, name: str, namespace: str | None = None, content_type: str = ""
    ) -> Answer:
        new = merge_patched(self.api.one(self.kind, name, namespace), body)
        self.api.writes.append(f"patch {self.kind} {name}")
        return Answer(self.api.put(new))

    def delete(self, name: str, namespace: str | None = None, body: Any = None) -> Answer:
        found, options = self.api.one(self.kind, name, namespace), dict(body or {})
        wanted = options.pop("preconditions", {}).get("uid")
        if wanted and wanted != found["metadata"].get("uid"):
            raise refusal(409, f"Precondition failed: UID in precondition: {wanted}")
        self.api.writes.append(" ".join(["delete", self.kind, name, *options.values()]))
        self.api.deletes(found)
        return Answer(found)


class Api:
    """The cluster. Kinds are told apart by name alone."""

    def __init__(self, *objects: Object, unknown: tuple[str, ...] = ()) -> None:
        self.version = {"kubernetes": {"gitVersion": "v1.34.4"}}
        self.resources = SimpleNamespace(get=self._resource)
        self.unknown = set(unknown)
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.applied: dict[tuple[str, ...], Object] = {}
        self.revision = 100
        self.history: list[tuple[int, str, Object]] = []
        # What was done to the cluster, and by whom it was read.
        self.writes: list[str] = []
        self.lists: list[str] = []
        self.watches: list[tuple[str, int]] = []
        self.deletes: Callable[[Object], None] = self.remove
        # Errors that the next LISTs of a kind answer with, and what they wait for before they do.
        self.errors: dict[str, Iterator[Exception]] = {}
        # Status with which a look whether a kind is served is answered.
        self.refuses_looks: dict[str, int] = {}
        self.gates: dict[str, threading.Event] = {}
        self._news = threading.Condition()
        self._broken: Exception | None = None
        self._breaks = 0
        self.read = 0
        # By follower: what it had read and which breaks it knew when it began to wait for more,
        # and how often a LIST of it has failed.
        self._waits: dict[threading.Thread, tuple[int, int]] = {}
        self._failed: Counter[threading.Thread] = Counter()
        for obj in objects:
            self.put(obj)

    def cluster(self) -> Cluster:
        """The collection's client on this cluster."""
        found = Cluster.__new__(Cluster)
        found.dynamic = self
        return found

    def _resource(self, api_version: str, kind: str) -> Resource:
        if kind in self.unknown:
            raise ResourceNotFoundError(f"No matches found for {kind}")
        return Resource(self, api_version, kind)

    def listed(self, kind: str) -> None:
        """Note a LIST; it fails when it is to."""
        if kind in self.gates:
            self.gates[kind].wait(HANGS)
        with self._news:
            self.lists.append(kind)
            self._news.notify_all()
        for error in self.errors.get(kind, ()):
            self._failed[threading.current_thread()] += 1
            raise error

    def all(self, kind: str) -> list[Object]:
        return [o for (k, _space, _name), o in sorted(self.objects.items()) if k == kind]

    def one(self, kind: str, name: str, namespace: str | None = None) -> Object:
        found = self.objects.get((kind, namespace or "", name))
        if found is None:
            raise refusal(404, f"{kind} {name} not found")
        return copy.deepcopy(found)

    def losers(
        self, place: tuple[str, ...], old: Object | None, new: Object, manager: str
    ) -> list[tuple[str, str]]:
        """Managers and fields of v1alpha1's atomic lists that an apply would change for them."""
        found = []
        for (*where, other), content in self.applied.items():
            for name, service in ((content.get("spec") or {}).get("services") or {}).items():
                if tuple(where) == place and other != manager and "envs" in service and old:
                    envs = [
                        convert(copy.deepcopy(o), ALPHA)["spec"]["services"][name].get("envs")
                        for o in (old, new)
                    ]
                    if envs[0] != envs[1]:
                        found.append((other, f".spec.services.{name}.envs"))
        return found

    def put(self, obj: Object) -> Object:
        """Make or replace an object; watches hear of it."""
        obj = copy.deepcopy(obj)
        if obj["kind"] == GRAPH and obj.get("apiVersion") == ALPHA:
            obj = convert(obj, STORED)
        meta = obj["metadata"]
        place = (obj["kind"], meta.get("namespace") or "", meta["name"])
        with self._news:
            self.revision += 1
            meta["resourceVersion"] = str(self.revision)
            meta.setdefault("creationTimestamp", "2026-11-24T08:00:00Z")
            op = "MODIFIED" if place in self.objects else "ADDED"
            self.objects[place] = obj
            self.history.append((self.revision, op, copy.deepcopy(obj)))
            self._news.notify_all()
        return copy.deepcopy(obj)

    def remove(self, obj: Object, told: bool = True) -> None:
        """Let an object go; `told` is whether watches hear of it."""
        meta = obj["metadata"]
        with self._news:
            self.revision += 1
            gone = self.objects.pop((obj["kind"], meta.get("namespace") or "", meta["name"]))
            if told:
                self.history.append((self.revision, "DELETED", gone))
            self._news.notify_all()

    def cut(self, error: Exception | None = None) -> None:
        """End all open watches: with an error, or as a server does when the time is up."""
        with self._news:
            self._broken, self._breaks = error, self._breaks + 1
            self._news.notify_all()

    def until(self, seen: Callable[[], bool]) -> None:
        """Wait until the followers have come so far."""
        with self._news:
            assert self._news.wait_for(seen, HANGS)

    def has_no_news_for(self, follower: threading.Thread) -> bool:
        """Whether a follower has handed on all there is, or gets the same error all the time."""
        with self._news:
            seen, breaks = self._waits.get(follower, (0, -1))
            waits = breaks == self._breaks and not self.history_after(seen)
        return waits or self._failed[follower] > 2 or not follower.is_alive()

    def close(self) -> None:
        """Let every follower end: it is told that its kind is unknown."""
        self.unknown |= {place[0] for place in self.objects} | set(self.lists)
        for gate in self.gates.values():
            gate.set()
        self.cut()

    def watch(
        self,
        resource: Resource,
        resource_version: str,
        timeout: float,
        namespace: str | None = None,
        **select: Any,
    ) -> Iterator[Object]:
        """Events since a version, until the watch is cut."""
        with self._news:
            seen, breaks = int(resource_version), self._breaks
            self.watches.append((resource.kind, seen))
            self._news.notify_all()
        while True:
            with self._news:
                self._waits[threading.current_thread()] = seen, breaks
                while self._breaks == breaks and not self.history_after(seen):
                    self._news.wait(10)
                if self._breaks > breaks:
                    if self._broken:
                        raise self._broken
                    return
                news = self.history_after(seen)
            for revision, op, obj in news:
                seen = revision
                if obj["kind"] == resource.kind and matches(obj, namespace, **select):
                    yield {"type": op, "raw_object": copy.deepcopy(obj)}
            with self._news:
                self.read = seen
                self._news.notify_all()

    def history_after(self, revision: int) -> list[tuple[int, str, Object]]:
        return [row for row in self.history if row[0] > revision]


def matches(
    obj: Object,
    namespace: str | None = None,
    label_selector: str | None = None,
    field_selector: str | None = None,
) -> bool:
    """Whether a LIST or WATCH selects the object."""
    meta, labels = obj["metadata"], obj["metadata"].get("labels") or {}
    if namespace and meta.get("namespace") != namespace:
        return False
    for term in filter(None, (label_selector or "").split(",")):
        name, equals, value = term.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for term in filter(None, (field_selector or "").split(",")):
        path, _equals, value = term.partition("=")
        found: Any = obj
        for step in path.split("."):
            found = (found or {}).get(step)
        if found != value:
            return False
    return True
