# SPDX-License-Identifier: Apache-2.0
"""Everything a cluster has made on the machine, found without trusting what was written down."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from . import network
from .config import CGROUP_ROOT, owns
from .node import remove_cgroups


def supervisor(folder: Path) -> int | None:
    """Process id of the cluster's running supervisor, None when there is none.

    One whose sources are gone (its checkout was removed) cannot start a node again: it counts as
    none, too.
    """
    try:
        pid = int((folder / "run" / "supervisor.pid").read_text())
        rows = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    environment = dict(row.split("=", 1) for row in rows if "=" in row)
    sources = Path(environment.get("PYTHONPATH", "/"))
    mine = environment.get("FAULTLINE_LAB") == str(folder)
    return pid if mine and (sources / "lab" / "cluster").is_dir() else None


def processes(folder: Path) -> list[int]:
    """Processes that carry the cluster's folder in their environment, or run in its nodes.

    Pods do not inherit the environment; they are found by the PID namespace of their node's
    first process, which does.
    """
    found, spaces = set(), set()
    mark = f"FAULTLINE_LAB={folder}".encode()
    here = os.readlink("/proc/self/ns/pid")
    rest: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            space = os.readlink(entry / "ns/pid")
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
                spaces.add(space)
            else:
                rest[int(entry.name)] = space
        except OSError:
            continue
    return sorted(found | {pid for pid, space in rest.items() if space in spaces - {here}})


def mounts(folder: Path) -> list[str]:
    """Mount points below the cluster's folder in the machine's own mount namespace."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1] for line in lines]
    return sorted((p for p in points if Path(p).is_relative_to(folder)), reverse=True)


def cgroups(cluster_name: str) -> list[Path]:
    """Control groups of the cluster's nodes, deepest first."""
    tops = [*CGROUP_ROOT.glob("*/fl-*"), *CGROUP_ROOT.glob("fl-*")]
    found = []
    for top in tops:
        if owns(cluster_name, top.name) and not top.parent.is_symlink():
            found += [Path(p) for p, _dirs, _files in os.walk(top)]
    return sorted(set(found), key=lambda p: -len(p.parts))


def nftables() -> list[str]:
    """Tables that kube-proxy would leave in the machine's own network namespace."""
    listing = subprocess.run(
        ["nft", "list", "tables"], capture_output=True, text=True, check=False
    ).stdout
    return [line for line in listing.splitlines() if "kube-proxy" in line]


def find(folder: Path) -> dict[str, list[str]]:
    """What of the cluster in `folder` is on the machine, by kind; empty when it is all gone."""
    everything = {
        "process": [str(p) for p in processes(folder)],
        "mount": mounts(folder),
        "link": network.links(folder.name),
        "network namespace": network.namespaces(folder.name),
        "cgroup": [str(p) for p in cgroups(folder.name)],
        "nftables table": nftables(),
        "folder": [str(folder)] if folder.exists() else [],
    }
    return {kind: found for kind, found in everything.items() if found}


def _end(pids: list[int]) -> None:
    """SIGKILL processes and wait until each is gone."""
    handles = []
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        handles.append(handle)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    waiting = set(handles)
    while waiting:
        ended, _, _ = select.select(list(waiting), [], [], 30)
        if not ended:
            break
        waiting -= set(ended)
    for handle in handles:
        os.close(handle)


def remove(folder: Path) -> None:
    """Remove all of it. Works on what is found, so a half-made cluster goes as well."""
    if pid := supervisor(folder):
        # The supervisor first, or it starts again what is ended here.
        _end([pid])
    while found := processes(folder):
        _end(found)
    for point in mounts(folder):
        subprocess.run(["umount", "--lazy", point], check=True)
    network.down(folder.name)
    remove_cgroups(cgroups(folder.name))
    if folder.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)
    if folder.parent.exists() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
