# SPDX-License-Identifier: Apache-2.0
"""Pure: one service of v1alpha1 against one component of v1beta1.

``envs`` and ``extraPodSpec.mainContainer.env`` both land in container ``main``; GPU limits change
their key from ``gpu`` to ``nvidia.com/gpu``; alpha shows Go's zero values (``name: ''``,
``resources: {}``), beta does not.
"""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
NAMED_RESOURCES = {
    "gpu": GPU,
    "cpu": "cpu",
    "memory": "memory",
    "ephemeral-storage": "ephemeral-storage",
}
SHARED = (
    "replicas", "runtimeVersionOverride", "minAvailable", "multinode", "roles", "modelRef",
    "scalingAdapter", "topologyConstraint", "eppConfig", "experimental", "dynamoSidecar",
    "compilationCache",
)  # fmt: skip
# Alpha fields without a home in beta: kept in the annotation, given back in the alpha view.
ALPHA_ONLY = (
    "dynamoNamespace", "globalDynamoNamespace", "autoscaling", "ingress", "checkpoint",
    "gpuMemoryService", "failover", "frontendSidecar", "annotations", "labels", "serviceName",
)  # fmt: skip
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def _beta_type(service: Object) -> str | None:
    kind, sub = service.get("componentType"), service.get("subComponentType")
    return str(sub) if kind == "worker" and sub in ("prefill", "decode") else kind


def _alpha_type(kind: str | None) -> Object:
    if kind in ("prefill", "decode"):
        return {"componentType": "worker", "subComponentType": kind}
    return {"componentType": kind} if kind else {}


def _beta_resources(resources: Object) -> Object:
    result: Object = {}
    for section in ("limits", "requests"):
        values = resources.get(section) or {}
        flat = {NAMED_RESOURCES[key]: values[key] for key in NAMED_RESOURCES if key in values}
        flat.update(values.get("custom") or {})
        if flat:
            result[section] = flat
    return result


def _alpha_resources(resources: Object) -> Object:
    back = {value: key for key, value in NAMED_RESOURCES.items()}
    result: Object = {}
    for section in ("limits", "requests"):
        named: Object = {}
        for key, value in (resources.get(section) or {}).items():
            if key in back:
                named[back[key]] = str(value)
            else:
                named.setdefault("custom", {})[key] = str(value)
        if named:
            result[section] = named
    return result


def _merge_named(key: str, *lists: list[Object]) -> list[Object]:
    merged: Object = {}
    for entry in (entry for one in lists for entry in one):
        merged[str(entry.get(key))] = entry
    return list(merged.values())


def _without_zero(container: Object) -> Object:
    result = copy.deepcopy(container)
    if result.get("resources") == {}:
        del result["resources"]
    return result


def _main_of(component: Object) -> Object:
    containers = component.get("podTemplate", {}).get("spec", {}).get("containers", [])
    return next((c for c in containers if c.get("name") == "main"), {})


def _remembered_mounts(memory: Object | None) -> dict[str, Object]:
    mounts = _main_of(memory or {}).get("volumeMounts", [])
    return {mount["mountPath"]: mount for mount in mounts if "mountPath" in mount}


def _beta_mounts(service: Object, main: Object, memory: Object | None) -> list[Object]:
    remembered = _remembered_mounts(memory)
    own = []
    for mount in service.get("volumeMounts") or []:
        path = mount.get("mountPoint")
        plain = {"name": mount.get("name"), "mountPath": path}
        known = remembered.get(str(path))
        own.append(copy.deepcopy(known) if known and known.get("name") == plain["name"] else plain)
    return _merge_named("mountPath", own, main.get("volumeMounts") or [])


