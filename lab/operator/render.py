# SPDX-License-Identifier: Apache-2.0
"""From a DynamoGraphDeployment (v1beta1) to the objects below it. Pure functions.

Names, labels, environment, ports and probes are those of operator 1.5.0 as it was recorded.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]

PREFIX = "nvidia.com/"
ORIGIN_VERSION = "1.5.0"
FINALIZER = "nvidia.com/finalizer"
HASH_ANNOTATION = "nvidia.com/current-worker-hash-v2"
STRATEGY_ANNOTATION = "nvidia.com/deployment-strategy"
WORKERS = ("worker", "prefill", "decode")


@dataclass(frozen=True)
class Probes:
    """Seconds of the probes' periods; the defaults are the real operator's.

    A lab may shorten them: with the real ones a start takes ten seconds of waiting.
    """

    worker_startup: int = 10
    worker_readiness: int = 10
    frontend_initial: int = 10
    frontend_readiness: int = 10


def is_worker(component: Obj) -> bool:
    """Whether a component runs a model."""
    return component.get("type") in WORKERS


def worker_hash(spec: Obj) -> str:
    """Eight hex digits that change when the pod template of any worker does.

    A pure function of the specification, so that undoing a change brings the old hash back. The
    real operator hashes other bytes; only the behaviour is the same.
    """
    relevant = [
        {"name": c["name"], "type": c.get("type"), "podTemplate": c.get("podTemplate") or {}}
        for c in sorted(spec.get("components") or [], key=lambda c: str(c["name"]))
        if is_worker(c)
    ]
    content = json.dumps([relevant, spec.get("env") or []], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def child_name(graph: str, component: Obj, hash_: str) -> str:
    """Name of DCD, Deployment and Service of a component."""
    base = f"{graph}-{component['name'].lower()}"
    return f"{base}-{hash_}" if is_worker(component) else base


def dynamo_namespace(namespace: str, graph: str) -> str:
    """The namespace Dynamo's discovery uses, which is no Kubernetes namespace."""
    return f"{namespace}-{graph}"


def _labels(graph: Obj, component: Obj, hash_: str) -> dict[str, str]:
    """Labels that every object of a component has."""
    meta = graph["metadata"]
    labels = {
        "dynamo-component": component["name"],
        "dynamo-graph-deployment-name": meta["name"],
        "dynamo-namespace": dynamo_namespace(meta["namespace"], meta["name"]),
    }
    if is_worker(component):
        labels["dynamo-worker-hash"] = hash_
    return {PREFIX + key: value for key, value in labels.items()}


def _discovery_labels(component: Obj) -> dict[str, str]:
    labels = {"dynamo-discovery-backend": "kubernetes", "dynamo-discovery-enabled": "true"}
    if is_worker(component):
        labels["dynamo-sub-component-type"] = component["type"]
    return {PREFIX + key: value for key, value in labels.items()}


def _owner(owner: Obj) -> list[Obj]:
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def accounts(graph: Obj) -> list[Obj]:
    """ServiceAccount, Role and RoleBinding with which pods of a graph find each other."""
    meta = graph["metadata"]
    name = f"{meta['name']}-k8s-service-discovery"

    def metadata(suffix: str) -> Obj:
        return {
            "name": name + suffix,
            "namespace": meta["namespace"],
            "labels": {
                "app.kubernetes.io/component": "rbac",
                "app.kubernetes.io/managed-by": "dynamo-operator",
                "app.kubernetes.io/name": name,
            },
            "ownerReferences": _owner(graph),
        }

    read = ["get", "list", "watch"]
    write = ["create", *read, "update", "patch", "delete"]
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "pods"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        {"apiGroups": ["nvidia.com"], "resources": ["dynamoworkermetadatas"], "verbs": write},
    ]
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("")},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": metadata("-role"),
            "rules": rules,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata("-binding"),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": f"{name}-role"},
            "subjects": [
                {"kind": "ServiceAccount", "name": name, "namespace": meta["namespace"]}
            ],
        },
    ]


