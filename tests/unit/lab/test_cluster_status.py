# SPDX-License-Identifier: Apache-2.0
"""What a cluster's status says of one that runs, that was stopped, and that is half alive."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from lab_plans import TREE, api_in_place_of, cluster, own_network

from lab.cluster import __main__ as lab
from lab.cluster import pki
from lab.cluster.config import Cluster


class Api(BaseHTTPRequestHandler):
    """Answers /readyz with the server's `code`."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(self.server.code)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def made(tmp_path: Path) -> Cluster:
    """A cluster whose API address is a loopback address, saved and never started."""
    found = cluster(state=str(tmp_path), node_network=own_network())
    found.save()
    return found


@pytest.fixture
def api(made: Cluster) -> Iterator[Any]:
    """The API server in the cluster's place, which says yes."""
    with api_in_place_of(made, Api) as server:
        server.code, server.asked = 200, []
        yield server


@pytest.fixture
def process(made: Cluster) -> Iterator[int]:
    """A process of the cluster."""
    environment = os.environ | {"FAULTLINE_LAB": str(made.folder), "PYTHONPATH": str(TREE)}
    found = subprocess.Popen(["sleep", "60"], env=environment)
    yield found.pid
    found.kill()
    found.wait()


def supervised_by(made: Cluster, pid: int) -> None:
    (made.folder / "run").mkdir()
    (made.folder / "run/supervisor.pid").write_text(str(pid))


def test_a_cluster_that_was_never_made_is_absent(tmp_path: Path) -> None:
    assert lab.status(tmp_path / "lab") == {"state": "absent", "folder": str(tmp_path / "lab")}


def test_a_cluster_of_which_nothing_runs_is_stopped_and_nobody_at_its_address_is_asked(
    made: Cluster, api: Any
) -> None:
    supervised_by(made, os.getpid())  # the number of the supervisor before a reboot
    found = lab.status(made.folder)
    assert (found["state"], found["supervisor"], found["processes"]) == ("stopped", None, 0)
    assert found["nodes"] == ["gpu-node-1", "gpu-node-2", "gpu-node-3"]
    assert api.asked == []


def test_a_cluster_with_supervisor_and_a_ready_api_is_running(
    made: Cluster, api: Any, process: int
) -> None:
    supervised_by(made, process)
    found = lab.status(made.folder)
    assert (found["state"], found["supervisor"], found["processes"]) == ("running", process, 1)
    assert api.asked == ["/readyz"]


def test_a_cluster_whose_supervisor_was_killed_is_broken_even_if_its_api_answers(
    made: Cluster, api: Any, process: int
) -> None:
    found = lab.status(made.folder)
    assert (found["state"], found["supervisor"], found["processes"]) == ("broken", None, 1)


def test_a_cluster_whose_api_is_not_ready_is_broken(made: Cluster, api: Any, process: int) -> None:
    supervised_by(made, process)
    api.code = 500
    assert lab.status(made.folder)["state"] == "broken"


def test_a_cluster_whose_keys_are_not_made_yet_is_broken(made: Cluster, process: int) -> None:
    supervised_by(made, process)
    assert lab.status(made.folder)["state"] == "broken"


def test_a_server_with_another_clusters_certificate_is_not_the_api(
    made: Cluster, api: Any, process: int
) -> None:
    supervised_by(made, process)
    pki.Authority(made.pki)
    assert lab.status(made.folder)["state"] == "broken"
