# SPDX-License-Identifier: Apache-2.0
"""Pure: DynamoComponentDeployment to its Deployment and Service.

Facts: recordings ``objects-*.json``: labels, sorted env, ports, probes, shared memory, account,
grace period.
"""

from __future__ import annotations

import copy
from typing import Any

from lab.operator import names
from lab.operator.hash import last_applied_hash
from lab.operator.render import owner_reference
from lab.operator.settings import Probes

Object = dict[str, Any]


def _graph(dcd: Object) -> str:
    return dcd["metadata"]["labels"][names.GRAPH]


def worker_hash_of(dcd: Object) -> str | None:
    """The generation of a DCD, or None for a component that is no worker."""
    value: str | None = dcd["metadata"].get("labels", {}).get(names.WORKER_HASH)
    return value


def _base_labels(dcd: Object) -> dict[str, str]:
    spec = dcd["spec"]
    labels = dict(dcd["metadata"]["labels"])
    if names.is_worker(spec) and spec["type"] != "worker":
        labels[names.SUB_TYPE] = spec["type"]
    return labels


def _pod_labels(dcd: Object) -> dict[str, str]:
    spec = dcd["spec"]
    user = spec.get("podTemplate", {}).get("metadata", {}).get("labels", {})
    labels = {**user, **_base_labels(dcd)}
    labels[names.COMPONENT_TYPE] = spec.get("type", "")
    if not labels[names.COMPONENT_TYPE]:
        del labels[names.COMPONENT_TYPE]
    labels[names.DISCOVERY_BACKEND] = "kubernetes"
    labels[names.DISCOVERY_ENABLED] = "true"
    labels[names.METRICS_ENABLED] = "true"
    labels[names.SELECTOR] = dcd["metadata"]["name"]
    return labels


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _operator_env(dcd: Object) -> list[Object]:
    spec, meta = dcd["spec"], dcd["metadata"]
    dynamo_namespace = meta["labels"][names.NAMESPACE]
    values = {
        "DYN_COMPONENT": spec.get("type", ""),
        "DYN_DISCOVERY_BACKEND": "kubernetes",
        "DYN_NAMESPACE": dynamo_namespace,
        "DYN_PARENT_DGD_K8S_NAME": _graph(dcd),
        "DYN_PARENT_DGD_K8S_NAMESPACE": meta["namespace"],
    }
    if spec.get("type") == names.FRONTEND:
        values |= {
            "DYNAMO_PORT": "8000",
            "DYN_HTTP_PORT": "8000",
            "DYN_NAMESPACE_PREFIX": dynamo_namespace,
        }
    elif names.is_worker(spec):
        values |= {
            "DYN_FORWARDPASS_METRIC_PORT": "20380",
            "DYN_HEALTH_CHECK_ENABLED": "false",
            "DYN_NAMESPACE_WORKER_SUFFIX": worker_hash_of(dcd) or "",
            "DYN_SYSTEM_ENABLED": "true",
            "DYN_SYSTEM_PORT": "9090",
            "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS": '["generate"]',
            "NIXL_TELEMETRY_ENABLE": "n",
            "NIXL_TELEMETRY_EXPORTER": "prometheus",
            "NIXL_TELEMETRY_PROMETHEUS_PORT": "19090",
        }
    env: list[Object] = [{"name": name, "value": value} for name, value in values.items()]
    return [
        *env,
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("POD_UID", "metadata.uid"),
    ]


def _probe(path: str, port: str, **times: int) -> Object:
    probe: Object = {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "successThreshold": 1,
    }
    probe.update({key: value for key, value in times.items() if value})
    return probe


def _frontend_defaults(probes: Probes) -> Object:
    return {
        "ports": [{"containerPort": 8000, "name": "http", "protocol": "TCP"}],
        "livenessProbe": _probe(
            "/live", "http", initialDelaySeconds=probes.frontend_liveness_delay,
            periodSeconds=probes.frontend_liveness_period, timeoutSeconds=1, failureThreshold=3,
        ),
        "readinessProbe": _probe(
            "/health", "http", initialDelaySeconds=probes.frontend_readiness_delay,
            periodSeconds=probes.frontend_readiness_period, timeoutSeconds=3, failureThreshold=3,
        ),
    }  # fmt: skip


def _worker_defaults(probes: Probes) -> Object:
    return {
        "ports": [
            {"containerPort": 9090, "name": "system", "protocol": "TCP"},
            {"containerPort": 19090, "name": "nixl", "protocol": "TCP"},
        ],
        "livenessProbe": _probe(
            "/live", "system", periodSeconds=probes.worker_liveness_period, timeoutSeconds=4,
            failureThreshold=1,
        ),
        "readinessProbe": _probe(
            "/health", "system", periodSeconds=probes.worker_readiness_period, timeoutSeconds=4,
            failureThreshold=3,
        ),
        "startupProbe": _probe(
            "/live", "system", periodSeconds=probes.startup_period, timeoutSeconds=5,
            failureThreshold=probes.startup_failures,
        ),
    }  # fmt: skip


