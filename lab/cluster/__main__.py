# SPDX-License-Identifier: Apache-2.0
"""Command line of a lab cluster; the role `lab_cluster` is its user.

Every command prints one JSON object; `up`, `down` and `import` say whether they changed anything.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kubernetes.client import ApiException
from kubernetes.config import new_client_from_config
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError

from ..files import draft_of, replace
from . import config, leftovers
from .config import Cluster, boot_id

COMMANDS = ("up", "down", "status", "leftovers", "import")
CTR = ["ctr", "--address=/run/containerd/containerd.sock", "--namespace=k8s.io"]


def refuse_foreign(folder: Path) -> None:
    """Raise SystemExit for a folder with content that no cluster has made: it would be removed."""
    plan = folder / "cluster.json"
    if folder.exists() and not plan.exists() and set(folder.iterdir()) - {draft_of(plan)}:
        raise SystemExit(f"{folder} is no folder of a lab cluster: it is left as it is.")


def first_process(folder: Path, node: str) -> int:
    """Process id, seen from the machine, of a node's process 1."""
    outer = (folder / "run" / f"{node}.pid").read_text().strip()
    inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    return int(inner[0])


def up(cluster: Cluster, timeout: int) -> dict[str, object]:
    """Start the cluster unless it runs, and wait until every node is Ready."""
    changed = leftovers.supervisor(cluster.folder) is None
    if changed:
        if leftovers.processes(cluster.folder):
            # A supervisor was killed; its cluster is taken over by none, so it is begun anew.
            leftovers.remove(cluster.folder)
        cluster.save()
        cluster.logs.mkdir(exist_ok=True)
        environment = os.environ | {
            "FAULTLINE_LAB": str(cluster.folder),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        with (cluster.logs / "supervisor.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "lab.cluster.supervisor", str(cluster.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
    wait_ready(cluster, timeout)
    return {"changed": changed, "kubeconfig": str(cluster.folder / "kubeconfig")}


def wait_ready(cluster: Cluster, timeout: int) -> None:
    """Wait for the API server, then for every node by watch; raises SystemExit with a sentence."""
    deadline = time.monotonic() + timeout
    missing = {n.name for n in cluster.members}
    up = False
    while (left := int(deadline - time.monotonic())) > 0:
        up = _api_is_ready(cluster, left)
        try:
            if up and missing:
                _follow_nodes(cluster, missing, max(1, int(deadline - time.monotonic())))
        except (ApiException, HTTPError) as error:
            # An API server that is started again ends the watch.
            print(f"following the nodes again: {error}", file=sys.stderr)
            time.sleep(0.5)
        if up and not missing:
            return
    waited_for = f"nodes {', '.join(sorted(missing))}" if up else "the API server"
    raise SystemExit(
        f"The cluster {cluster.name} is not up after {timeout} s, still waiting for {waited_for}. "
        f"Logs are in {cluster.logs} and in {cluster.folder}/nodes/*/log/lab."
    )


def _api_is_ready(cluster: Cluster, seconds: int) -> bool:
    """Whether the API server says within some seconds that it is ready."""
    # curl retries the connection, so nothing here polls. Its own pauses would double each time.
    curl = ["curl", "-sfk", "--retry", str(seconds), "--retry-delay", "1", "--retry-all-errors"]
    curl += ["--max-time", "5", "--retry-max-time", str(seconds)]
    curl += ["-o", "/dev/null", f"{cluster.api_url}/readyz"]
    return subprocess.run(curl, check=False).returncode == 0


def _follow_nodes(cluster: Cluster, missing: set[str], seconds: int) -> None:
    """Take nodes out of `missing` as they become Ready, until all are, or the time is up."""
    dynamic = DynamicClient(new_client_from_config(str(cluster.folder / "kubeconfig")))
    nodes = dynamic.resources.get(api_version="v1", kind="Node")
    for event in dynamic.watch(nodes, timeout=seconds):
        if is_ready(cluster, event["raw_object"]):
            missing.discard(event["raw_object"]["metadata"]["name"])
        if not missing:
            return


def is_ready(cluster: Cluster, node: dict[str, Any]) -> bool:
    """Whether a Node is Ready, and that in the boot which runs now: what it says may be old."""
    status = node.get("status") or {}
    ready = {"type": "Ready", "status": "True"}.items()
    try:
        boot = boot_id(cluster, node["metadata"]["name"]).read_text().strip()
    except FileNotFoundError:
        return False
    same = (status.get("nodeInfo") or {}).get("bootID") == boot
    return same and any(ready <= c.items() for c in status.get("conditions") or [])


def digest(archive: Path) -> str:
    """SHA-256 of an image archive, kept beside it while size and time stay the same."""
    stat = archive.stat()
    key = f"{stat.st_size} {stat.st_mtime_ns}"
    note = archive.with_name(archive.name + ".sha256")
    try:
        known, value = note.read_text().rsplit(" ", 1)
        if known == key:
            return value
    except (FileNotFoundError, ValueError):
        pass
    with archive.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    note.write_text(f"{key} {value}")
    return value


def images_of(folder: Path, node: str) -> list[str]:
    """Command that works on the images of a running node, without its verb."""
    enter = ["nsenter", f"--target={first_process(folder, node)}", "--mount"]
    return [*enter, *CTR, "images"]


def import_images(
    folder: Path, archives: list[Path], names: dict[str, str] | None = None
) -> dict[str, object]:
    """Import archives into every node that has not got them.

    `names` are further names of images, each with the name that its image has in an archive.
    """
    cluster = config.load(folder)

    def into(node: str) -> list[str]:
        stamps = folder / "nodes" / node / "images.json"
        have = json.loads(stamps.read_text()) if stamps.exists() else {}
        new = []
        for archive in archives:
            value = digest(archive)
            if have.get(archive.name) == value:
                continue
            with archive.open("rb") as file:
                command = [*images_of(folder, node), "import", "--no-unpack=false", "-"]
                subprocess.run(command, stdin=file, check=True, capture_output=True)
            have[archive.name] = value
            new.append(f"{node}:{archive.name}")
            replace(stamps, json.dumps(have))
        if new or any(have.get(name) != image for name, image in (names or {}).items()):
            for name, image in (names or {}).items():
                tag = [*images_of(folder, node), "tag", "--force", image, name]
                subprocess.run(tag, check=True, capture_output=True)
                have[name] = image
            replace(stamps, json.dumps(have))
        return new

    with ThreadPoolExecutor() as pool:
        imported = [
            one for many in pool.map(into, [n.name for n in cluster.members]) for one in many
        ]
    return {"changed": bool(imported), "imported": imported}


def _answers(cluster: Cluster) -> bool:
    """Whether the API server says that it is ready."""
    try:
        context = ssl.create_default_context(cafile=str(cluster.pki / "ca.crt"))
        with urllib.request.urlopen(f"{cluster.api_url}/readyz", timeout=3, context=context) as r:
            return bool(r.status == 200)
    except OSError:
        return False


def status(folder: Path) -> dict[str, object]:
    """What of the cluster runs.

    `state` is `absent` (never made, or removed), `running`, `stopped` (nothing of it runs, as after
    a reboot of the machine) or `broken` (something of it runs, but not all, or not yet).
    """
    try:
        cluster = config.load(folder)
    except FileNotFoundError:
        return {"state": "absent", "folder": str(folder)}
    supervisor, processes = leftovers.supervisor(folder), leftovers.processes(folder)
    if not processes:
        state = "stopped"
    else:
        # Asked only then: without the cluster's own network its address may be somebody else's.
        state = "running" if supervisor and _answers(cluster) else "broken"
    return {
        "state": state,
        "supervisor": supervisor,
        "api": cluster.api_url,
        "kubeconfig": str(folder / "kubeconfig"),
        "nodes": [n.name for n in cluster.members],
        "processes": len(processes),
    }


def differs(folder: Path, wanted: Cluster) -> list[str]:
    """How a cluster that is there differs from the plan, one phrase each; empty without one."""
    try:
        there = asdict(config.load(folder))
    except FileNotFoundError:
        return []
    pairs = [(key, there[key], value) for key, value in asdict(wanted).items()]
    return [f"{key} is {old}, wanted is {new}" for key, old, new in pairs if old != new]


def plan(text: str) -> Cluster:
    """The cluster of a plan in JSON; raises SystemExit with a sentence when it cannot be."""
    try:
        return Cluster(**json.loads(text))
    except ValueError as error:
        raise SystemExit(str(error)) from error


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="lab.cluster", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--folder", type=Path, default=Path("/var/lib/faultline-lab/lab"))
    parser.add_argument("--plan", help="the plan as JSON; it is checked (up, status)")
    parser.add_argument("--timeout", type=int, default=180)
    parser.add_argument("--names", type=json.loads, help="more names of images, as JSON (import)")
    parser.add_argument("archives", nargs="*", type=Path)
    args = parser.parse_intermixed_args()
    code = 0
    if args.command == "up":
        answer = up(plan(args.plan), args.timeout)
    elif args.command == "down":
        refuse_foreign(args.folder)
        found = leftovers.find(args.folder)
        leftovers.remove(args.folder)
        answer = {"changed": bool(found), "removed": {k: len(v) for k, v in found.items()}}
    elif args.command == "import":
        answer = import_images(args.folder, args.archives, args.names)
    elif args.command == "leftovers":
        left = leftovers.find(args.folder)
        answer, code = {"leftovers": left}, int(bool(left))
    else:
        answer = status(args.folder)
        if args.plan:
            wanted = plan(args.plan)
            answer |= {"bridge": wanted.bridge, "differs": differs(args.folder, wanted)}
    print(json.dumps(answer))
    sys.exit(code)


if __name__ == "__main__":
    main()