def _beta_main(service: Object, memory: Object | None) -> Object:
    source = (service.get("extraPodSpec") or {}).get("mainContainer") or {}
    main = _without_zero(source)
    env = _merge_named("name", service.get("envs") or [], source.get("env") or [])
    mounts = _beta_mounts(service, source, memory)
    resources = _beta_resources(service.get("resources") or {})
    for section, values in (source.get("resources") or {}).items():
        resources[section] = {**resources.get(section, {}), **values}
    for key, value in (("env", env), ("volumeMounts", mounts), ("resources", resources)):
        main.pop(key, None)
        if value:
            main[key] = copy.deepcopy(value)
    if service.get("envFromSecret"):
        secret = {"secretRef": {"name": service["envFromSecret"]}}
        main["envFrom"] = [*main.get("envFrom", []), secret]
    for probe in PROBES:
        if service.get(probe):
            main[probe] = copy.deepcopy(service[probe])
    if main:
        main["name"] = "main"
    return main


def beta_component(name: str, service: Object, memory: Object | None) -> Object:
    """A v1alpha1 service as v1beta1 component. ``memory``: this component's beta-only shape, if
    any."""
    component: Object = {"name": name}
    component.update({key: copy.deepcopy(service[key]) for key in SHARED if key in service})
    kind = _beta_type(service)
    if kind:
        component["type"] = kind
    shared = service.get("sharedMemory") or {}
    if shared.get("disabled"):
        component["sharedMemorySize"] = "0"
    elif shared.get("size"):
        component["sharedMemorySize"] = shared["size"]
    pod = {k: copy.deepcopy(v) for k, v in (service.get("extraPodSpec") or {}).items()}
    pod.pop("mainContainer", None)
    main = _beta_main(service, memory)
    others = [_without_zero(c) for c in pod.pop("containers", None) or []]
    if "initContainers" in pod:
        pod["initContainers"] = [_without_zero(c) for c in pod["initContainers"] or []]
    if main or others:
        pod["containers"] = [main, *others] if main else others
    template: Object = {}
    if service.get("extraPodMetadata"):
        template["metadata"] = copy.deepcopy(service["extraPodMetadata"])
    if pod:
        template["spec"] = pod
    if template:
        component["podTemplate"] = template
    return component


def _alpha_container(container: Object) -> Object:
    result = copy.deepcopy(container)
    result.setdefault("resources", {})
    return result


def _split(entries: list[Object], key: str, inner: set[Any]) -> tuple[list[Object], list[Object]]:
    """Entries that belong to mainContainer and the rest, by the names the alpha shape remembers."""
    inside = [copy.deepcopy(e) for e in entries if e.get(key) in inner]
    outside = [copy.deepcopy(e) for e in entries if e.get(key) not in inner]
    return inside, outside


def _alpha_main(main: Object, shape: Object, service: Object) -> Object:
    """mainContainer of the alpha view; what belongs to the service level is put into
    ``service``."""
    remembered = (shape.get("extraPodSpec") or {}).get("mainContainer") or {}
    result = {
        k: copy.deepcopy(v)
        for k, v in main.items()
        if k not in ("env", "volumeMounts", "resources")
    }
    result["name"] = ""
    env_in, env_out = _split(
        main.get("env", []), "name", {e.get("name") for e in remembered.get("env", [])}
    )
    paths = {m.get("mountPath") for m in remembered.get("volumeMounts", [])}
    mounts_in, mounts_out = _split(main.get("volumeMounts", []), "mountPath", paths)
    inner_resources: Object = {}
    resources = copy.deepcopy(main.get("resources", {}))
    for section, values in (remembered.get("resources") or {}).items():
        kept = {k: resources[section].pop(k) for k in values if k in resources.get(section, {})}
        if kept:
            inner_resources[section] = kept
    if env_in:
        result["env"] = env_in
    if mounts_in:
        result["volumeMounts"] = mounts_in
    result["resources"] = inner_resources
    if env_out:
        service["envs"] = env_out
    if mounts_out:
        service["volumeMounts"] = [
            {"name": m.get("name"), "mountPoint": m.get("mountPath")} for m in mounts_out
        ]
    outer = _alpha_resources(resources)
    if outer:
        service["resources"] = outer
    return result