def _main_container(dcd: Object, container: Object, probes: Probes) -> Object:
    spec = dcd["spec"]
    main = copy.deepcopy(container)
    defaults: Object = {}
    if spec.get("type") == names.FRONTEND:
        defaults = _frontend_defaults(probes)
        if not main.get("command") and not main.get("args"):
            main["command"], main["args"] = ["python3"], ["-m", "dynamo.frontend"]
    elif names.is_worker(spec):
        defaults = _worker_defaults(probes)
    for key, value in defaults.items():
        main.setdefault(key, value)
    env = {entry["name"]: entry for entry in _operator_env(dcd)}
    env.update({entry["name"]: entry for entry in main.get("env", [])})
    main["env"] = [env[name] for name in sorted(env)]
    return main


def _pod_spec(dcd: Object, probes: Probes) -> Object:
    spec = dcd["spec"]
    pod: Object = copy.deepcopy(spec.get("podTemplate", {}).get("spec", {}))
    pod["containers"] = [
        _main_container(dcd, container, probes) if container["name"] == "main" else container
        for container in pod.get("containers", [])
    ]
    account = names.discovery_account(_graph(dcd))
    pod.setdefault("serviceAccountName", account)
    pod.setdefault("terminationGracePeriodSeconds", 60)
    pod.setdefault("securityContext", {"fsGroup": 1000})
    size = str(spec.get("sharedMemorySize", "8Gi"))
    if size != "0":
        volume = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
        pod["volumes"] = [*pod.get("volumes", []), volume]
        for container in pod["containers"]:
            if container["name"] == "main":
                mount = {"name": "shared-memory", "mountPath": "/dev/shm"}
                container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
    return pod


def _pod_annotations(dcd: Object) -> dict[str, str]:
    """The user's annotations and the restart mark; the operator's own do not reach the pods."""
    user = dcd["spec"].get("podTemplate", {}).get("metadata", {}).get("annotations", {})
    hidden = (names.ORIGIN_VERSION, names.STRATEGY)
    return {key: value for key, value in user.items() if key not in hidden}


def uses_recreate(component: Object) -> bool:
    """True when the podTemplate asks for the Recreate strategy instead of a rollout with a spare
    GPU."""
    annotations = component.get("podTemplate", {}).get("metadata", {}).get("annotations", {})
    return str(annotations.get(names.STRATEGY, "")) == "Recreate"


def deployment(dcd: Object, probes: Probes) -> Object:
    """The Deployment of a component. Probe times come from ``probes``; everything else is fixed."""
    meta, spec = dcd["metadata"], dcd["spec"]
    template_meta: Object = {"labels": _pod_labels(dcd)}
    annotations = _pod_annotations(dcd)
    if annotations:
        template_meta["annotations"] = annotations
    strategy: Object = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    if uses_recreate(spec):
        strategy = {"type": "Recreate"}
    body = {
        "replicas": spec.get("replicas", 1),
        "selector": {"matchLabels": {names.SELECTOR: meta["name"]}},
        "strategy": strategy,
        "progressDeadlineSeconds": 600,
        "template": {"metadata": template_meta, "spec": _pod_spec(dcd, probes)},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": _base_labels(dcd),
            "annotations": {names.LAST_GENERATION: "1", names.LAST_HASH: last_applied_hash(body)},
            "ownerReferences": [owner_reference(dcd, names.DCD_KIND)],
        },
        "spec": body,
    }


def service(dcd: Object) -> Object:
    """The Service of a component. Its selector has no hash: both generations of a rollout match
    both."""
    meta, spec = dcd["metadata"], dcd["spec"]
    port = ("http", 8000) if spec.get("type") == names.FRONTEND else ("system", 9090)
    selector = {
        names.COMPONENT: meta["labels"][names.COMPONENT],
        names.NAMESPACE: meta["labels"][names.NAMESPACE],
    }
    if spec.get("type"):
        selector[names.COMPONENT_TYPE] = spec["type"]
    body = {
        "ports": [{"name": port[0], "port": port[1], "protocol": "TCP", "targetPort": port[0]}],
        "selector": selector,
    }
    labels = _base_labels(dcd)
    labels[names.DISCOVERY_BACKEND] = "kubernetes"
    labels[names.DISCOVERY_ENABLED] = "true"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": {names.LAST_GENERATION: "1", names.LAST_HASH: last_applied_hash(body)},
            "ownerReferences": [owner_reference(dcd, names.DCD_KIND)],
        },
        "spec": body,
    }
