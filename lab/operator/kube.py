# SPDX-License-Identifier: Apache-2.0
"""The few API calls that the operator makes, as plain dictionaries, over the Kubernetes client's
transport."""

from __future__ import annotations

import json
from typing import Any

from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
WATCH_SECONDS = 300
# Seconds to connect, and to wait for an answer: a connection can die without a word.
PATIENCE = (5, 30)

# kind: (API path, plural, namespaced)
KINDS: dict[str, tuple[str, str, bool]] = {
    "DynamoGraphDeployment": ("/apis/nvidia.com/v1beta1", "dynamographdeployments", True),
    "DynamoComponentDeployment": ("/apis/nvidia.com/v1beta1", "dynamocomponentdeployments", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "Service": ("/api/v1", "services", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "Secret": ("/api/v1", "secrets", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
    "Event": ("/api/v1", "events", True),
    "Pod": ("/api/v1", "pods", True),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "CustomResourceDefinition": (
        "/apis/apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        False,
    ),
    "MutatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        False,
    ),
    "ValidatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        False,
    ),
}


def brief(error: Exception) -> str:
    """One line about a failed call: the API server's own message where there is one."""
    body = getattr(error, "body", None)
    try:
        message = json.loads(body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
    return str(message)[:300]


def path_of(kind: str, namespace: str | None, name: str | None = None) -> str:
    """URL path of an object, or of its collection when ``name`` is None."""
    base, plural, namespaced = KINDS[kind]
    parts = [base]
    if namespaced:
        parts += ["namespaces", str(namespace)]
    parts.append(plural)
    if name is not None:
        parts.append(name)
    return "/".join(parts)


class Kube:
    """Get, create, replace, patch and delete by kind. Raises ``kubernetes.dynamic.exceptions``."""

    def __init__(self, dynamic: DynamicClient) -> None:
        self._dynamic = dynamic

    @classmethod
    def connect(cls) -> Kube:
        """In a pod by its account, else by ``KUBECONFIG``."""
        try:
            config.load_incluster_config()
        except config.ConfigException:
            config.load_kube_config()
        return cls(DynamicClient(client.ApiClient()))

    def _call(self, method: str, path: str, body: Any = None, **params: Any) -> Object:
        params["_request_timeout"] = PATIENCE
        response = self._dynamic.request(method, path, body=body, serialize=False, **params)
        result: Object = json.loads(response.data)
        return result

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """The object, or None when it does not exist."""
        try:
            return self._call("get", path_of(kind, namespace, name))
        except NotFoundError:
            return None

    def create(self, body: Object) -> Object | None:
        """The created object, or None when one of that name exists."""
        try:
            return self._call(
                "post", path_of(body["kind"], body["metadata"].get("namespace")), body
            )
        except ConflictError:
            return None

    def replace(self, body: Object) -> Object:
        """Write the whole object; a ``resourceVersion`` in it must be the current one (else
        ConflictError)."""
        meta = body["metadata"]
        return self._call("put", path_of(body["kind"], meta.get("namespace"), meta["name"]), body)

    def patch(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        body: Object | list[Object],
        *,
        status: bool = False,
    ) -> Object:
        """Merge patch (a dictionary) or JSON patch (a list), of the object or of its status."""
        path = path_of(kind, namespace, name) + ("/status" if status else "")
        content_type = JSON_PATCH if isinstance(body, list) else MERGE
        return self._call("patch", path, body, content_type=content_type)

    def replace_status(self, body: Object) -> Object:
        """Write an object's status whole (fields that are gone disappear)."""
        meta = body["metadata"]
        path = path_of(body["kind"], meta.get("namespace"), meta["name"]) + "/status"
        return self._call("put", path, body)

    def delete(self, kind: str, namespace: str | None, name: str) -> None:
        """Delete in the background; an object that is gone already is fine."""
        try:
            self._call(
                "delete",
                path_of(kind, namespace, name),
                {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"},
            )
        except NotFoundError:
            return

    def list_all(self, kind: str, labels: str | None, fields: str | None) -> Object:
        """The List object of a kind in all namespaces, filtered by selectors."""
        base, plural, _ = KINDS[kind]
        return self._call("get", f"{base}/{plural}", label_selector=labels, field_selector=fields)

    def watch_all(self, kind: str, labels: str | None, fields: str | None, version: str) -> Any:
        """An open watch response (urllib3) of a kind in all namespaces, from ``version`` on."""
        base, plural, _ = KINDS[kind]
        return self._dynamic.request(
            "get",
            f"{base}/{plural}",
            serialize=False,
            watch=True,
            allow_watch_bookmarks=True,
            label_selector=labels,
            field_selector=fields,
            resource_version=version,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(10, WATCH_SECONDS + 30),
        )
