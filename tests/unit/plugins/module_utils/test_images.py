# SPDX-License-Identifier: Apache-2.0
"""What is known of images without pulling them, and what to do about a pull that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils import _images as images

DEPLOYMENTS = sorted((Path(__file__).parents[3] / "data/deployments").rglob("*.yaml"))
DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "reference",
    [
        "busybox",
        "library/busybox:1.36",
        "localhost/faultline/engine:1.6.1",
        "localhost:5000/a/b_c/d--e:V1.2_x",
        "Registry.example:443/a/b@" + DIGEST,
        f"registry.example/a/b:1@{DIGEST}",
        "[::1]:5000/a",
    ],
)
def test_a_reference_of_the_usual_form_is_no_problem(reference: str) -> None:
    definition = {"spec": {"components": [{"image": reference}]}}
    assert images.image_problems(definition, [], [], "n") == []


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "registry.example/Team/engine:1",
        "registry.example/engine:",
        "registry.example/engine:1:2",
        "registry.example//engine",
        "https://registry.example/engine:1",
        "engine:1 ",
        "engine@sha256:12",
        "registry.example/engine:" + "x" * 129,
        "{{ image }}",
    ],
)
def test_a_malformed_reference_is_named(reference: str) -> None:
    definition = {"spec": {"components": [{"image": reference}]}}
    (problem,) = images.image_problems(definition, [], [], "n")
    assert problem.startswith(f"The deployment's image {reference!r} is no image reference")


def test_there_are_example_deployments() -> None:
    assert len(DEPLOYMENTS) >= 20


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_example_deployment_names_images_and_they_are_well_formed(path: Path) -> None:
    graph = next(d for d in yaml.safe_load_all(path.read_text()) if "spec" in d)
    found = images.images(graph)
    assert found
    assert [i for i in found if not images.REFERENCE.fullmatch(i)] == []


def test_images_and_secrets_are_found_in_both_api_versions() -> None:
    alpha = {
        "spec": {
            "services": {
                "a": {
                    "extraPodSpec": {
                        "imagePullSecrets": [{"name": "one"}],
                        "mainContainer": {"image": "x:1"},
                    },
                    "frontendSidecar": {"image": "y:1"},
                }
            }
        }
    }
    pod = {"initContainers": [{"image": "z:1"}], "imagePullSecrets": [{"name": "two"}]}
    beta = {"spec": {"components": [{"podTemplate": {"spec": pod}}]}}
    assert (images.images(alpha), images.pull_secrets(alpha)) == (["x:1", "y:1"], ["one"])
    assert (images.images(beta), images.pull_secrets(beta)) == (["z:1"], ["two"])
    assert (images.images({}), images.pull_secrets({"spec": {"imagePullSecrets": None}})) == (
        [],
        [],
    )


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("failed to authorize: 401 Unauthorized", "imagePullSecrets"),
        ("pull access denied, repository does not exist", "imagePullSecrets"),
        ('rpc error: code = NotFound desc = "x:1": not found', "no such image or tag"),
        ("manifest unknown: manifest unknown", "no such image or tag"),
        ("dial tcp: lookup registry.example: no such host", "does not reach the registry"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "does not reach the registry"),
        ("x509: certificate signed by unknown authority", "does not trust"),
        ("write /var/lib/x: no space left on device", "disk is full"),
        ("ErrImageNeverPull", "load it there"),
        ('Container image "x:1" is not present with pull policy of Never', "load it there"),
        ("InvalidImageName", "malformed"),
        ("something else", "look at the events"),
    ],
)
def test_a_failed_pull_comes_with_what_to_do_about_it(message: str, fix: str) -> None:
    assert fix in images.fix_for(message)


def status(reason: str, **more: Any) -> dict:
    return {"name": "c", "image": "x:1", "state": {"waiting": {"reason": reason} | more}}


def test_only_containers_that_wait_for_an_image_are_told() -> None:
    pod = {
        "status": {
            "initContainerStatuses": [status("ImagePullBackOff", message=" back off ")],
            "containerStatuses": [
                status("CrashLoopBackOff"),
                {"name": "r", "image": "y:1", "state": {"running": {}}},
                status("ErrImageNeverPull"),
            ],
        }
    }
    assert list(images.waiting(pod)) == [
        ("c", "x:1", "ImagePullBackOff", "back off"),
        ("c", "x:1", "ErrImageNeverPull", ""),
    ]
    assert list(images.waiting({})) == []
