# SPDX-License-Identifier: Apache-2.0
"""The node agent: `python3 -m faultline_service.agent`, one privileged pod per GPU node."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from .faults import Faults
from .host import Reporter, pod_names
from .kube import Cache, Kube
from .page import Page
from .processes import Processes
from .target import Node

STATE = Path("/var/lib/faultline")
READY = Path("/tmp/faultline-agent-ready")
log = logging.getLogger("faultline.agent")


def alone(file: Path, stop: threading.Event) -> IO[bytes] | None:
    """Wait until no other agent of the node holds `file`; hold it as long as the answer lives.

    Two that follow each other may overlap, and both would write the kernel lines. None when
    `stop` is set meanwhile.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    held = file.open("ab")
    while not stop.is_set():
        with suppress(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        log.info("another agent of this node is at work: waiting until it ends")
        stop.wait(1)  # flock has no time limit of its own
    held.close()
    return None


def main() -> None:
    """Run until the pod is stopped. Needs NODE_NAME; POD_NAME is reported."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    READY.unlink(missing_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    only = alone(STATE / "agent.lock", stop)
    if only is None:
        return
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
    only.close()


if __name__ == "__main__":
    main()
