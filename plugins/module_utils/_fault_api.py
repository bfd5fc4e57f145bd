# SPDX-License-Identifier: Apache-2.0
"""The fault-injection API, as a client sees it.

Faults are made through the API and not by writing GPUFault objects, because it refuses at once, and
in words, to hurt an unmarked node or too many nodes at a time. They are watched, and ended, as
objects: that works while the API is down, and ending a fault is never refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ._access import Access
from ._client import Cluster, Kind
from ._errors import FaultlineError

NAMESPACE, SERVICE, PORT = "fault-injection-system", "fault-injection-api", 8080
ACCOUNT, AUDIENCE, TOKEN_SECONDS = "faultline-operator", "faultline", 600
# The API server keeps `Authorization` for itself; what its proxy hands on comes in this header.
PROXY_HEADER = "X-Faultline-Authorization"


@dataclass(frozen=True)
class FaultApi:
    """Where the API is and what it is told: address without a path, and headers."""

    access: Access
    url: str
    headers: dict[str, str]

    def inject(self, xid: int, wanted: dict[str, Any], timeout: float = 30) -> dict[str, Any]:
        """Make a fault; the same `fault_id` and content twice is one fault.

        Returns the API's answer. Raises FaultlineError with the API's own words.
        """
        path = f"{self.url}/api/v1/faults/gpu/inject/xid-{xid}"
        status, text = self.access.ask(path, timeout, wanted, self.headers)
        if status == 200 and (answer := mapping(text)) is not None:
            return answer
        raise FaultlineError(
            f"The fault-injection API refused XID {xid} on {wanted.get('node_name')}: "
            f"{said(status, text)}",
            status=status,
        )


def mapping(text: str) -> dict[str, Any] | None:
    """The mapping that a text of JSON is, None for any other text."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def said(status: int, text: str) -> str:
    """What an answer that is no success says, as a sentence."""
    if status == 0:
        return f"no answer ({text}); is the Deployment {SERVICE} in {NAMESPACE} ready?"
    if (answer := mapping(text)) is None:
        return f"HTTP {status}, which is no answer of the API: {text[:300]}"
    detail = answer.get("detail") or answer.get("message") or answer
    if isinstance(detail, list):
        rows = [f"{'.'.join(str(x) for x in d.get('loc', []))}: {d.get('msg')}" for d in detail]
        detail = "; ".join(rows)
    return f"{detail} (HTTP {status})."


def token(cluster: Cluster) -> str:
    """A token that lives ten minutes, of the account made for this; raises FaultlineError."""
    made = cluster.make(
        Kind("v1", "ServiceAccount", NAMESPACE, ACCOUNT),
        "token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_SECONDS},
        },
    )
    return str(made["status"]["token"])


def connect(cluster: Cluster, url: str | None = None, given: str | None = None) -> FaultApi:
    """The API at `url`, else through the API server's proxy; `given` is a token, else one is made.

    Raises FaultlineError when no token can be had, and for a `url` that is none.
    """
    if url and not url.startswith(("http://", "https://")):
        raise FaultlineError(f"api_url is an address such as http://host:port, not {url!r}.")
    bearer = f"Bearer {given or token(cluster)}"
    if url:
        return FaultApi(Access(url, True), url.rstrip("/"), {"Authorization": bearer})
    access = cluster.access()
    proxied = access.service_url(NAMESPACE, SERVICE, PORT, "").rstrip("/")
    return FaultApi(access, proxied, {PROXY_HEADER: bearer})
