# SPDX-License-Identifier: Apache-2.0
"""A compact structural schema of PodTemplateSpec for the CRDs.

Every field name is listed, so that unknown ones are pruned with a warning; every list that
Kubernetes merges by key is a list-map, so that server-side apply merges by name. Below that,
objects are kept as they come.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
INT32: Schema = {"type": "integer", "format": "int32"}
INT64: Schema = {"type": "integer", "format": "int64"}
BOOLEAN: Schema = {"type": "boolean"}
STRINGS: Schema = {"type": "array", "items": STRING, "x-kubernetes-list-type": "atomic"}
STRING_MAP: Schema = {"type": "object", "additionalProperties": STRING}
QUANTITY: Schema = {"anyOf": [INTEGER, STRING], "x-kubernetes-int-or-string": True}
ANY_OBJECT: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
OBJECTS: Schema = {"type": "array", "items": ANY_OBJECT, "x-kubernetes-list-type": "atomic"}


def open_object(**properties: Schema) -> Schema:
    """An object with some typed properties that keeps all others."""
    return {
        "type": "object",
        "properties": properties,
        "x-kubernetes-preserve-unknown-fields": True,
    }


def list_map(keys: list[str], properties: dict[str, Schema], *, closed: bool = True) -> Schema:
    """A list merged by ``keys``. ``closed``: unknown fields of its items are pruned."""
    required = [key for key in keys if "default" not in properties[key]]
    item: Schema = {"type": "object", "properties": properties}
    if required:
        item["required"] = required
    if not closed:
        item["x-kubernetes-preserve-unknown-fields"] = True
    return {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys,
    }


RESOURCES: Schema = {
    "type": "object",
    "properties": {
        "limits": {"type": "object", "additionalProperties": QUANTITY},
        "requests": {"type": "object", "additionalProperties": QUANTITY},
        "claims": list_map(["name"], {"name": STRING, "request": STRING}),
    },
}
ENV = list_map(["name"], {"name": STRING, "value": STRING, "valueFrom": ANY_OBJECT})
ENV_ATOMIC: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": STRING, "value": STRING, "valueFrom": ANY_OBJECT},
    },
}
MOUNTS = list_map(
    ["mountPath"],
    {
        "mountPath": STRING,
        "name": STRING,
        "readOnly": BOOLEAN,
        "recursiveReadOnly": STRING,
        "subPath": STRING,
        "subPathExpr": STRING,
        "mountPropagation": STRING,
    },
)
PORTS = list_map(
    ["containerPort", "protocol"],
    {
        "containerPort": INT32,
        "protocol": {"type": "string", "default": "TCP"},
        "name": STRING,
        "hostPort": INT32,
        "hostIP": STRING,
    },
)


def container_properties() -> dict[str, Schema]:
    """All fields of a container (Kubernetes 1.34)."""
    texts = (
        "name", "image", "imagePullPolicy", "workingDir", "terminationMessagePath",
        "terminationMessagePolicy", "restartPolicy",
    )  # fmt: skip
    objects = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "securityContext")
    return {
        **dict.fromkeys(texts, STRING),
        **dict.fromkeys(objects, ANY_OBJECT),
        **dict.fromkeys(("stdin", "stdinOnce", "tty"), BOOLEAN),
        **dict.fromkeys(("command", "args"), STRINGS),
        **dict.fromkeys(("envFrom", "resizePolicy", "restartPolicyRules"), OBJECTS),
        "env": ENV,
        "ports": PORTS,
        "volumeMounts": MOUNTS,
        "volumeDevices": list_map(["devicePath"], {"devicePath": STRING, "name": STRING}),
        "resources": RESOURCES,
    }


def pod_spec_properties() -> dict[str, Schema]:
    """All fields of a PodSpec (Kubernetes 1.34)."""
    texts = (
        "dnsPolicy", "hostname", "nodeName", "preemptionPolicy", "priorityClassName",
        "restartPolicy", "runtimeClassName", "schedulerName", "serviceAccount",
        "serviceAccountName", "subdomain", "hostnameOverride",
    )  # fmt: skip
    flags = (
        "automountServiceAccountToken", "enableServiceLinks", "hostIPC", "hostNetwork", "hostPID",
        "hostUsers", "setHostnameAsFQDN", "shareProcessNamespace",
    )  # fmt: skip
    objects = ("affinity", "dnsConfig", "os", "securityContext")
    containers = list_map(["name"], container_properties())
    volume = {"name": STRING, "hostPath": open_object(path=STRING, type=STRING)}
    return {
        **dict.fromkeys(texts, STRING),
        **dict.fromkeys(flags, BOOLEAN),
        **dict.fromkeys(objects, ANY_OBJECT),
        **dict.fromkeys(("activeDeadlineSeconds", "terminationGracePeriodSeconds"), INT64),
        **dict.fromkeys(("readinessGates", "tolerations"), OBJECTS),
        "priority": INT32,
        "containers": containers,
        "initContainers": containers,
        "ephemeralContainers": list_map(["name"], {"name": STRING}, closed=False),
        "volumes": list_map(["name"], volume, closed=False),
        "imagePullSecrets": list_map(["name"], {"name": {"type": "string", "default": ""}}),
        "hostAliases": list_map(["ip"], {"ip": STRING, "hostnames": STRINGS}),
        "nodeSelector": STRING_MAP,
        "overhead": {"type": "object", "additionalProperties": QUANTITY},
        "resourceClaims": list_map(["name"], {"name": STRING}, closed=False),
        "resources": RESOURCES,
        "schedulingGates": list_map(["name"], {"name": STRING}),
        "topologySpreadConstraints": list_map(
            ["topologyKey", "whenUnsatisfiable"],
            {"topologyKey": STRING, "whenUnsatisfiable": STRING},
            closed=False,
        ),
    }


def pod_template() -> Schema:
    """Schema of PodTemplateSpec."""
    metadata = {"type": "object", "properties": {"annotations": STRING_MAP, "labels": STRING_MAP}}
    spec = {"type": "object", "properties": pod_spec_properties()}
    return {"type": "object", "properties": {"metadata": metadata, "spec": spec}}
