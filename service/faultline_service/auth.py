# SPDX-License-Identifier: Apache-2.0
"""Who asks, and may they? The cluster decides: TokenReview, then SubjectAccessReview."""

from __future__ import annotations

from typing import Any, Protocol

AUDIENCE = "faultline"


class Reviewer(Protocol):
    """What is asked of the cluster; Kube does it."""

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a review and return it with its status."""


class Denied(Exception):
    """A request that is refused; `status` is the HTTP status, 401 or 403."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def bearer(header: str | None) -> str:
    """The token of an Authorization header; raises Denied (401) when there is none."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Denied(401, "a change needs 'Authorization: Bearer <token>'")
    return token.strip()


def check(reviewer: Reviewer, token: str, verb: str, name: str | None = None) -> str:
    """The user's name if the token is good and its user may `verb` GPUFaults; else raises Denied.

    The token must be made for the audience `faultline`, as `kubectl create token --audience`.
    """
    review = reviewer.create(
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
    )
    status = review.get("status") or {}
    if not status.get("authenticated") or AUDIENCE not in (status.get("audiences") or []):
        raise Denied(401, f"the token is not valid for the audience {AUDIENCE}")
    user = status.get("user") or {}
    wanted = {"group": "faultline.dev", "resource": "gpufaults", "verb": verb}
    answer = reviewer.create(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.get("username"),
                "uid": user.get("uid"),
                "groups": user.get("groups") or [],
                "extra": user.get("extra") or {},
                "resourceAttributes": wanted | ({"name": name} if name else {}),
            },
        }
    )
    if not (answer.get("status") or {}).get("allowed"):
        raise Denied(403, f"{user.get('username')} may not {verb} gpufaults.faultline.dev")
    return str(user.get("username"))