def component_deployment(graph: Obj, component: Obj, hash_: str, replicas: int) -> Obj:
    """The DynamoComponentDeployment of one generation of a component."""
    meta, spec = graph["metadata"], copy.deepcopy(component)
    spec["replicas"] = replicas
    template = spec.setdefault("podTemplate", {})
    template_meta = template.setdefault("metadata", {})
    origin = {PREFIX + "dynamo-operator-origin-version": ORIGIN_VERSION}
    template_meta["annotations"] = {**(template_meta.get("annotations") or {}), **origin}
    if is_worker(component):
        mark = {PREFIX + "dynamo-worker-hash": hash_}
        template_meta["labels"] = {**(template_meta.get("labels") or {}), **mark}
    return {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoComponentDeployment",
        "metadata": {
            "name": child_name(meta["name"], component, hash_),
            "namespace": meta["namespace"],
            "labels": _labels(graph, component, hash_),
            "ownerReferences": _owner(graph),
            "finalizers": [FINALIZER],
        },
        "spec": spec,
    }


def _value(name: str, value: str) -> Obj:
    return {"name": name, "value": value}


def _field(name: str, path: str) -> Obj:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _environment(graph: Obj, component: Obj, hash_: str) -> list[Obj]:
    """Environment that the operator adds, by name."""
    meta = graph["metadata"]
    space = dynamo_namespace(meta["namespace"], meta["name"])
    common = {
        "DYN_COMPONENT": component["name"] if is_worker(component) else component["type"],
        "DYN_DISCOVERY_BACKEND": "kubernetes",
        "DYN_NAMESPACE": space,
        "DYN_PARENT_DGD_K8S_NAME": meta["name"],
        "DYN_PARENT_DGD_K8S_NAMESPACE": meta["namespace"],
    }
    if is_worker(component):
        common |= {
            "DYN_FORWARDPASS_METRIC_PORT": "20380",
            "DYN_HEALTH_CHECK_ENABLED": "false",
            "DYN_NAMESPACE_WORKER_SUFFIX": hash_,
            "DYN_SYSTEM_ENABLED": "true",
            "DYN_SYSTEM_PORT": "9090",
            "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS": '["generate"]',
            "NIXL_TELEMETRY_ENABLE": "n",
            "NIXL_TELEMETRY_EXPORTER": "prometheus",
            "NIXL_TELEMETRY_PROMETHEUS_PORT": "19090",
        }
    else:
        common |= {"DYNAMO_PORT": "8000", "DYN_HTTP_PORT": "8000", "DYN_NAMESPACE_PREFIX": space}
    own = [
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("POD_UID", "metadata.uid"),
    ]
    return sorted([_value(k, v) for k, v in common.items()] + own, key=lambda e: str(e["name"]))


