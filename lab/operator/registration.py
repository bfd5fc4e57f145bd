# SPDX-License-Identifier: Apache-2.0
"""Keeps the operator's CA in the CRD's conversion and in both webhook configurations.

It is watched, not written once: whoever applies the manifests again takes the CA out.
"""

from __future__ import annotations

import base64
import logging
from typing import Any
from urllib.parse import urlsplit

from lab.operator import names
from lab.operator.informer import Informer
from lab.operator.kube import Kube
from lab.operator.settings import Settings

Object = dict[str, Any]
LOG = logging.getLogger("dynamo-operator")
REGISTERED = (
    ("CustomResourceDefinition", f"dynamographdeployments.{names.GROUP}"),
    ("MutatingWebhookConfiguration", names.MUTATING_CONFIG),
    ("ValidatingWebhookConfiguration", names.VALIDATING_CONFIG),
)


def client_config(current: Object, bundle: str, settings: Settings) -> Object:
    """A client configuration with our CA: by Service, or by URL when we run outside of the cluster.

    It replaces what another operator (or a run outside) left there; only the path is kept.
    """
    path = (current.get("service") or {}).get("path") or urlsplit(current.get("url", "")).path
    if settings.webhook_url:
        return {"url": settings.webhook_url + path, "caBundle": bundle}
    service = {
        "namespace": settings.namespace,
        "name": names.WEBHOOK_SERVICE,
        "path": path,
        "port": 443,
    }
    return {"service": service, "caBundle": bundle}


def changes(obj: Object, bundle: str, settings: Settings) -> list[Object]:
    """JSON patch that puts our address and CA into one registered object; often empty."""
    if obj["kind"] == "CustomResourceDefinition":
        path = "/spec/conversion/webhook/clientConfig"
        places = {path: obj["spec"]["conversion"]["webhook"]["clientConfig"]}
    else:
        places = {
            f"/webhooks/{index}/clientConfig": webhook["clientConfig"]
            for index, webhook in enumerate(obj["webhooks"])
        }
    wanted = {path: client_config(current, bundle, settings) for path, current in places.items()}
    return [
        {"op": "replace", "path": path, "value": value}
        for path, value in wanted.items()
        if value != places[path]
    ]


class Registration:
    """The three objects that tell the API server where our webhooks are."""

    def __init__(self, kube: Kube, ca: bytes, settings: Settings) -> None:
        self._kube = kube
        self._bundle = base64.b64encode(ca).decode()
        self._settings = settings

    def register(self) -> None:
        """Write the CA into all three.

        :raises RuntimeError: when one of them is not installed.
        """
        for kind, name in REGISTERED:
            found = self._kube.get(kind, None, name)
            if found is None:
                raise RuntimeError(
                    f"{kind} {name} is not installed. "
                    "Apply lab/operator/manifests first (role lab_stack does)."
                )
            self._ensure(found)

    def _ensure(self, obj: Object) -> None:
        patch = changes(obj, self._bundle, self._settings)
        if patch:
            name = obj["metadata"]["name"]
            LOG.info("the CA goes into %s %s", obj["kind"], name)
            self._kube.patch(obj["kind"], None, name, patch)

    def _changed(self, change: str, obj: Object) -> None:
        if change != "DELETED":
            self._ensure(obj)

    def informers(self) -> list[Informer]:
        """One watch for each of the three objects."""
        return [
            Informer(self._kube, kind, self._changed, fields=f"metadata.name={name}")
            for kind, name in REGISTERED
        ]
