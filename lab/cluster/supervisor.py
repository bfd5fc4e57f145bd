# SPDX-License-Identifier: Apache-2.0
"""Keeps a cluster running: starts its processes, and starts again whichever ends.

A node that reboots ends its first process; it comes back here with a new boot id, like a machine
whose firmware starts it again. SIGTERM ends everything, nodes first.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ..files import replace
from . import config, network, pki
from .config import Cluster, Node, boot_id
from .control_plane import AUDIT_POLICY, commands
from .keeper import Keeper

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


class Supervisor(Keeper):
    """The processes of one cluster, each with its id in a file."""

    def __init__(self, cluster: Cluster) -> None:
        plans = commands(cluster) | {n.name: node_command(cluster, n) for n in cluster.members}
        # The state folder in the environment marks every process of this cluster, so that they
        # can be found when the ids written down are lost.
        environment = os.environ | {"FAULTLINE_LAB": str(cluster.folder), "PYTHONPATH": TREE}
        super().__init__(plans, cluster.logs, 2.0, env=environment, start_new_session=True)
        self.cluster, self.ids = cluster, cluster.folder / "run"

    def start(self, name: str) -> int:
        """Start one process in a session of its own and write its id down."""
        pid = super().start(name)
        self.ids.mkdir(exist_ok=True)
        replace(self.ids / f"{name}.pid", str(pid))
        return pid

    def run(self) -> None:
        """Start everything and look after it until SIGTERM."""
        # The first process of a node's PID namespace takes everything in it along.
        signal.signal(signal.SIGTERM, lambda _signal, _frame: self.stop())
        # What the API server says of a node may be of its last life: only this tells them apart.
        for node in self.cluster.members:
            boot_id(self.cluster, node.name).unlink(missing_ok=True)
        for name in self.commands:
            self.start(name)
        self.keep()


def main() -> None:
    """Run the cluster whose folder is the argument."""
    cluster = config.load(Path(sys.argv[1]))
    # At first: a cluster that has processes and no supervisor is removed by the next `up`.
    (cluster.folder / "run").mkdir(exist_ok=True)
    replace(cluster.folder / "run" / "supervisor.pid", str(os.getpid()))
    network.up(cluster)
    pki.ensure(cluster)
    (cluster.folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
    Supervisor(cluster).run()


if __name__ == "__main__":
    main()
