# SPDX-License-Identifier: Apache-2.0
"""Pure: DynamoGraphDeployment between v1alpha1 and v1beta1 (the storage version).

What one version cannot express is kept in the annotation ``nvidia.com/dgd-spec``: in a stored
object it holds the alpha-only shape (``spec.services``), in an alpha view the beta-only shape
(``spec.components``). The other view never shows it. Facts: recordings ``objects-*.json``,
``spec-v1alpha1-*`` and ``patch-methods-*.jsonl``.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from lab.operator import names
from lab.operator.convert_component import (
    alpha_component,
    alpha_memory,
    beta_component,
    beta_memory,
)

Object = dict[str, Any]
SHARED_SPEC = (
    "annotations", "labels", "backendFramework", "priorityClassName", "restart",
    "topologyConstraint", "providerOverride", "experimental",
)  # fmt: skip
ALPHA_ONLY_SPEC = ("pvcs",)


class ConversionError(ValueError):
    """The object is of a kind or version that this webhook does not know."""


def _memory(obj: Object, key: str) -> Object:
    text = obj["metadata"].get("annotations", {}).get(names.DGD_SPEC)
    if not text:
        return {}
    try:
        spec = json.loads(text).get("spec", {})
    except (ValueError, AttributeError):
        # A user may have written anything into the annotation: it is a hint, never a reason to
        # fail.
        return {}
    return spec if key in spec or key == "" else {}


def _with_memory(obj: Object, spec: Object | None) -> None:
    annotations = obj["metadata"].get("annotations")
    if spec:
        text = json.dumps({"version": 1, "spec": spec}, separators=(",", ":"))
        obj["metadata"].setdefault("annotations", {})[names.DGD_SPEC] = text
    elif annotations:
        annotations.pop(names.DGD_SPEC, None)
        if not annotations:
            del obj["metadata"]["annotations"]


def _ordered(services: Object, remembered: list[str]) -> list[str]:
    """Component order: as remembered from a beta object, new ones by name after them."""
    known = [name for name in remembered if name in services]
    return known + sorted(name for name in services if name not in known)


def to_beta(alpha: Object) -> Object:
    """v1alpha1 object to v1beta1. Partial objects (as in server-side apply) are fine."""
    obj = {k: copy.deepcopy(v) for k, v in alpha.items() if k not in ("spec", "status")}
    obj["apiVersion"] = names.HUB_VERSION
    remembered = _memory(alpha, "components").get("components", [])
    by_name = {entry["name"]: entry for entry in remembered if "name" in entry}
    if "spec" in alpha:
        obj["spec"], memory = _spec_to_beta(alpha["spec"] or {}, by_name)
        _with_memory(obj, memory)
    if "status" in alpha:
        obj["status"] = _status_to_beta(alpha["status"])
    return obj


def _spec_to_beta(source: Object, by_name: Object) -> tuple[Object, Object]:
    spec: Object = {k: copy.deepcopy(source[k]) for k in SHARED_SPEC if k in source}
    services = source.get("services")
    memory: Object = {k: copy.deepcopy(source[k]) for k in ALPHA_ONLY_SPEC if k in source}
    if services is not None:
        order = _ordered(services, list(by_name))
        components = [
            beta_component(name, services[name] or {}, by_name.get(name)) for name in order
        ]
        spec["components"] = components
        kept = {
            component["name"]: shape
            for component in components
            if (shape := alpha_memory(services[component["name"]] or {}, component))
        }
        if kept:
            memory["services"] = kept
    if "envs" in source:
        spec["env"] = copy.deepcopy(source["envs"])
    return spec, memory


def to_alpha(beta: Object) -> Object:
    """v1beta1 object to v1alpha1."""
    obj = {k: copy.deepcopy(v) for k, v in beta.items() if k not in ("spec", "status")}
    obj["apiVersion"] = names.ALPHA_VERSION
    stored = _memory(beta, "")
    if "spec" in beta:
        obj["spec"] = _spec_to_alpha(beta["spec"] or {}, stored)
        _with_memory(obj, _beta_only(beta["spec"] or {}, bool(stored), obj["spec"]))
    if "status" in beta:
        obj["status"] = _status_to_alpha(beta["status"])
    return obj


def _spec_to_alpha(source: Object, stored: Object) -> Object:
    spec: Object = {k: copy.deepcopy(source[k]) for k in SHARED_SPEC if k in source}
    spec.update({k: stored[k] for k in ALPHA_ONLY_SPEC if k in stored})
    shapes = stored.get("services", {})
    if "components" in source:
        spec["services"] = {
            component["name"]: alpha_component(component, shapes.get(component["name"]))
            for component in source["components"]
            if "name" in component
        }
    if "env" in source:
        spec["envs"] = copy.deepcopy(source["env"])
    return spec


def _beta_only(source: Object, alpha_born: bool, alpha_spec: Object) -> Object | None:
    """Beta-only shape of the components; an object born in beta also keeps the order of its
    components."""
    entries = []
    for component in source.get("components", []):
        service = alpha_spec["services"].get(component.get("name"), {})
        entry = beta_memory(component, service)
        if entry is not None:
            entries.append(entry)
        elif not alpha_born:
            entries.append({"name": component.get("name", "")})
    return {"components": entries} if entries else None


def _status_to_beta(source: Object) -> Object:
    status = copy.deepcopy(source)
    services = status.pop("services", None)
    if services is not None:
        for part in services.values():
            part.pop("componentName", None)
        status["components"] = services
    rolling = status.get("rollingUpdate")
    if rolling and "updatedServices" in rolling:
        rolling["updatedComponents"] = rolling.pop("updatedServices")
    return status


def _status_to_alpha(source: Object) -> Object:
    status = copy.deepcopy(source)
    components = status.pop("components", None)
    if components is not None:
        for part in components.values():
            if part.get("componentNames"):
                part["componentName"] = part["componentNames"][0]
        status["services"] = components
    rolling = status.get("rollingUpdate")
    if rolling and "updatedComponents" in rolling:
        rolling["updatedServices"] = rolling.pop("updatedComponents")
    return status


def convert(obj: Object, version: str) -> Object:
    """One object of a ConversionReview to ``version`` (such as ``nvidia.com/v1alpha1``).

    :raises ConversionError: for another kind or version.
    """
    kind = obj.get("kind")
    if kind != names.DGD_KIND:
        raise ConversionError(
            f"cannot convert kind {kind!r}: only {names.DGD_KIND} has two versions"
        )
    if obj.get("apiVersion") == version:
        return obj
    if version == names.HUB_VERSION:
        return to_beta(obj)
    if version == names.ALPHA_VERSION:
        return to_alpha(obj)
    raise ConversionError(
        f"cannot convert to {version!r}: known are {names.ALPHA_VERSION} and {names.HUB_VERSION}"
    )
