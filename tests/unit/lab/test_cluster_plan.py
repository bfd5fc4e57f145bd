# SPDX-License-Identifier: Apache-2.0
"""A plan of a cluster: what follows from it, what is refused, the control plane's command lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab_plans import TREE, cluster, values

from lab.cluster import __main__ as cli
from lab.cluster import config, pki
from lab.cluster.control_plane import commands


def test_addresses_follow_from_the_networks() -> None:
    lab = cluster()
    assert (lab.gateway, lab.api_address) == ("10.250.0.1", "10.250.0.2")
    assert lab.api_url == "https://10.250.0.2:6443"
    assert lab.service_address == "10.252.0.1"
    assert [(n.name, n.address, n.pod_subnet) for n in lab.members] == [
        ("gpu-node-1", "10.250.0.11", "10.251.1.0/24"),
        ("gpu-node-2", "10.250.0.12", "10.251.2.0/24"),
        ("gpu-node-3", "10.250.0.13", "10.251.3.0/24"),
    ]


def names(name: str, nodes: int = 15) -> list[str]:
    """Every name that a cluster gives to a link, a network namespace or a cgroup."""
    lab = cluster(name=name, nodes=nodes)
    links = [lab.bridge, *(lab.link(number) for number in range(nodes + 1))]
    return [*links, lab.control_netns, *(n.netns for n in lab.members)]


def test_the_longest_names_of_links_fit_into_what_the_kernel_allows() -> None:
    lab = cluster(name="abcdefgh9", nodes=15)
    links = [lab.bridge, *(lab.link(number) for number in range(16))]
    assert max(map(len, links)) == 15
    assert len(set(links)) == 17


@pytest.mark.parametrize(("one", "other"), [("lab", "lab2"), ("abcdefgh1", "abcdefgh2")])
def test_clusters_with_like_names_share_no_name_on_the_machine(one: str, other: str) -> None:
    assert not set(names(one)) & set(names(other))
    assert all(config.owns(one, name) for name in names(one))
    assert not any(config.owns(one, name) for name in names(other))


@pytest.mark.parametrize(
    "thing",
    [
        "fl-lab-2-cp",
        "fl-lab-2-1",
        "fl-lab2",
        "fl-lab2-1",
        "fl-la",
        "xfl-lab",
        "fl-lab-",
        "fl-lab-x",
    ],
)
def test_a_cluster_does_not_own_what_only_begins_like_its_own(thing: str) -> None:
    assert not config.owns("lab", thing)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "lab-2"}, "not 'lab-2'"),
        ({"name": "abcdefgh10"}, "1 to 9 lower-case letters and digits"),
        ({"name": ""}, "not ''"),
        ({"name": "Lab"}, "not 'Lab'"),
        ({"name": "2lab"}, "begins with a letter, not '2lab'"),
        ({"name": "../etc"}, "not '../etc'"),
        ({"name": "lab\n"}, "not 'lab"),
        ({"nodes": -1}, "0 to 15 nodes with 1 to 6 GPUs each, not -1 with 2"),
        ({"nodes": 16}, "not 16 with 2"),
        ({"gpus_per_node": 0}, "not 3 with 0"),
        ({"gpus_per_node": 7}, "not 3 with 7"),
        ({"node_network": "10.250.0.0/23"}, "node_network is a /24, not 10.250.0.0/23"),
        ({"node_network": "10.250.0.1/24"}, "node_network is no IPv4 range: .*host bits"),
        ({"service_network": "fd00::/64"}, "service_network is no IPv4 range"),
        ({"pod_network": "ten"}, "pod_network is no IPv4 range"),
        ({"pod_network": "10.251.0.0/23"}, "pod_network 10.251.0.0/23 is too small"),
        ({"nodes": 4, "pod_network": "10.251.0.0/22"}, "needs a /24 for each of 4 nodes"),
        ({"pod_network": "10.251.0.0/25"}, "needs a /24 for each of 3 nodes and one more"),
        (
            {"pod_network": "10.250.0.0/16"},
            "node_network 10.250.0.0/24 and the pod_network .* over",
        ),
        ({"service_network": "10.251.128.0/20"}, "pod_network .* service_network .* overlap"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_a_sentence(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        cluster(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a"},
        {"name": "abcdefgh9"},
        {"nodes": 15, "gpus_per_node": 6},
        {"pod_network": "10.251.0.0/22"},
        {"nodes": 15, "pod_network": "10.251.0.0/20"},
    ],
)
def test_a_plan_at_the_edge_has_all_its_nodes(changes: dict[str, Any]) -> None:
    lab = cluster(**changes)
    assert len({node.pod_subnet for node in lab.members}) == lab.nodes


def test_a_plan_comes_back_from_its_folder(tmp_path: Path) -> None:
    lab = cluster(state=str(tmp_path))
    lab.save()
    assert config.load(tmp_path / "lab") == lab
    with pytest.raises(FileNotFoundError):
        config.load(tmp_path / "other")


def command_line(command: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    words = [
        sys.executable,
        "-m",
        "lab.cluster",
        command,
        f"--plan={json.dumps(values(**changes))}",
    ]
    return subprocess.run(words, cwd=TREE, capture_output=True, text=True, check=False)


def test_the_command_line_says_whether_a_cluster_can_be() -> None:
    good = command_line("status")
    assert (good.returncode, json.loads(good.stdout)["bridge"]) == (0, "fl-lab")


def test_the_command_line_refuses_with_the_sentence_alone() -> None:
    refused = command_line("status", name="lab-2")
    assert refused.returncode == 1
    assert refused.stderr.startswith("A cluster's name is 1 to 9 lower-case letters")
    assert refused.stderr.count("\n") == 1


def test_a_cluster_that_cannot_be_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(cli, "up", lambda *what: started.append(what))
    plan = json.dumps(values(name="lab-2"))
    monkeypatch.setattr(sys, "argv", ["lab.cluster", "up", f"--plan={plan}"])
    with pytest.raises(SystemExit, match="not 'lab-2'"):
        cli.main()
    assert started == []


def options(words: list[str]) -> dict[str, str]:
    pairs = (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    return {key: value for key, _, value in pairs}


def test_the_store_is_started_before_those_that_need_it_and_all_in_their_own_network() -> None:
    found = commands(cluster())
    assert list(found)[:2] == ["etcd", "kube-apiserver"]
    for name, words in found.items():
        assert words[:5] == ["ip", "netns", "exec", "fl-lab-cp", f"/opt/binaries/{name}"]


def test_only_the_api_server_listens_beyond_loopback() -> None:
    found = {name: options(words) for name, words in commands(cluster()).items()}
    for name, given in found.items():
        urls = [value for key, value in given.items() if key.startswith("listen-")]
        urls += [given["bind-address"]] if "bind-address" in given else []
        assert urls, name
        loopback = all("127.0.0.1" in url for url in urls)
        assert loopback == (name != "kube-apiserver"), name


def test_the_plans_ranges_reach_those_that_give_out_addresses() -> None:
    lab = cluster(
        node_network="10.1.0.0/24", pod_network="10.2.0.0/16", service_network="10.3.0.0/16"
    )
    found = {name: options(words) for name, words in commands(lab).items()}
    server, manager = found["kube-apiserver"], found["kube-controller-manager"]
    assert server["service-cluster-ip-range"] == "10.3.0.0/16"
    assert server["advertise-address"] == "10.1.0.2"
    assert manager["cluster-cidr"] == "10.2.0.0/16"
    assert server["etcd-servers"] == found["etcd"]["advertise-client-urls"]


def test_every_key_and_certificate_of_a_command_line_is_made(tmp_path: Path) -> None:
    lab = cluster(state=str(tmp_path))
    pki.ensure(lab)
    words = [word for line in commands(lab).values() for word in line]
    files = {Path(w.partition("=")[2]) for w in words if str(lab.pki) in w}
    assert len(files) > 8
    assert [file for file in files if not file.is_file()] == []


def test_two_clusters_share_no_folder_and_no_address_but_loopback() -> None:
    networks = {"pod_network": "10.2.0.0/16", "service_network": "10.3.0.0/16"}
    other = cluster(name="second", node_network="10.1.0.0/24", **networks)

    def own(lab: config.Cluster) -> set[str]:
        text = " ".join(word for line in commands(lab).values() for word in line)
        found = set(re.findall(r"/var/lib/[^ ,]+|\d+\.\d+\.\d+\.\d+", text))
        return found - {"127.0.0.1", "0.0.0.0"}

    assert len(own(other)) > 10
    assert not own(cluster()) & own(other)
