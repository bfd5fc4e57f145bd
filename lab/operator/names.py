# SPDX-License-Identifier: Apache-2.0
"""Names, labels and annotations of the Dynamo operator, each written once.

Facts: recordings ``objects-*.json`` and ``operator-install-objects.json`` (operator 1.5.0).
"""

from __future__ import annotations

from typing import Any

GROUP = "nvidia.com"
HUB_VERSION = f"{GROUP}/v1beta1"
ALPHA_VERSION = f"{GROUP}/v1alpha1"
DGD_KIND = "DynamoGraphDeployment"
DCD_KIND = "DynamoComponentDeployment"

OPERATOR_VERSION = "1.5.0"
FINALIZER = "nvidia.com/finalizer"

ORIGIN_VERSION = "nvidia.com/dynamo-operator-origin-version"
WORKLOAD_PROVIDER = "nvidia.com/workload-provider"
CURRENT_HASH = "nvidia.com/current-worker-hash-v2"
DGD_SPEC = "nvidia.com/dgd-spec"
LAST_GENERATION = "nvidia.com/last-applied-generation"
LAST_HASH = "nvidia.com/last-applied-hash"
RESTART_AT = "nvidia.com/restartAt"
STRATEGY = "nvidia.com/deployment-strategy"

SELECTOR = "nvidia.com/selector"
COMPONENT = "nvidia.com/dynamo-component"
COMPONENT_TYPE = "nvidia.com/dynamo-component-type"
SUB_TYPE = "nvidia.com/dynamo-sub-component-type"
GRAPH = "nvidia.com/dynamo-graph-deployment-name"
NAMESPACE = "nvidia.com/dynamo-namespace"
WORKER_HASH = "nvidia.com/dynamo-worker-hash"
DISCOVERY_BACKEND = "nvidia.com/dynamo-discovery-backend"
DISCOVERY_ENABLED = "nvidia.com/dynamo-discovery-enabled"
METRICS_ENABLED = "nvidia.com/metrics-enabled"

FRONTEND = "frontend"
WORKER_TYPES = frozenset({"worker", "prefill", "decode"})
COMPONENT_TYPES = ("frontend", "worker", "prefill", "decode", "planner", "epp")

PLANNER_ACCOUNT = "planner-serviceaccount"
PLANNER_BINDING = "planner-serviceaccount-binding"
PLANNER_ROLE = "dynamo-platform-dynamo-operator-planner"

RELEASE = "dynamo-platform-dynamo-operator"
WEBHOOK_SERVICE = f"{RELEASE}-webhook-service"
WEBHOOK_SECRET = "webhook-server-cert"
MUTATING_CONFIG = f"{RELEASE}-mutating"
VALIDATING_CONFIG = f"{RELEASE}-validating"


def is_worker(component: dict[str, Any]) -> bool:
    """True for the component types that the operator rolls together under one hash."""
    return component.get("type") in WORKER_TYPES


def dynamo_namespace(namespace: str, dgd: str) -> str:
    """The runtime's namespace of a graph; a user cannot choose it (``dynamoNamespace`` is
    ignored)."""
    return f"{namespace}-{dgd}"


def child_name(dgd: str, component: dict[str, Any], worker_hash: str | None) -> str:
    """Name shared by DCD, Deployment and Service of a component; workers end in the hash of 8
    signs."""
    base = f"{dgd}-{component['name'].lower()}"
    return f"{base}-{worker_hash}" if is_worker(component) and worker_hash else base


def discovery_account(dgd: str) -> str:
    """ServiceAccount of every pod of a graph; Role and RoleBinding append ``-role`` and
    ``-binding``."""
    return f"{dgd}-k8s-service-discovery"


def runtime_namespace(
    namespace: str, dgd: str, component: dict[str, Any], worker_hash: str | None
) -> str:
    """Namespace that a component registers under: workers of each generation have their own."""
    base = dynamo_namespace(namespace, dgd)
    return f"{base}-{worker_hash}" if is_worker(component) and worker_hash else base
