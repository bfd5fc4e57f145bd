# SPDX-License-Identifier: Apache-2.0
"""Pure: admission of a v1beta1 DynamoGraphDeployment, with the recorded texts.

What the API server itself checks by schema (types, enums, unique names, ``restart`` at create) is
in ``crds.py``. Facts: recordings ``patch-methods-*.jsonl`` and ``create-validation-and-operator-
down.jsonl``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from lab.operator import names

Object = dict[str, Any]
SEMVER = re.compile(r"^v?\d+\.\d+\.\d+(?:[-+.][0-9A-Za-z.+-]*)?$")
IMMUTABLE_ANNOTATIONS = (names.WORKLOAD_PROVIDER, names.ORIGIN_VERSION)
NO_VERSION = (
    "Required value: is required when the specified main container image "
    "has no parseable semantic-version tag"
)


@dataclass(frozen=True)
class Cause:
    """One reason to refuse, in the shape of a Kubernetes StatusCause."""

    reason: str
    message: str
    field: str


def image_version(image: str) -> str | None:
    """Semantic version in an image's tag, or None (other tags, none, or a digest only)."""
    name = image.split("@", 1)[0]
    last = name.rsplit("/", 1)[-1]
    tag = last.partition(":")[2]
    return tag if SEMVER.match(tag) else None


def _component_causes(index: int, component: Object) -> list[Cause]:
    path = f"spec.components[{index}]"
    containers = component.get("podTemplate", {}).get("spec", {}).get("containers", [])
    field = f"{path}.podTemplate.spec.containers"
    places = [i for i, container in enumerate(containers) if container.get("name") == "main"]
    if not places:
        return [Cause("FieldValueRequired", "Required value: is required", field)]
    image = containers[places[0]].get("image", "")
    if not image:
        field = f"{field}[{places[0]}].image"
        return [Cause("FieldValueRequired", "Required value: is required", field)]
    if not component.get("runtimeVersionOverride") and not image_version(image):
        return [Cause("FieldValueRequired", NO_VERSION, f"{path}.runtimeVersionOverride")]
    return []


def _topology_causes(new: Object, old: Object) -> list[Cause]:
    after = [c.get("name") for c in new["spec"].get("components", [])]
    before = [c.get("name") for c in old["spec"].get("components", [])]
    parts = []
    added = [str(name) for name in after if name not in before]
    removed = [str(name) for name in before if name not in after]
    if added:
        parts.append(f"components added: [{' '.join(sorted(added))}]")
    if removed:
        parts.append(f"components removed: [{' '.join(sorted(removed))}]")
    if not parts:
        return []
    text = "Forbidden: component topology is immutable and cannot be modified after creation: "
    return [Cause("FieldValueForbidden", text + ", ".join(parts), "spec.components")]


def _annotation_causes(new: Object, old: Object) -> list[Cause]:
    after = new["metadata"].get("annotations") or {}
    before = old["metadata"].get("annotations") or {}
    return [
        Cause(
            "FieldValueInvalid",
            f"Invalid value: {json.dumps(after.get(key))}: field is immutable",
            f"metadata.annotations[{key}]",
        )
        for key in IMMUTABLE_ANNOTATIONS
        if key in before and after.get(key) != before[key]
    ]


def causes(new: Object, old: Object | None) -> list[Cause]:
    """Every reason to refuse ``new``; ``old`` is None for a create. Empty means admitted."""
    components = new.get("spec", {}).get("components") or []
    found = []
    if old is not None:
        found += _annotation_causes(new, old) + _topology_causes(new, old)
    if not components:
        text = "Required value: must have at least one component"
        found.append(Cause("FieldValueRequired", text, "spec.components"))
    for index, component in enumerate(components):
        found += _component_causes(index, component)
    return found


def refusal(name: str, found: list[Cause]) -> Object:
    """The Status (code 422) for an AdmissionReview; the API server puts the webhook's name in
    front."""
    texts = [f"{cause.field}: {cause.message}" for cause in found]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": f'{names.DGD_KIND}.{names.GROUP} "{name}" is invalid: {joined}',
        "details": {
            "name": name,
            "group": names.GROUP,
            "kind": names.DGD_KIND,
            "causes": [vars(cause) for cause in found],
        },
    }


def warnings(new: Object) -> list[str]:
    """Warnings for deprecated alpha fields, which a stored object keeps in its conversion
    annotation."""
    meta = new["metadata"]
    text = (meta.get("annotations") or {}).get(names.DGD_SPEC)
    if not text:
        return []
    try:
        services = json.loads(text)["spec"].get("services", {})
    except (ValueError, KeyError, AttributeError):
        return []
    namespace = names.dynamo_namespace(meta.get("namespace", "default"), meta["name"])
    return [
        f"spec.services[{name}].dynamoNamespace is deprecated and ignored. "
        f'Value "{shape["dynamoNamespace"]}" will be replaced with "{namespace}". '
        "Remove this field from your configuration"
        for name, shape in services.items()
        if shape.get("dynamoNamespace")
    ]


def default_annotations(new: Object) -> Object:
    """The annotations that the mutating webhook puts on a created DGD, whatever the user wrote
    there."""
    annotations = dict(new["metadata"].get("annotations") or {})
    annotations[names.ORIGIN_VERSION] = names.OPERATOR_VERSION
    annotations[names.WORKLOAD_PROVIDER] = "component"
    return annotations
