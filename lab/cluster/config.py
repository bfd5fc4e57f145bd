# SPDX-License-Identifier: Apache-2.0
"""The plan of a cluster: names, addresses and folders, all derived from one small file."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Node:
    """One node: its index from 1, its address and the subnet of its pods."""

    name: str
    index: int
    address: str
    pod_subnet: str
    netns: str
    cgroup: str


@dataclass(frozen=True)
class Cluster:
    """What the role decided; everything else follows.

    `node_network`, `pod_network` and `service_network` are CIDRs: nodes get a /24, every node's
    pods a /24 of the pod network. `version` is the Kubernetes version of the binaries.
    """

    name: str
    state: str
    binaries: str
    nodes: int
    gpus_per_node: int
    node_network: str
    pod_network: str
    service_network: str
    version: str

    @property
    def folder(self) -> Path:
        """Folder of everything this cluster keeps on the machine."""
        return Path(self.state) / self.name

    @property
    def bridge(self) -> str:
        """Name of the bridge; interface names have at most 15 characters."""
        return f"fl-{self.name}"[:15]

    @property
    def control_netns(self) -> str:
        """Network namespace of the control plane."""
        return f"fl-{self.name}-cp"

    def _address(self, number: int) -> str:
        return str(ipaddress.ip_network(self.node_network)[number])

    @property
    def gateway(self) -> str:
        """The machine's own address on the bridge."""
        return self._address(1)

    @property
    def api_address(self) -> str:
        """Address of the API server."""
        return self._address(2)

    @property
    def api_url(self) -> str:
        """URL of the API server."""
        return f"https://{self.api_address}:6443"

    @property
    def service_address(self) -> str:
        """ClusterIP of the Service `kubernetes`."""
        return str(ipaddress.ip_network(self.service_network)[1])

    @property
    def members(self) -> list[Node]:
        """The nodes, `gpu-node-1` and on."""
        subnets = ipaddress.ip_network(self.pod_network).subnets(new_prefix=24)
        found = []
        for index, subnet in zip(range(self.nodes + 1), subnets, strict=False):
            if index:
                name = f"gpu-node-{index}"
                address = self._address(10 + index)
                tag = f"fl-{self.name}-{index}"
                found.append(Node(name, index, address, str(subnet), tag, tag))
        return found

    @property
    def pki(self) -> Path:
        """Folder of keys and certificates."""
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        """Folder of the logs of all processes."""
        return self.folder / "log"

    def binary(self, name: str) -> str:
        """Path of a Kubernetes binary."""
        return str(Path(self.binaries) / name)

    def save(self) -> None:
        """Write the plan into the cluster's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cluster.json").write_text(json.dumps(asdict(self), indent=2) + "\n")


def load(folder: Path) -> Cluster:
    """The plan in `folder`; raises FileNotFoundError when there is none."""
    return Cluster(**json.loads((folder / "cluster.json").read_text()))
