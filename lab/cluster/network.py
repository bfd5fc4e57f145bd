# SPDX-License-Identifier: Apache-2.0
"""One bridge, one network namespace per node and one for the control plane. No way out."""

from __future__ import annotations

import subprocess

from .config import Cluster, owns


def ip(*words: str, netns: str | None = None) -> str:
    """Run ip(8), inside `netns` when given; raises CalledProcessError with its message."""
    command = ["ip", *(["-n", netns] if netns else []), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _exists(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


def _namespace(cluster: Cluster, netns: str, address: str, number: int) -> None:
    """A namespace with one leg on the bridge; a half-made one is completed."""
    if not _exists("netns", "exec", netns, "true"):
        ip("netns", "add", netns)
    outer = cluster.link(number)
    if not _exists("link", "show", outer):
        ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", netns)
    ip("link", "set", outer, "master", cluster.bridge, "up")
    ip("address", "replace", f"{address}/24", "dev", "eth0", netns=netns)
    ip("link", "set", "eth0", "up", netns=netns)
    ip("link", "set", "lo", "up", netns=netns)
    # Nothing answers at this gateway beyond the machine itself: it does not forward.
    ip("route", "replace", "default", "via", cluster.gateway, netns=netns)
    command = ["ip", "netns", "exec", netns, "sysctl", "-qw", "net.ipv4.ip_forward=1"]
    subprocess.run(command, check=True)


def up(cluster: Cluster) -> None:
    """Make whatever of the network is missing."""
    if not _exists("link", "show", cluster.bridge):
        ip("link", "add", cluster.bridge, "type", "bridge")
    ip("address", "replace", f"{cluster.gateway}/24", "dev", cluster.bridge)
    ip("link", "set", cluster.bridge, "up")
    _namespace(cluster, cluster.control_netns, cluster.api_address, 0)
    for node in cluster.members:
        _namespace(cluster, node.netns, node.address, node.index)
    for node in cluster.members:
        route = ("route", "replace", node.pod_subnet, "via", node.address)
        ip(*route)
        ip(*route, netns=cluster.control_netns)
        for other in cluster.members:
            if other.index != node.index:
                ip(*route, netns=other.netns)


def down(cluster_name: str) -> None:
    """Remove every link and every namespace of the cluster; a bridge takes its routes along."""
    # Left to the end of its namespace, a link would outlive this call by a moment.
    for link in links(cluster_name):
        # A pair goes with its other end, maybe since it was listed; what stays is a leftover.
        subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)
    for netns in namespaces(cluster_name):
        ip("netns", "delete", netns)


def namespaces(cluster_name: str) -> list[str]:
    """Network namespaces of the cluster that are there."""
    names = [line.split()[0] for line in ip("netns", "list").splitlines() if line.strip()]
    return [name for name in names if owns(cluster_name, name)]


def links(cluster_name: str) -> list[str]:
    """Network links of the cluster in the machine's own network namespace."""
    lines = ip("-o", "link", "show").splitlines()
    names = [line.split(": ")[1].split("@")[0] for line in lines]
    return [name for name in names if owns(cluster_name, name)]
