# SPDX-License-Identifier: Apache-2.0
"""Container images: what is known without pulling, and why a pull fails. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ._client import Obj
from ._graph_trouble import NAMES, PULLING

PULL = (*PULLING, *NAMES)
# Grammar of the distribution project: [host[:port]/]path[:tag][@digest], the path in lower case.
REFERENCE = re.compile(
    r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
# Words of a registry's or container runtime's answer, and what to do about it.
CAUSES = (
    (
        r"unauthorized|authentication required|denied|forbidden|\b40[13]\b|insufficient_scope",
        "name a Secret with an account of the registry in imagePullSecrets of the deployment, and "
        "put it into the namespace",
    ),
    (
        r"not found|manifest unknown|no such manifest|\b404\b",
        "the registry has no such image or tag: correct the image in the deployment",
    ),
    (
        r"no such host|i/o timeout|connection refused|timed? ?out|deadline|no route|proxyconnect",
        "the node does not reach the registry: look at its network and at the registry's name",
    ),
    (r"x509|certificate", "the node does not trust the registry's certificate: add its authority"),
    (r"no space left|disk", "the node's disk is full: remove images from it"),
    (
        r"never|not present",
        "the image is not on the node and may not be pulled: load it there, or set another "
        "imagePullPolicy",
    ),
    (r"invalid|parse", "correct the image in the deployment: its reference is malformed"),
)


def fix_for(message: str) -> str:
    """What to do about a failed pull, by what the kubelet says of it."""
    for words, fix in CAUSES:
        if re.search(words, message, re.IGNORECASE):
            return fix
    return "look at the events of the pod and pull the image by hand on the node"


def waiting(pod: Obj) -> Iterator[tuple[str, str, str, str]]:
    """Containers of a pod whose image does not come: (container, image, reason, message)."""
    status = pod.get("status") or {}
    for row in (status.get("initContainerStatuses") or []) + (
        status.get("containerStatuses") or []
    ):
        found = (row.get("state") or {}).get("waiting") or {}
        if found.get("reason") in PULL:
            message = str(found.get("message") or "").strip()
            yield row["name"], str(row.get("image") or "?"), found["reason"], message


def _named(tree: Any, key: str) -> Iterator[Any]:
    """Every value that stands under a key, at any depth."""
    if isinstance(tree, dict):
        if key in tree:
            yield tree[key]
        for value in tree.values():
            yield from _named(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _named(value, key)


def images(definition: Obj) -> list[str]:
    """Images that a DynamoGraphDeployment names, of either API version."""
    return sorted({i for i in _named(definition.get("spec"), "image") if isinstance(i, str)})


def pull_secrets(definition: Obj) -> list[str]:
    """Secrets that it names for pulling them."""
    lists = (rows for rows in _named(definition.get("spec"), "imagePullSecrets") if rows)
    return sorted({str(row.get("name")) for rows in lists for row in rows})


def image_problems(
    definition: Obj, secrets: Collection[str], pods: Iterable[Obj], namespace: str
) -> list[str]:
    """Why images of a definition cannot come, as far as it is known without pulling them.

    `secrets` are those of the namespace that were looked for and are there; `pods` are the
    namespace's own.
    """
    problems = [
        f"The deployment's image {image!r} is no image reference: it is written "
        "HOST/PATH:TAG or HOST/PATH@DIGEST, the path in lower case."
        for image in images(definition)
        if not REFERENCE.fullmatch(image)
    ]
    problems += [
        f"The deployment pulls its images with the Secret {name}, which namespace {namespace} "
        f"does not have: make the namespace with the Secret in it and label it for the run "
        "(faultline.dev/run=RUN), then name both (drill_namespace, drill_run_id)."
        for name in pull_secrets(definition)
        if name not in secrets
    ]
    problems += [
        f"The image {image} of pod {pod['metadata']['name']} in {namespace} does not come "
        f"({reason}{': ' + message if message else ''}): {fix_for(message or reason)}."
        for pod in pods
        for _container, image, reason, message in waiting(pod)
    ]
    return problems
