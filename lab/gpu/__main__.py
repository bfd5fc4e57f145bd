# SPDX-License-Identifier: Apache-2.0
"""`python3 -m lab.gpu`: give this node its GPUs, and keep them registered with the kubelet."""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

from ..kube import Kube
from . import node_files
from .identity import DRIVER, NAME, Gpu, gpus
from .plugin import Plugin, register

SOCKETS = Path("/var/lib/kubelet/device-plugins")
ENDPOINT = "faultline-lab-gpu.sock"
IN_CREATE = 0x100
log = logging.getLogger("lab.gpu")


def labels(found: list[Gpu]) -> dict[str, str]:
    """Labels that GPU feature discovery and NVSentinel's labeler would set."""
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(len(found)),
        "nvidia.com/gpu.product": NAME.replace(" ", "-"),
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/cuda.driver-version.full": DRIVER,
        "nvsentinel.dgxc.nvidia.com/driver.installed": "true",
        "nvsentinel.dgxc.nvidia.com/kata.enabled": "false",
    }


def wait_for_new_kubelet() -> None:
    """Return when the kubelet makes its socket anew, which it does whenever it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(0)
    libc.inotify_add_watch(handle, str(SOCKETS).encode(), IN_CREATE)
    try:
        while b"kubelet.sock" not in os.read(handle, 4096):
            pass
    finally:
        os.close(handle)


def main() -> None:
    """Serve until the end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    node = os.environ["NODE_NAME"]
    found = gpus(node, int(os.environ.get("LAB_GPUS_PER_NODE", "2")))
    node_files.prepare(node, found)
    Kube().patch("v1", "Node", node, {"metadata": {"labels": labels(found)}})
    plugin = Plugin(found)
    while True:
        server = plugin.serve(SOCKETS / ENDPOINT)
        register(SOCKETS / "kubelet.sock", ENDPOINT)
        log.info("registered %d GPUs of %s", len(found), node)
        wait_for_new_kubelet()
        server.stop(None)


if __name__ == "__main__":
    main()
