# SPDX-License-Identifier: Apache-2.0
"""The node agent: `python3 -m faultline_service.agent`, one privileged pod per GPU node."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

from .faults import Faults, Node
from .host import Reporter, pod_names
from .kube import Cache, Kube
from .page import Page
from .processes import Processes

STATE = Path("/var/lib/faultline")
READY = Path("/tmp/faultline-agent-ready")


def main() -> None:
    """Run until the pod is stopped. Needs NODE_NAME; POD_NAME is reported."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    READY.unlink(missing_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    most = int(os.environ.get("FAULTLINE_MAX_ACTIVE_NODES", "1"))
    genuine = os.environ.get("FAULTLINE_ALLOW_GENUINE", "false").lower() == "true"
    node = Node(os.environ["NODE_NAME"], most_nodes=most, allow_genuine=genuine)
    (STATE / "shim").mkdir(parents=True, exist_ok=True)
    page = Page(STATE / "control" / "page")
    page.allow_genuine(genuine)
    # Before anything that needs the API server: it may be away.
    page.forget_earlier_boots()
    kube = Kube()
    pods = Cache(kube, "Pod", "v1", field_selector=f"spec.nodeName={node.name}").begin()
    processes = Processes(pod_names(pods))
    faults = Faults(kube, node, page, processes.user_of)
    reporter = Reporter(
        kube,
        node.name,
        os.environ.get("POD_NAME", ""),
        page,
        processes,
        faults,
        node.driver,
        STATE / "shim",
        READY,
    )
    faults.begin()
    reporter.begin()
    # Armed faults stay armed when the agent is stopped: each has its deadline in the page.
    stop.wait()


if __name__ == "__main__":
    main()
