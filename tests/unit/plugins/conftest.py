# SPDX-License-Identifier: Apache-2.0
"""Puts this folder on the path, and gives tests of all kinds of plugins a cluster in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _watch
from fake_api import Api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A cluster in memory. Followers that lost their connection come back at once."""
    at_once = SimpleNamespace(wait=lambda _seconds: None)
    patient = SimpleNamespace(**(vars(threading) | {"Event": lambda: at_once}))
    monkeypatch.setattr(_watch, "threading", patient)
    found = Api()
    yield found
    found.close()
