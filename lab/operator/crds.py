# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinitions of the stand-in. ``python3 -m lab.operator crds`` prints them.

Names, printer columns, versions and conversion are the recorded ones (``operator-install-
objects.json``). The DynamoComponentDeployment is served in v1beta1 only: users never touch it.
"""

from __future__ import annotations

import copy
from typing import Any

from lab.operator import names
from lab.operator.pod_schema import (
    ANY_OBJECT,
    BOOLEAN,
    ENV,
    ENV_ATOMIC,
    INT32,
    OBJECTS,
    QUANTITY,
    STRING,
    STRING_MAP,
    STRINGS,
    container_properties,
    pod_spec_properties,
    pod_template,
)

Object = dict[str, Any]
AGE: Object = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
NAME_PATTERN = "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$"
RESTART: Object = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "strategy": {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["Sequential", "Parallel"]},
                "order": STRINGS,
            },
        },
    },
}
REPLICAS: Object = {"type": "integer", "format": "int32", "minimum": 0}
RESTART_RULE: Object = {
    "rule": "oldSelf.hasValue() || !has(self.restart)",
    "optionalOldSelf": True,
    "message": (
        "spec.restart must be unset on create; "
        "set spec.restart.id after creation to request a restart"
    ),
}
OPEN_COMPONENT_FIELDS = (
    "multinode", "modelRef", "scalingAdapter", "frontendSidecar", "dynamoSidecar",
    "compilationCache", "topologyConstraint", "experimental", "eppConfig",
)  # fmt: skip
OPEN_GRAPH_FIELDS = ("topologyConstraint", "providerOverride", "experimental")


def component_properties() -> Object:
    """Fields of a v1beta1 component."""
    return {
        "name": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": NAME_PATTERN},
        "type": {"type": "string", "enum": list(names.COMPONENT_TYPES)},
        "podTemplate": pod_template(),
        "replicas": REPLICAS,
        "minAvailable": INT32,
        "sharedMemorySize": QUANTITY,
        "runtimeVersionOverride": STRING,
        "roles": OBJECTS,
        **dict.fromkeys(OPEN_COMPONENT_FIELDS, ANY_OBJECT),
    }


def _graph_properties() -> Object:
    return {
        "annotations": STRING_MAP,
        "labels": STRING_MAP,
        "backendFramework": {"type": "string", "enum": ["sglang", "vllm", "trtllm"]},
        "priorityClassName": STRING,
        "restart": RESTART,
        **dict.fromkeys(OPEN_GRAPH_FIELDS, ANY_OBJECT),
    }


def dgd_beta_spec() -> Object:
    """Schema of ``spec`` in v1beta1."""
    components = {
        "type": "array",
        "maxItems": 25,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-validations": [
            {
                "rule": (
                    "self.all(a, self.exists_one(b, b.name.lowerAscii() == a.name.lowerAscii()))"
                ),
                "message": "component names must be unique case-insensitively",
            }
        ],
        "items": {"type": "object", "required": ["name"], "properties": component_properties()},
    }
    return {
        "type": "object",
        "x-kubernetes-validations": [RESTART_RULE],
        "properties": {**_graph_properties(), "components": components, "env": ENV},
    }


def _alpha_resources() -> Object:
    item = {
        "type": "object",
        "properties": {
            **dict.fromkeys(("gpu", "cpu", "memory", "gpuType", "ephemeral-storage"), STRING),
            "custom": STRING_MAP,
        },
    }
    return {"type": "object", "properties": {"limits": item, "requests": item, "claims": OBJECTS}}


def _service_schema() -> Object:
    main = {"type": "object", "properties": container_properties()}
    pod = {"type": "object", "properties": {**pod_spec_properties(), "mainContainer": main}}
    mounts = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": STRING, "mountPoint": STRING, "useAsCompilationCache": BOOLEAN},
        },
    }
    opened = (
        "livenessProbe", "readinessProbe", "startupProbe", "ingress", "autoscaling",
        "sharedMemory", "checkpoint", "gpuMemoryService", "failover", *OPEN_COMPONENT_FIELDS,
    )  # fmt: skip
    texts = (
        "componentType", "subComponentType", "dynamoNamespace", "envFromSecret",
        "runtimeVersionOverride", "serviceName",
    )  # fmt: skip
    metadata = {"type": "object", "properties": {"annotations": STRING_MAP, "labels": STRING_MAP}}
    return {
        "type": "object",
        "properties": {
            **dict.fromkeys(texts, STRING),
            **dict.fromkeys(opened, ANY_OBJECT),
            **dict.fromkeys(("annotations", "labels"), STRING_MAP),
            "globalDynamoNamespace": BOOLEAN,
            "replicas": REPLICAS,
            "minAvailable": INT32,
            "roles": OBJECTS,
            "envs": ENV_ATOMIC,
            "volumeMounts": mounts,
            "resources": _alpha_resources(),
            "extraPodMetadata": metadata,
            "extraPodSpec": pod,
        },
    }


def dgd_alpha_spec() -> Object:
    """Schema of ``spec`` in v1alpha1."""
    services = {"type": "object", "maxProperties": 25, "additionalProperties": _service_schema()}
    return {
        "type": "object",
        "x-kubernetes-validations": [RESTART_RULE],
        "properties": {
            **_graph_properties(),
            "services": services,
            "envs": ENV_ATOMIC,
            "pvcs": {**OBJECTS, "maxItems": 100},
        },
    }


def _version(
    name: str, spec: Object, columns: list[Object], *, storage: bool, status: bool = True
) -> Object:
    schema: Object = {
        "type": "object",
        "properties": {
            "apiVersion": STRING,
            "kind": STRING,
            "metadata": {"type": "object"},
            "spec": spec,
        },
    }
    version: Object = {
        "name": name,
        "served": True,
        "storage": storage,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    if status:
        schema["properties"]["status"] = ANY_OBJECT
        version["subresources"] = {"status": {}}
    return version


def _crd(kind: str, short: str, versions: list[Object], *, converted: bool = False) -> Object:
    plural = kind.lower() + "s"
    spec: Object = {
        "group": names.GROUP,
        "names": {
            "plural": plural,
            "singular": kind.lower(),
            "shortNames": [short],
            "kind": kind,
            "listKind": f"{kind}List",
        },
        "scope": "Namespaced",
        "versions": versions,
    }
    if converted:
        service = {
            "namespace": "dynamo-system",
            "name": names.WEBHOOK_SERVICE,
            "path": "/convert",
            "port": 443,
        }
        webhook = {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1"]}
        spec["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{names.GROUP}",
            "annotations": {"dynamo.nvidia.com/operator-version": names.OPERATOR_VERSION},
        },
        "spec": spec,
    }


def _dgd() -> Object:
    ready = {
        "name": "Ready",
        "type": "string",
        "description": "Ready status of the graph deployment",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
    }
    backend = {
        "name": "Backend",
        "type": "string",
        "description": "Backend framework (sglang, vllm, trtllm)",
        "jsonPath": ".spec.backendFramework",
    }
    columns = [ready, backend, AGE]
    alpha = _version("v1alpha1", dgd_alpha_spec(), columns, storage=False)
    alpha["deprecated"] = True
    alpha["deprecationWarning"] = (
        f"{names.ALPHA_VERSION} {names.DGD_KIND} is deprecated; "
        f"use {names.HUB_VERSION} {names.DGD_KIND}"
    )
    beta = _version("v1beta1", dgd_beta_spec(), columns, storage=True)
    return _crd(names.DGD_KIND, "dgd", [alpha, beta], converted=True)


def _dcd() -> Object:
    available = {
        "name": "Available",
        "type": "string",
        "description": "Available",
        "jsonPath": ".status.conditions[?(@.type=='Available')].status",
    }
    spec = {"type": "object", "required": ["name"], "properties": component_properties()}
    return _crd(names.DCD_KIND, "dcd", [_version("v1beta1", spec, [available, AGE], storage=True)])


def _worker_metadata() -> Object:
    spec = {"type": "object", "properties": {"data": ANY_OBJECT}}
    version = _version("v1alpha1", spec, [AGE], storage=True, status=False)
    return _crd("DynamoWorkerMetadata", "dwm", [version])


def all_crds() -> list[Object]:
    """The three CRDs, as new objects (nothing is shared, so they dump without YAML anchors)."""
    return [copy.deepcopy(crd) for crd in (_dgd(), _dcd(), _worker_metadata())]
