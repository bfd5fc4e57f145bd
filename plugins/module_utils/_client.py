# SPDX-License-Identifier: Apache-2.0
"""The cluster: a dynamic client with the few verbs this collection uses, on plain mappings."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from . import _access, _refusals
from ._errors import FaultlineError, NoSuchKind

Obj = dict[str, Any]

WEBHOOK_PATIENCE = 30.0
# Seconds after which the API server ends a watch.
WATCH_SECONDS = 60
# Seconds. A connection can die without a word: one that is silent for longer than a watch is dead.
CONNECT, SILENCE = 10.0, WATCH_SECONDS + 15.0


@dataclass(frozen=True)
class Kind:
    """Which objects: API version and kind, and optionally where and which of them."""

    api_version: str
    kind: str
    namespace: str | None = None
    name: str | None = None
    label_selector: str | None = None
    field_selector: str | None = None

    def selectors(self) -> dict[str, Any]:
        """Arguments for LIST and WATCH; a name becomes a field selector."""
        fields = [self.field_selector] if self.field_selector else []
        if self.name:
            fields.append(f"metadata.name={self.name}")
        found = {
            "namespace": self.namespace,
            "label_selector": self.label_selector,
            "field_selector": ",".join(fields) or None,
        }
        return {key: value for key, value in found.items() if value}

    def __str__(self) -> str:
        """The way a person would name them."""
        parts = [self.kind]
        if self.name:
            parts.append(self.name)
        if self.label_selector:
            parts.append(f"with {self.label_selector}")
        if self.namespace:
            parts.append(f"in {self.namespace}")
        return " ".join(parts)


GRAPH = Kind("nvidia.com/v1beta1", "DynamoGraphDeployment")
NODE = Kind("v1", "Node")
POD = Kind("v1", "Pod")
NAMESPACE = Kind("v1", "Namespace")
FAULT = Kind("faultline.dev/v1alpha1", "GPUFault")
HOST = Kind("faultline.dev/v1alpha1", "GPUHost")
# What NVSentinel's janitor is asked to do with a node.
MAINTENANCE = tuple(
    Kind("janitor.dgxc.nvidia.com/v1alpha1", kind) for kind in ("RebootNode", "GPUReset")
)


class Cluster:
    """Verbs on a cluster. Raises FaultlineError with a sentence for what the API refuses."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        from kubernetes.dynamic import DynamicClient

        found = self._configuration = _access.configuration(kubeconfig, context)
        try:
            self.dynamic = DynamicClient(patient(found))
        except Exception as error:
            raise FaultlineError(undiscovered(found.host, error)) from error

    @property
    def address(self) -> str:
        """Address of the API server."""
        return str(self._configuration.host)

    def access(self) -> _access.Access:
        """The same API server for what is no object: logs, metrics, services behind its proxy."""
        return _access.of(self._configuration)

    def resource(self, kind: Kind) -> Any:
        """The dynamic client's resource; raises NoSuchKind when there is none.

        Raises FaultlineError when the API server, which may have to be asked, does not say.
        """
        from kubernetes.client import ApiException
        from kubernetes.dynamic.exceptions import ResourceNotFoundError
        from urllib3.exceptions import HTTPError

        try:
            return self.dynamic.resources.get(api_version=kind.api_version, kind=kind.kind)
        except ResourceNotFoundError as error:
            raise NoSuchKind(
                f"The cluster knows no {kind.kind} ({kind.api_version}): "
                "install what defines it first."
            ) from error
        except (ApiException, HTTPError) as error:
            raise FaultlineError(undiscovered(self.address, error)) from error

    def has(self, kind: Kind) -> bool:
        """Whether the cluster knows the kind.

        Asks it: the client keeps on disk what a cluster of this address has once known.
        """
        try:
            resource = self.resource(kind)
        except NoSuchKind:
            return False
        try:
            return self._call(f"list {kind}", True, resource.get, limit=1) is not None
        except FaultlineError as error:
            if error.details["status"] == HTTPStatus.FORBIDDEN:
                return True
            raise

    def _call(self, what: str, missing_ok: bool, call: Any, **arguments: Any) -> Obj | None:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        deadline = time.monotonic() + WEBHOOK_PATIENCE
        while True:
            try:
                found: Obj = call(**arguments).to_dict()
            except ApiException as error:
                if error.status == 404 and missing_ok:
                    return None
                # A webhook's pod may be on the very node that is rebooting; nothing announces
                # that it is back but a call that works.
                if _refusals.transient(reason(error)) and time.monotonic() < deadline:
                    threading.Event().wait(1)
                    continue
                text = _refusals.explain(
                    error.status, answer(error), reason(error), arguments.get("body")
                )
                raise FaultlineError(
                    f"Cannot {what}: {text}", status=error.status, said=reason(error)
                ) from error
            except HTTPError as error:
                raise FaultlineError(
                    f"Cannot {what}: the API server does not answer ({innermost(error)}).",
                    status=0,
                    said="",
                ) from error
            return found

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Obj | None:
        """The object, None when there is none."""
        call = self.resource(kind).get
        return self._call(f"read {kind.kind} {name}", True, call, name=name, namespace=namespace)

    def list(self, kind: Kind) -> list[Obj]:
        """All objects that `kind` selects."""
        found = self._call(f"list {kind}", False, self.resource(kind).get, **kind.selectors())
        items: list[Obj] = (found or {}).get("items") or []
        return items

    def apply(self, body: Obj, manager: str, force: bool = False, dry_run: bool = False) -> Obj:
        """Server-side apply. A field that somebody else owns is a conflict unless forced."""
        meta, kind = body["metadata"], Kind(body["apiVersion"], body["kind"])
        extra = {"dry_run": "All"} if dry_run else {}
        done = self._call(
            f"apply {kind.kind} {meta['name']}",
            False,
            self.resource(kind).server_side_apply,
            body=body,
            name=meta["name"],
            namespace=meta.get("namespace"),
            field_manager=manager,
            force_conflicts=force,
            **extra,
        )
        return done or {}

    def make(self, kind: Kind, subresource: str, body: Obj) -> Obj:
        """Create a subresource of the object that `kind` names, such as an account's token."""
        call = self.resource(kind).subresources[subresource].create
        what = f"make a {subresource} of {kind}"
        done = self._call(what, False, call, body=body, name=kind.name, namespace=kind.namespace)
        return done or {}

    def patch(self, kind: Kind, name: str, change: Obj, namespace: str | None = None) -> Obj | None:
        """JSON merge patch; None when the object is gone."""
        return self._call(
            f"change {kind.kind} {name}",
            True,
            self.resource(kind).patch,
            body=change,
            name=name,
            namespace=namespace,
            content_type="application/merge-patch+json",
        )

    def delete(self, kind: Kind, name: str, namespace: str | None = None, **body: Any) -> bool:
        """Delete an object; False when there was none."""
        call = self.resource(kind).delete
        what = f"delete {kind.kind} {name}"
        done = self._call(what, True, call, name=name, namespace=namespace, body=body or None)
        return done is not None