def alpha_component(component: Object, shape: Object | None = None) -> Object:
    """A v1beta1 component as v1alpha1 service. ``shape``: its alpha-only shape, if any."""
    shape = shape or {}
    service: Object = {key: copy.deepcopy(component[key]) for key in SHARED if key in component}
    service.update({key: copy.deepcopy(shape[key]) for key in ALPHA_ONLY if key in shape})
    kind = _alpha_type(component.get("type"))
    if "componentType" in shape and _beta_type(shape) == component.get("type"):
        kind = {k: shape[k] for k in ("componentType", "subComponentType") if k in shape}
    service.update(kind)
    size = component.get("sharedMemorySize")
    if size is not None:
        service["sharedMemory"] = {"disabled": True} if str(size) == "0" else {"size": size}
    template = component.get("podTemplate", {})
    if template.get("metadata"):
        service["extraPodMetadata"] = copy.deepcopy(template["metadata"])
    pod = {k: copy.deepcopy(v) for k, v in template.get("spec", {}).items() if k != "containers"}
    for key in ("initContainers",):
        if key in pod:
            pod[key] = [_alpha_container(c) for c in pod[key]]
    main = _main_of(component)
    others = [c for c in template.get("spec", {}).get("containers", []) if c.get("name") != "main"]
    if others:
        pod["containers"] = [_alpha_container(c) for c in others]
    if main:
        pod["mainContainer"] = _alpha_main(main, shape, service)
    if pod:
        service["extraPodSpec"] = pod
    return service


def _zeroed(service: Object) -> Object:
    """The service as the alpha view shows it, with Go's zero values filled in."""
    result = copy.deepcopy(service)
    pod = result.get("extraPodSpec") or {}
    if "mainContainer" in pod:
        main = pod["mainContainer"] or {}
        main["name"] = ""
        main.setdefault("resources", {})
        pod["mainContainer"] = main
    for key in ("containers", "initContainers"):
        if pod.get(key):
            pod[key] = [_alpha_container(c) for c in pod[key]]
    return result


def alpha_memory(service: Object, component: Object) -> Object | None:
    """The part of an alpha service that beta cannot give back, or None when nothing is lost."""
    if alpha_component(component) == _zeroed(service):
        return None
    shape: Object = {key: copy.deepcopy(service[key]) for key in ALPHA_ONLY if key in service}
    for key in ("resources", "envs"):
        if service.get(key):
            shape[key] = copy.deepcopy(service[key])
    kind: Object = {k: service[k] for k in ("componentType", "subComponentType") if k in service}
    if kind != _alpha_type(component.get("type")):
        shape.update(kind)
    if service.get("volumeMounts"):
        shape["volumeMounts"] = copy.deepcopy(service["volumeMounts"])
    source = (service.get("extraPodSpec") or {}).get("mainContainer")
    if source is not None:
        main = {"name": "", "resources": copy.deepcopy(source.get("resources") or {})}
        for key in ("env", "volumeMounts"):
            if source.get(key):
                main[key] = copy.deepcopy(source[key])
        shape["extraPodSpec"] = {"mainContainer": main}
    return shape or None


def beta_memory(component: Object, service: Object) -> Object | None:
    """The part of a component that the alpha service cannot give back: attributes of service-level
    mounts."""
    outer = {m["mountPoint"] for m in service.get("volumeMounts", [])}
    mounts = _main_of(component).get("volumeMounts", [])
    if not any(m.get("mountPath") in outer and set(m) - {"name", "mountPath"} for m in mounts):
        return None
    main = {"name": "main", "resources": {}, "volumeMounts": copy.deepcopy(mounts)}
    template = {"metadata": {}, "spec": {"containers": [main]}}
    return {"name": component["name"], "podTemplate": template}
