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


def watch(folder: Path) -> int:
    """An inotify handle that gets what is made in `folder`; raises OSError without the folder."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_CLOEXEC)
    if handle < 0 or libc.inotify_add_watch(handle, bytes(folder), IN_CREATE) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(folder))
    return handle


def wait_for_new_kubelet(handle: int) -> None:
    """Return when the kubelet makes its socket anew, which it does whenever it starts."""
    while b"kubelet.sock" not in os.read(handle, 4096):
        pass


def keep_registered(plugin: Plugin, folder: Path) -> None:
    """Serve beside the kubelet's socket in `folder`; register now and with every new kubelet.

    Never returns; raises grpc.RpcError when a kubelet refuses or is not there for ten seconds.
    """
    # Watched from before the first registration, so that no start of the kubelet is missed.
    sockets = watch(folder)
    while True:
        server = plugin.serve(folder / ENDPOINT)
        register(folder / "kubelet.sock", ENDPOINT)
        log.info("registered %d GPUs", len(plugin.gpus))
        wait_for_new_kubelet(sockets)
        # An ending server removes its socket: only then the next one may make it.
        server.stop(None).wait()


def main() -> None:
    """Serve until the end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    node = os.environ["NODE_NAME"]
    found = gpus(node, int(os.environ.get("LAB_GPUS_PER_NODE", "2")))
    node_files.prepare(node, found)
    Kube().patch("v1", "Node", node, {"metadata": {"labels": labels(found)}})
    keep_registered(Plugin(found), SOCKETS)


if __name__ == "__main__":
    main()
