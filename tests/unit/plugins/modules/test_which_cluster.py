# SPDX-License-Identifier: Apache-2.0
"""Which cluster a module works on: what kubernetes.core's modules take for theirs is ours, too."""

from __future__ import annotations

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _module
from ansible_collections.faultline.gpu.plugins.module_utils._client import Cluster
from ansible_collections.faultline.gpu.plugins.modules import platform_info
from fake_api import Api, Run


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, ("/theirs", "their-context")),
        ({"kubeconfig": "/mine"}, ("/mine", "their-context")),
        ({"config_file": "/mine", "context": "my-context"}, ("/mine", "my-context")),
    ],
)
def test_the_variables_of_kubernetes_core_count_unless_the_option_is_given(
    api: Api,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    meant: tuple[str, str],
) -> None:
    asked = []

    def cluster(kubeconfig: str | None, context: str | None) -> Cluster:
        asked.append((kubeconfig, context))
        return api.cluster()

    monkeypatch.setattr(_module, "Cluster", cluster)
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", "/theirs")
    monkeypatch.setenv("K8S_AUTH_CONTEXT", "their-context")
    run(platform_info, namespace="drill", **given)
    assert asked == [meant]
