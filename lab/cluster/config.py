# SPDX-License-Identifier: Apache-2.0
"""The plan of a cluster: names, addresses and folders, all derived from one small file."""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import replace
from ..gpu.identity import MOST

CGROUP_ROOT = Path("/sys/fs/cgroup")
MOST_NODES = 15
# `fl-<name>-15` is the longest name of a network link, and Linux allows 15 characters. Without a
# dash in it, no name of one cluster is the name of another's link, namespace or cgroup.
NAME = re.compile(r"[a-z][a-z0-9]{0,8}")


@dataclass(frozen=True)
class Node:
    """One node: its index from 1, its address and the subnet of its pods."""

    name: str
    index: int
    address: str
    pod_subnet: str
    netns: str
    cgroup: str


NETWORKS = ("node_network", "pod_network", "service_network")


def _network(field: str, text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"The {field} is no IPv4 range: {error}.") from error


@dataclass(frozen=True)
class Cluster:
    """What the role decided; everything else follows.

    `node_network`, `pod_network` and `service_network` are CIDRs: nodes get a /24, every node's
    pods a /24 of the pod network. `version` is the Kubernetes version of the binaries. Raises
    ValueError with a sentence about a plan that cannot be.
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

    def __post_init__(self) -> None:
        """Refuse what would collide or not fit."""
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"A cluster's name is 1 to 9 lower-case letters and digits and begins with a "
                f"letter, not {self.name!r}: it becomes part of names of network links."
            )
        # Without nodes it is a control plane alone: tests of controllers need no more.
        if not (0 <= self.nodes <= MOST_NODES and 1 <= self.gpus_per_node <= MOST):
            raise ValueError(
                f"A lab has 0 to {MOST_NODES} nodes with 1 to {MOST} GPUs each, "
                f"not {self.nodes} with {self.gpus_per_node}."
            )
        networks = {f: _network(f, getattr(self, f)) for f in NETWORKS}
        if networks["node_network"].prefixlen != 24:
            raise ValueError(f"The node_network is a /24, not {self.node_network}.")
        pods = networks["pod_network"]
        if pods.prefixlen > 24 or 2 ** (24 - pods.prefixlen) <= self.nodes:
            raise ValueError(
                f"The pod_network {pods} is too small: it needs a /24 for each of {self.nodes} "
                "nodes and one more."
            )
        for (one, first), (other, second) in itertools.combinations(networks.items(), 2):
            if first.overlaps(second):
                raise ValueError(f"The {one} {first} and the {other} {second} overlap.")

    @property
    def folder(self) -> Path:
        """Folder of everything this cluster keeps on the machine."""
        return Path(self.state) / self.name

    @property
    def bridge(self) -> str:
        """Name of the bridge."""
        return f"fl-{self.name}"

    def link(self, number: int) -> str:
        """Name of the link from the bridge into a node's namespace; 0 is the control plane's."""
        return f"{self.bridge}-{number}"

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
        replace(self.folder / "cluster.json", json.dumps(asdict(self), indent=2) + "\n")


def boot_id(cluster: Cluster, node: str) -> Path:
    """File of the boot id of a node's present life; it is missing before the first one."""
    return cluster.folder / "nodes" / node / "boot_id"


def owns(cluster_name: str, thing: str) -> bool:
    """Whether a link, network namespace or cgroup has a name that this cluster gives to its own."""
    return re.fullmatch(rf"fl-{re.escape(cluster_name)}(-(cp|\d+))?", thing) is not None


def load(folder: Path) -> Cluster:
    """The plan in `folder`; raises FileNotFoundError or ValueError when there is no such plan."""
    return Cluster(**json.loads((folder / "cluster.json").read_text()))
