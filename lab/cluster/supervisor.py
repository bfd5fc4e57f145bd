# SPDX-License-Identifier: Apache-2.0
"""Keeps a cluster running: starts its processes, and starts again whichever ends.

A node that reboots ends its first process; it comes back here with a new boot id, like a machine
whose firmware starts it again. SIGTERM ends everything, nodes first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import config, network, pki
from .config import Cluster, Node
from .control_plane import AUDIT_POLICY, commands

# A process that ends at once is not started again faster than this.
LEAST_SECONDS = 2.0
TREE = str(Path(__file__).resolve().parents[2])


def node_command(cluster: Cluster, node: Node) -> list[str]:
    """Command that becomes a node: its network first, then every other namespace."""
    return [
        "nsenter",
        f"--net=/run/netns/{node.netns}",
        "unshare",
        *("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"),
        sys.executable,
        *("-m", "lab.cluster.node", str(cluster.folder), node.name),
    ]


class Supervisor:
    """The processes of one cluster, by process id."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.plans = commands(cluster)
        self.plans |= {n.name: node_command(cluster, n) for n in cluster.members}
        # The objects are kept: subprocess waits for children whose object is gone whenever it
        # starts another, and an end that it has seen is one that this class never hears of.
        self.running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self.began: dict[str, float] = {}
        self.ending = False

    def start(self, name: str) -> None:
        """Start one process in a session of its own and write its id down."""
        self.cluster.logs.mkdir(parents=True, exist_ok=True)
        # The state folder in the environment marks every process of this cluster, so that they
        # can be found when the ids written down are lost.
        environment = os.environ | {
            "FAULTLINE_LAB": str(self.cluster.folder),
            "PYTHONPATH": TREE,
        }
        with (self.cluster.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                self.plans[name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.running[child.pid] = name, child
        self.began[name] = time.monotonic()
        (self.cluster.folder / "run").mkdir(exist_ok=True)
        (self.cluster.folder / "run" / f"{name}.pid").write_text(str(child.pid))

    def run(self) -> None:
        """Start everything and look after it until SIGTERM."""
        signal.signal(signal.SIGTERM, self._stop)
        for name in self.plans:
            self.start(name)
        while self.running:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                return
            if pid not in self.running:
                continue
            name, child = self.running.pop(pid)
            child.returncode = os.waitstatus_to_exitcode(status)
            if not self.ending:
                print(f"{name} ended with {child.returncode}, starting it again", flush=True)
                time.sleep(max(0.0, LEAST_SECONDS - (time.monotonic() - self.began[name])))
            # The signal may have come meanwhile, and killed all that ran.
            if not self.ending:
                self.start(name)

    def _stop(self, _signal: int, _frame: object) -> None:
        self.ending = True
        for pid in self.running:
            # The first process of a PID namespace takes everything in it along.
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Run the cluster whose folder is the argument."""
    cluster = config.load(Path(sys.argv[1]))
    network.up(cluster)
    pki.ensure(cluster)
    (cluster.folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
    (cluster.folder / "run").mkdir(exist_ok=True)
    (cluster.folder / "run" / "supervisor.pid").write_text(str(os.getpid()))
    Supervisor(cluster).run()


if __name__ == "__main__":
    main()
