# SPDX-License-Identifier: Apache-2.0
"""The two hashes of the operator.

``last_applied_hash`` reproduces the recorded values for DCD, Role, RoleBinding and Service. The
formula behind ``current-worker-hash-v2`` is not known; ours has its properties (a pure function of
the worker specs, blind to replicas, restart and frontend, back to the same value on revert) but
other values.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lab.operator import names

# What Go's encoder escapes inside strings although JSON would not need it.
GO_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.translate(GO_ESCAPES).encode()


def last_applied_hash(value: Any) -> str:
    """sha256 (64 hex digits) of the JSON with sorted keys and no spaces."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def worker_hash(dgd: dict[str, Any]) -> str | None:
    """8 hex digits for all workers of a v1beta1 DGD together, or None when it has no worker."""
    spec = dgd["spec"]
    workers = [
        {
            k: v
            for k, v in component.items()
            if k not in ("replicas", "minAvailable", "scalingAdapter")
        }
        for component in spec.get("components", [])
        if names.is_worker(component)
    ]
    if not workers:
        return None
    meta = dgd["metadata"]
    seed = {
        "namespace": names.dynamo_namespace(meta.get("namespace", "default"), meta["name"]),
        "env": spec.get("env", []),
        "workers": sorted(workers, key=lambda component: component["name"]),
    }
    return hashlib.sha256(_canonical(seed)).hexdigest()[:8]