def patient(configuration: Any) -> Any:
    """A client whose every request has a time limit: the Kubernetes client sets none."""
    from kubernetes.client import ApiClient

    # A read that nobody answers is tried once more, not three times.
    configuration.retries = 1

    class Patient(ApiClient):
        def call_api(self, *args: Any, **more: Any) -> Any:
            more["_request_timeout"] = more.get("_request_timeout") or (CONNECT, SILENCE)
            return super().call_api(*args, **more)

    return Patient(configuration)


def undiscovered(host: str, error: Exception) -> str:
    """What it means that an API server does not say which kinds it knows."""
    from kubernetes.client import ApiException

    if isinstance(error, ApiException):
        return (
            f"The API server at {host} does not say what it offers: {reason(error)}. "
            "Look at the account in the kubeconfig."
        )
    return (
        f"The API server at {host} does not answer ({innermost(error)}): start it, "
        "or name another kubeconfig."
    )


def innermost(error: BaseException) -> str:
    """What the operating system or TLS said, without the libraries' words around it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(getattr(error, "strerror", None) or error)


def answer(error: Any) -> Obj:
    """The Status that came with an error, empty if none did."""
    try:
        found = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def reason(error: Any) -> str:
    """What the API server said, as text."""
    return _refusals.words(answer(error), f"{error.status} {error.reason}")
