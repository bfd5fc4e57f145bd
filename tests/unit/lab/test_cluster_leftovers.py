# SPDX-License-Identifier: Apache-2.0
"""What of a cluster is found and removed: all that is its own, nothing that is another's.

Links, namespaces and cgroups are found by name, whatever the folder. So nothing here is removed
outside namespaces of its own or with the real cgroups in sight: a real lab may run beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_plans import TREE, cluster

from lab.cluster import leftovers, network
from lab.cluster.__main__ import refuse_foreign

Start = Callable[..., "subprocess.Popen[bytes]"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that are marked as a cluster's."""
    begun: list[subprocess.Popen[bytes]] = []

    def marked(folder: Path, sources: Path = TREE) -> subprocess.Popen[bytes]:
        environment = os.environ | {"FAULTLINE_LAB": str(folder), "PYTHONPATH": str(sources)}
        begun.append(subprocess.Popen(["sleep", "60"], env=environment))
        return begun[-1]

    yield marked
    for process in begun:
        process.kill()
        process.wait()


def write_pid(folder: Path, text: str) -> None:
    (folder / "run").mkdir(parents=True, exist_ok=True)
    (folder / "run/supervisor.pid").write_text(text)


def test_processes_of_a_cluster_are_found_by_its_whole_folder(tmp_path: Path, start: Start) -> None:
    ours, _others = start(tmp_path / "lab"), start(tmp_path / "lab2")
    assert leftovers.processes(tmp_path / "lab") == [ours.pid]
    assert leftovers.processes(tmp_path / "la") == []


def test_the_supervisor_is_the_process_written_down_if_it_is_the_clusters(
    tmp_path: Path, start: Start
) -> None:
    lab = tmp_path / "lab"
    assert leftovers.supervisor(lab) is None
    for text in ("", "no number", str(os.getpid()), str(2**22)):
        write_pid(lab, text)
        assert leftovers.supervisor(lab) is None, text
    ours, others = start(lab), start(tmp_path / "lab2")
    write_pid(lab, str(others.pid))
    assert leftovers.supervisor(lab) is None
    write_pid(lab, str(ours.pid))
    assert leftovers.supervisor(lab) == ours.pid


def test_a_supervisor_whose_checkout_was_removed_counts_as_none(
    tmp_path: Path, start: Start
) -> None:
    lab = tmp_path / "lab"
    write_pid(lab, str(start(lab, tmp_path / "removed").pid))
    assert leftovers.supervisor(lab) is None


LAYOUT = [
    "v1/memory/fl-lab-1/kubepods/pod1",
    "v1/memory/fl-lab2-1/kubepods",
    "v1/memory/fl-lab-2-1",
    "v1/memory/fl-lab",
    "v1/memory/user",
    "v1/cpu,cpuacct/fl-lab-1",
    "v1/cpu,cpuacct/fl-lab-12",
    "v2/fl-lab-1/kubepods",
    "v2/fl-lab-2-1",
    "v2/system/fl-labs",
]


@pytest.mark.parametrize(
    ("hierarchy", "found"),
    [
        (
            "v1",
            [
                "cpu,cpuacct/fl-lab-1",
                "cpu,cpuacct/fl-lab-12",
                "memory/fl-lab",
                "memory/fl-lab-1",
                "memory/fl-lab-1/kubepods",
                "memory/fl-lab-1/kubepods/pod1",
            ],
        ),
        ("v2", ["fl-lab-1", "fl-lab-1/kubepods"]),
    ],
)
def test_cgroups_of_the_cluster_alone_are_found_the_deepest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hierarchy: str, found: list[str]
) -> None:
    for path in LAYOUT:
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "v1/cpu").symlink_to("cpu,cpuacct")
    root = tmp_path / hierarchy
    monkeypatch.setattr(leftovers, "CGROUP_ROOT", root)
    groups = leftovers.cgroups("lab")
    assert sorted(str(g.relative_to(root)) for g in groups) == found
    for group in groups:
        group.rmdir()