def _probe(path: str, port: str, period: int, timeout: int, failures: int, initial: int = 0) -> Obj:
    probe: Obj = {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
    if initial:
        probe["initialDelaySeconds"] = initial
    return probe


def _main_container(graph: Obj, component: Obj, hash_: str, given: Obj, probes: Probes) -> Obj:
    """The container `main` as given, with what the operator adds."""
    main = copy.deepcopy(given)
    added = _environment(graph, component, hash_)
    shared = copy.deepcopy(graph["spec"].get("env") or [])
    mine = {e["name"] for e in main.get("env") or []}
    main["env"] = [e for e in [*shared, *added] if e["name"] not in mine] + (main.get("env") or [])
    if is_worker(component):
        main.setdefault("ports", [])
        main["ports"] += [
            {"containerPort": 9090, "name": "system", "protocol": "TCP"},
            {"containerPort": 19090, "name": "nixl", "protocol": "TCP"},
        ]
        main.setdefault("livenessProbe", _probe("/live", "system", 5, 4, 1))
        main.setdefault(
            "readinessProbe", _probe("/health", "system", probes.worker_readiness, 4, 3)
        )
        main.setdefault("startupProbe", _probe("/live", "system", probes.worker_startup, 5, 720))
    else:
        if not main.get("command") and not main.get("args"):
            main["command"], main["args"] = ["python3"], ["-m", "dynamo.frontend"]
        main.setdefault("ports", []).append(
            {"containerPort": 8000, "name": "http", "protocol": "TCP"}
        )
        main.setdefault("livenessProbe", _probe("/live", "http", 10, 1, 3, 15))
        ready = (probes.frontend_readiness, 3, 3, probes.frontend_initial)
        main.setdefault("readinessProbe", _probe("/health", "http", *ready))
    main.setdefault("volumeMounts", [])
    main["volumeMounts"].append({"mountPath": "/dev/shm", "name": "shared-memory"})
    return main


def deployment(graph: Obj, dcd: Obj, hash_: str, probes: Probes) -> Obj:
    """The Deployment of a DynamoComponentDeployment."""
    component, meta = dcd["spec"], dcd["metadata"]
    template = component.get("podTemplate") or {}
    pod = copy.deepcopy(template.get("spec") or {})
    containers = pod.pop("containers", [])
    given = next((c for c in containers if c["name"] == "main"), {"name": "main"})
    others = [c for c in containers if c["name"] != "main"]
    account = f"{graph['metadata']['name']}-k8s-service-discovery"
    pod["containers"] = [_main_container(graph, component, hash_, given, probes), *others]
    pod.setdefault("serviceAccountName", account)
    pod.setdefault("terminationGracePeriodSeconds", 60)
    pod.setdefault("securityContext", {"fsGroup": 1000})
    memory = {"medium": "Memory", "sizeLimit": component.get("sharedMemorySize") or "8Gi"}
    pod["volumes"] = [*pod.get("volumes", []), {"emptyDir": memory, "name": "shared-memory"}]
    selector = {PREFIX + "selector": meta["name"]}
    labels = {
        **((template.get("metadata") or {}).get("labels") or {}),
        **_labels(graph, component, hash_),
        **_discovery_labels(component),
        PREFIX + "dynamo-component-type": component["type"],
        PREFIX + "metrics-enabled": "true",
        **selector,
    }
    annotations = dict((template.get("metadata") or {}).get("annotations") or {})
    annotations.pop(PREFIX + "dynamo-operator-origin-version", None)
    recreate = annotations.pop(STRATEGY_ANNOTATION, "") == "Recreate"
    rolling = {"maxSurge": "25%", "maxUnavailable": "25%"}
    own = _labels(graph, component, hash_)
    if is_worker(component):
        own[PREFIX + "dynamo-sub-component-type"] = component["type"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": own,
            "ownerReferences": _owner(dcd),
        },
        "spec": {
            "replicas": component.get("replicas", 1),
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "Recreate"}
            if recreate
            else {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {
                "metadata": {"labels": labels, **({"annotations": annotations} if annotations else {})},
                "spec": pod,
            },
        },
    }


def service(graph: Obj, dcd: Obj, hash_: str) -> Obj:
    """The Service of a component. Its selector has no hash: both generations are behind it."""
    component, meta = dcd["spec"], dcd["metadata"]
    name, port = ("system", 9090) if is_worker(component) else ("http", 8000)
    labels = _labels(graph, component, hash_)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": {**labels, **_discovery_labels(component)},
            "ownerReferences": _owner(dcd),
        },
        "spec": {
            "type": "ClusterIP",
            "ports": [{"name": name, "port": port, "protocol": "TCP", "targetPort": name}],
            "selector": {
                PREFIX + "dynamo-component": component["name"],
                PREFIX + "dynamo-component-type": component["type"],
                PREFIX + "dynamo-namespace": labels[PREFIX + "dynamo-namespace"],
            },
        },
    }


def recreates(component: Obj) -> bool:
    """Whether the component asks to stop its old pods before new ones start."""
    template = component.get("podTemplate") or {}
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return annotations.get(STRATEGY_ANNOTATION) == "Recreate"
