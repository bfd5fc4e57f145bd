# SPDX-License-Identifier: Apache-2.0
"""What an API server refuses, in words for people. Pure functions.

The texts are those of Kubernetes 1.34 and of the Dynamo operator's webhooks and CRDs (recorded).
What is not known here keeps the API server's own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Obj = Mapping[str, Any]

AWAY = re.compile(
    r"(?:failed calling webhook|conversion webhook for)"
    r'.*?Post "https://([^.]+)\.([^.]+)\.svc[^"]*": (.*)',
    re.DOTALL,
)
# The version is told of those who update, not of those who apply.
OWNED = re.compile(r'conflict with "([^"]+)"(?: with subresource "[^"]+")?(?: using (\S+))?')
UNMARSHAL = re.compile(r"json: cannot unmarshal (\w+) into Go struct field (\S+) of type (\S+)")
# By number in v1beta1, by name in v1alpha1.
COMPONENT = re.compile(r"spec\.(?:components\[(\d+)\]|services\.([^.\[]+))(?:\.(.*))?")
# What a cause says of its field, and what that means; the first that fits counts.
MEANINGS = [
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (
            r"Forbidden: component topology is immutable.*?creation: (.*)",
            "components cannot be added, removed or renamed once the DGD is made (\\1): keep them, "
            "or delete the DGD first",
        ),
        (
            r"Required value: is required when .* no parseable semantic-version tag",
            "it is missing and the image's tag is no version: set it, such as to 1.6.1, or give "
            "an image whose tag is one",
        ),
        (r"Required value: is required", "it is missing: set it"),
        (r"Required value: (.*)", "it \\1"),
        (r"Unsupported value: (.*?): supported values: (.*)", "it is \\1: expected one of \\2"),
        (r"Duplicate value: (.*)", "\\1 is there twice: leave one of them"),
        (
            r"Invalid value: .*?: field is immutable",
            "it cannot be changed or taken away once the DGD is made: leave it as it is",
        ),
        (r"Invalid value: (.*?): \S+ in body should (.*)", "it is \\1: it should \\2"),
        (r'Invalid value: "(?:object|array)": (.*)', "\\1"),
        (r"Invalid value: (.*?): (.*)", "it is \\1: \\2"),
    )
]
NO_REASON = "the server rejected our request due to an error in our request"


def words(answer: Obj, otherwise: str) -> str:
    """The API server's own words."""
    return str(answer.get("message") or otherwise)


def transient(text: str) -> bool:
    """Whether a refusal is that of a webhook which may be back in a moment."""
    return "failed calling webhook" in text or "conversion webhook for" in text


def explain(status: int | None, answer: Obj, otherwise: str, asked: Obj | None = None) -> str:
    """What was wrong with which field, what was expected and what to do.

    `answer` is the Status that came, `asked` the object that was sent, for the names of its
    components; `otherwise` is what to say when the answer says nothing.
    """
    text, details = words(answer, otherwise), answer.get("details") or {}
    causes = [c for c in details.get("causes") or [] if c.get("field") not in (None, "<nil>")]
    if away := AWAY.search(text):
        service, namespace, why = away.groups()
        return (
            f"the webhook behind Service {service} in {namespace} does not answer ({why}): "
            f"see that its pods run (kubectl -n {namespace} get pods)."
        )
    if status == 409:
        return _conflict(text, str(answer.get("reason")), causes)
    if status == 404 and details.get("kind") == "namespaces":
        name = details.get("name")
        return f"there is no namespace {name}: make it first (kubectl create namespace {name})."
    if unmarshal := UNMARSHAL.search(text):
        given, path, wanted = unmarshal.groups()
        field = ".".join(step for step in path.split(".") if not step[:1].isupper())
        return f"{field} is a {given}: expected a {wanted}."
    if status == 422 and causes:
        found = (f"{_place(c['field'], asked)}: {_meaning(c)}" for c in causes)
        return "; ".join(dict.fromkeys(found)) + "."
    if status == 422 and text == NO_REASON:
        return (
            "the API server gives no reason: the change does not fit the object, such as a list "
            "that is not there. Read the object and compare."
        )
    return text


def _conflict(text: str, reason: str, causes: list[Obj]) -> str:
    """Why something could not be set that somebody else has set, too."""
    owners: dict[str, list[str]] = {}
    for cause in causes:
        if owned := OWNED.search(str(cause.get("message"))):
            field = re.sub(r'\[\w+="([^"]*)"\]', r"[\1]", cause["field"].lstrip("."))
            owner = f"{owned[1]} (as {owned[2]})" if owned[2] else owned[1]
            owners.setdefault(owner, []).append(field)
    if owners:
        held = "; ".join(f"{who} owns {', '.join(what)}" for who, what in owners.items())
        return (
            f"{held}. Give it the value that it has, leave it out, or let its owner give it up "
            "first."
        )
    if reason == "AlreadyExists":
        return f"{text}: remove it or choose another name."
    if "the object has been modified" in text:
        return "somebody changed it at the same moment: run it again."
    return text


def _meaning(cause: Obj) -> str:
    text = str(cause.get("message"))
    if str(cause["field"]).endswith(".containers") and text == "Required value: is required":
        return "it has no container named main: name the engine's container so"
    for pattern, meaning in MEANINGS:
        if found := pattern.fullmatch(text):
            return found.expand(meaning)
    return text


def _place(field: str, asked: Obj | None) -> str:
    """A field by the name of its component, where the object that was sent tells it."""
    found = COMPONENT.fullmatch(field)
    if not found:
        return field
    name = found[2]
    if not name:
        names, number = _components(asked), int(found[1])
        name = names[number] if number < len(names) else f"number {number + 1}"
    return f"component {name}, {found[3]}" if found[3] else f"component {name}"


def _components(asked: Obj | None) -> list[str]:
    """Names in the order in which the webhooks count; empty if only a part was sent.

    They see v1beta1: what comes as v1alpha1 is in the order of names there (recorded).
    """
    spec = (asked or {}).get("spec") or {}
    listed, mapped = spec.get("components"), spec.get("services")
    if isinstance(mapped, Mapping) and all(s and "componentType" in s for s in mapped.values()):
        return sorted(str(name) for name in mapped)
    if isinstance(listed, list) and all("type" in c for c in listed):
        return [str(c.get("name")) for c in listed]
    return []