def test_a_half_made_cluster_is_removed_and_the_one_beside_it_is_not(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[str] = []
    monkeypatch.setattr(network, "down", networks.append)
    monkeypatch.setattr(leftovers, "CGROUP_ROOT", tmp_path / "cgroup")
    lab, other = tmp_path / "state/unit", tmp_path / "state/unit2"
    write_pid(lab, "")
    write_pid(other, "")
    ours, others = start(lab), start(other)
    leftovers.remove(lab)
    assert ours.wait(timeout=60) == -9
    assert others.poll() is None
    assert not lab.exists()
    assert other.exists()
    leftovers.remove(other)
    assert networks == ["unit", "unit2"]
    assert not (tmp_path / "state").exists(), "the last one takes the empty folder along"


def test_a_cgroup_that_the_kernel_has_not_emptied_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "down", lambda _name: None)
    monkeypatch.setattr(leftovers, "CGROUP_ROOT", tmp_path / "cgroup")
    group = tmp_path / "cgroup/memory/fl-unit-1/kubepods"
    group.mkdir(parents=True)
    (group / "process").touch()
    threading.Timer(0.3, (group / "process").unlink).start()
    leftovers.remove(tmp_path / "state/unit")
    assert not (tmp_path / "cgroup/memory/fl-unit-1").exists()


# In network and mount namespaces of their own: nothing of it is made on the machine.
TWO = """
import json, subprocess
from pathlib import Path
from lab_plans import cluster
from lab.cluster import leftovers, network
from lab.cluster.network import ip
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
leftovers.CGROUP_ROOT = Path("/run/no-cgroups")
ip("link", "set", "lo", "up")
lab = cluster(name="unit", nodes=2)
networks = {"pod_network": "10.2.0.0/16", "service_network": "10.3.0.0/16"}
network.up(lab)
network.up(cluster(name="unit2", nodes=1, node_network="10.1.0.0/24", **networks))
ip("netns", "add", "fl-unit-2-cp")
ip("link", "add", "fl-unit2x", "type", "bridge")
state = Path("/run/state")
for name in ("unit", "unit2"):
    (state / name / "kept").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", state / name / "kept"], check=True)
network.up(lab)
route = ip("route", "get", lab.members[1].pod_subnet[:-4] + "9", netns=lab.members[0].netns)
result = {"route": route.split()[:3]}
def found():
    kinds = {"link": network.links, "namespace": network.namespaces}
    names = {f"{kind} {n}": sorted(of(n)) for kind, of in kinds.items() for n in ("unit", "unit2")}
    return names | {f"mount {n}": leftovers.mounts(state / n) for n in ("unit", "unit2")}
result["before"] = found()
leftovers.remove(state / "unit")
result["after"] = found()
result["untouched"] = sorted(line.split()[0] for line in ip("netns", "list").splitlines())
result["other link"] = "fl-unit2x" in ip("link", "show")
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def two() -> Any:
    """What is found of two clusters' networks, before and after one of them was removed."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", TWO],
        cwd=TREE,
        env=os.environ | {"PYTHONPATH": f"{TREE}:{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_root
def test_a_clusters_network_is_found_whole_also_when_it_was_made_twice(two: Any) -> None:
    found = two["before"]
    assert found["link unit"] == ["fl-unit", "fl-unit-0", "fl-unit-1", "fl-unit-2"]
    assert found["link unit2"] == ["fl-unit2", "fl-unit2-0", "fl-unit2-1"]
    assert found["namespace unit"] == ["fl-unit-1", "fl-unit-2", "fl-unit-cp"]
    assert found["namespace unit2"] == ["fl-unit2-1", "fl-unit2-cp"]
    assert found["mount unit"] == ["/run/state/unit/kept"]
    assert two["route"] == ["10.251.2.9", "via", "10.250.0.12"], "pods of the other node"


@needs_root
def test_a_removed_cluster_leaves_nothing_and_takes_nothing_of_another_along(two: Any) -> None:
    before, after = two["before"], two["after"]
    for kind in ("link", "namespace", "mount"):
        assert after[f"{kind} unit"] == []
        assert after[f"{kind} unit2"] == before[f"{kind} unit2"] != []
    assert two["untouched"] == ["fl-unit-2-cp", "fl-unit2-1", "fl-unit2-cp"]
    assert two["other link"]


def test_a_folder_that_no_cluster_has_made_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    command = [sys.executable, "-m", "lab.cluster", "down", f"--folder={tmp_path}"]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is no folder of a lab cluster" in done.stderr
    assert (tmp_path / "precious").exists()


def test_a_folder_in_which_a_cluster_was_only_just_to_be_made_is_a_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_self: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    made = cluster(state=str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            made.save()
    assert list(made.folder.iterdir()) != []
    refuse_foreign(made.folder)
    (made.folder / "precious").write_text("data")
    with pytest.raises(SystemExit, match="is no folder of a lab cluster"):
        refuse_foreign(made.folder)
