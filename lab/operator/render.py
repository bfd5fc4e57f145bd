# SPDX-License-Identifier: Apache-2.0
"""Pure: DynamoGraphDeployment to its direct children (DCDs, accounts and rights).

Facts: recordings ``objects-*.json``. Every function returns new objects and touches none of its
arguments.
"""

from __future__ import annotations

import copy
from typing import Any

from lab.operator import names
from lab.operator.hash import last_applied_hash

Object = dict[str, Any]


def owner_reference(owner: Object, kind: str) -> Object:
    """Controller reference as the operator writes it."""
    return {
        "apiVersion": names.HUB_VERSION,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def applied(value: Any) -> dict[str, str]:
    """Bookkeeping annotations of a freshly created child."""
    return {names.LAST_GENERATION: "1", names.LAST_HASH: last_applied_hash(value)}


def merge_env(base: list[Object], override: list[Object]) -> list[Object]:
    """Union of two env lists by name; ``override`` wins, the order of first appearance stays."""
    merged = {entry["name"]: entry for entry in base}
    merged.update({entry["name"]: entry for entry in override})
    return list(merged.values())


def component_spec(
    dgd: Object,
    component: Object,
    worker_hash: str | None,
    replicas: int,
    restart_at: str | None = None,
) -> Object:
    """Spec of a component's DCD: the component, with graph env merged in and the generation's
    marks."""
    spec = {k: copy.deepcopy(v) for k, v in component.items() if k != "replicas"}
    template = spec.setdefault("podTemplate", {})
    metadata = template.setdefault("metadata", {})
    origin = (
        dgd["metadata"].get("annotations", {}).get(names.ORIGIN_VERSION, names.OPERATOR_VERSION)
    )
    metadata.setdefault("annotations", {})[names.ORIGIN_VERSION] = origin
    if restart_at:
        metadata["annotations"][names.RESTART_AT] = restart_at
    if names.is_worker(component) and worker_hash:
        metadata.setdefault("labels", {})[names.WORKER_HASH] = worker_hash
    graph_env = dgd["spec"].get("env", [])
    for container in template.get("spec", {}).get("containers", []):
        if graph_env and container["name"] == "main":
            own = container.get("env", [])
            merged = merge_env(graph_env, own)
            container["env"] = sorted(merged, key=lambda entry: entry["name"])
    spec["replicas"] = replicas
    return spec


def component_deployment(
    dgd: Object,
    component: Object,
    worker_hash: str | None,
    replicas: int,
    restart_at: str | None = None,
) -> Object:
    """A DynamoComponentDeployment ready to be created."""
    meta = dgd["metadata"]
    labels = {
        names.COMPONENT: component["name"],
        names.GRAPH: meta["name"],
        names.NAMESPACE: names.dynamo_namespace(meta["namespace"], meta["name"]),
    }
    if names.is_worker(component) and worker_hash:
        labels[names.WORKER_HASH] = worker_hash
    spec = component_spec(dgd, component, worker_hash, replicas, restart_at)
    return {
        "apiVersion": names.HUB_VERSION,
        "kind": names.DCD_KIND,
        "metadata": {
            "name": names.child_name(meta["name"], component, worker_hash),
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": applied(spec),
            "ownerReferences": [owner_reference(dgd, names.DGD_KIND)],
        },
        "spec": spec,
    }


def _rbac_labels(name: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/component": "rbac",
        "app.kubernetes.io/managed-by": "dynamo-operator",
        "app.kubernetes.io/name": name,
    }


def planner_objects(namespace: str) -> list[Object]:
    """Account and binding that belong to no graph and stay behind for ever, as with the real
    operator."""
    meta = {"namespace": namespace, "labels": _rbac_labels(names.PLANNER_ACCOUNT)}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": names.PLANNER_ACCOUNT, **copy.deepcopy(meta)},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": names.PLANNER_BINDING, **copy.deepcopy(meta)},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": names.PLANNER_ROLE,
            },
            "subjects": [
                {"kind": "ServiceAccount", "name": names.PLANNER_ACCOUNT, "namespace": namespace}
            ],
        },
    ]


DISCOVERY_RULES: list[Object] = [
    {"apiGroups": [""], "resources": ["endpoints", "pods"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["get", "list", "watch"],
    },
    {
        "apiGroups": ["nvidia.com"],
        "resources": ["dynamoworkermetadatas"],
        "verbs": ["create", "get", "list", "watch", "update", "patch", "delete"],
    },
]


def discovery_objects(dgd: Object) -> list[Object]:
    """ServiceAccount, Role and RoleBinding that let the runtime read EndpointSlices and write its
    metadata."""
    namespace = dgd["metadata"]["namespace"]
    account = names.discovery_account(dgd["metadata"]["name"])

    def metadata(suffix: str, value: Any) -> Object:
        return {
            "name": account + suffix,
            "namespace": namespace,
            "labels": _rbac_labels(account),
            "annotations": applied(value),
            "ownerReferences": [owner_reference(dgd, names.DGD_KIND)],
        }

    rules = copy.deepcopy(DISCOVERY_RULES)
    reference = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": f"{account}-role",
    }
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    binding = {"roleRef": reference, "subjects": subjects}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("", {})},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata("-role", {"rules": rules}),
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata("-binding", binding),
            **binding,
        },
    ]
