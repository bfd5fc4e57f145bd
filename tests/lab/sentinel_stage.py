# SPDX-License-Identifier: Apache-2.0
"""A control plane without kubelets on which the stand-in of NVSentinel plays recorded scenarios.

etcd, the API server and every component of the stand-in are real; the components run under their
own service accounts, so that a permission that the manifest lacks shows. Played here are: the
nodes' journals (what `read` would return of them), the kubelet (a pod that is evicted goes when it
went in the recording), the reboot (a node gets another boot id once the signal is sent), and the
human. There is no controller manager, so no taints come with a cordon; they are not compared.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment
from sentinel_rows import Row, observe, view

from lab.cluster import leftovers, network, pki
from lab.cluster.__main__ import wait_ready
from lab.cluster.config import Cluster
from lab.cluster.control_plane import AUDIT_POLICY, commands
from lab.kube import Kube, Obj
from lab.sentinel.connector import Connector
from lab.sentinel.events import HEALTH_EVENT
from lab.sentinel.janitor import LEASE
from lab.sentinel.journal import CHECK, Files, Monitor
from lab.sentinel.remediation import REBOOT, conditions
from lab.sentinel.settings import CONFIG, intervals

TREE = Path(__file__).resolve().parents[2]
MANIFESTS = TREE / "lab" / "sentinel" / "manifests"
CLUSTER = Cluster(
    name="sentinel",
    state="/var/lib/faultline-lab",
    binaries="/var/cache/faultline/bin",
    nodes=0,
    gpus_per_node=1,
    node_network="10.236.0.0/24",
    pod_network="10.237.0.0/16",
    service_network="10.238.0.0/16",
    version="v1.34.4",
)
COMPONENTS = ("fault-quarantine", "node-drainer", "fault-remediation", "janitor")
# Nobody evicts pods of namespaces with this in their name.
PATIENT = "patient"
WATCHED = (
    ("v1", "Node"),
    ("v1", "Pod"),
    ("v1", "Event"),
    ("v1", "ConfigMap"),
    REBOOT,
    LEASE,
)


@contextmanager
def control_plane() -> Iterator[Cluster]:
    """etcd and the API server; nothing of them is left afterwards, whatever happens."""
    running: list[subprocess.Popen[bytes]] = []
    with alone():
        leftovers.remove(CLUSTER.folder)
        try:
            begin(running)
            wait_ready(CLUSTER, 60)
            yield CLUSTER
        finally:
            leftovers.remove(CLUSTER.folder)
            for process in running:
                process.wait()
        left = leftovers.find(CLUSTER.folder)
    assert not left, f"left on the machine: {left}"


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other run of the tests has this cluster; there is one of that name."""
    handle = os.open(CLUSTER.binaries, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def begin(running: list[subprocess.Popen[bytes]]) -> None:
    """Start the processes and put each into `running`."""
    CLUSTER.save()
    CLUSTER.logs.mkdir()
    network.up(CLUSTER)
    pki.ensure(CLUSTER)
    (CLUSTER.folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
    for name in ("etcd", "kube-apiserver"):
        with (CLUSTER.logs / f"{name}.log").open("wb") as log:
            command = commands(CLUSTER)[name]
            running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment()))


def environment(**more: str) -> dict[str, str]:
    """Environment of a process of this cluster; by its mark it is found in the end."""
    return os.environ | {"FAULTLINE_LAB": str(CLUSTER.folder), "PYTHONPATH": str(TREE)} | more


def manifest(name: str) -> list[Obj]:
    """Objects of one of the stand-in's manifests."""
    values = {
        "lab_stack_sentinel_profile": "fast",
        "lab_stack_sentinel_breaker": False,
        "lab_stack_sentinel_drain_mode": "Immediate",
        "lab_stack_sentinel_eviction_timeout": 60,
        "lab_stack_image": "none",
        "lab_stack_image_stamps": {"lab-dev": ""},
    }
    template = Environment(trim_blocks=True).from_string((MANIFESTS / name).read_text())
    return [found for found in yaml.safe_load_all(template.render(values)) if found]


def connect(config: Path, manager: str) -> Kube:
    """A client with this kubeconfig."""
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(config)
    try:
        made = Kube(manager)
    finally:
        del os.environ["KUBECONFIG"]
        if before:
            os.environ["KUBECONFIG"] = before
    # Many scenarios share a client.
    made.dynamic.client.rest_client.pool_manager.connection_pool_kw["maxsize"] = 32
    return made


def install(admin: Kube) -> Path:
    """CRDs and service accounts; returns the drainer's configuration file."""
    crds = manifest("crds.yaml.j2")
    for found in crds:
        admin.create(found)
    waiting = {found["metadata"]["name"] for found in crds}
    resource = admin.dynamic.resources.get(
        api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition"
    )
    for event in admin.dynamic.watch(resource, timeout=30):
        found = event["raw_object"]
        if conditions(found).get("Established") == "True":
            waiting.discard(found["metadata"]["name"])
        if not waiting:
            break
    assert not waiting, f"not established: {waiting}"
    text = ""
    for found in manifest("sentinel.yaml.j2"):
        if found["kind"] == "ConfigMap":
            text = found["data"]["config.toml"]
        elif found["kind"] not in ("DaemonSet", "Deployment"):
            admin.create(found)
    # The first namespace that matches decides.
    patient = f'[[userNamespaces]]\nname = "*{PATIENT}*"\nmode = "AllowCompletion"\n'
    path = CLUSTER.folder / "config.toml"
    path.write_text(text.replace("[[userNamespaces]]", f"{patient}[[userNamespaces]]", 1))
    return path


def account(admin: Kube, name: str) -> Path:
    """A kubeconfig of one of the stand-in's service accounts."""
    path = CLUSTER.folder / f"{name}.kubeconfig"
    resource = admin.dynamic.resources.get(api_version="v1", kind="ServiceAccount")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = resource.subresources["token"].create(body=request, name=name, namespace="nvsentinel")
    content = json.loads((CLUSTER.folder / "kubeconfig").read_text())
    content["users"][0]["user"] = {"token": made.to_dict()["status"]["token"]}
    path.write_text(json.dumps(content))
    return path


class Component:
    """One of the stand-in's processes, and what it has said."""

    def __init__(self, name: str, config: Path, **settings: str) -> None:
        self.lines: list[str] = []
        self.said = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab.sentinel", name],
            cwd=TREE,
            env=environment(KUBECONFIG=str(config), SENTINEL_PROFILE="fast", **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.said:
                self.lines.append(line)
                self.said.notify_all()

    def hear(self, text: str, times: int, timeout: float) -> None:
        """Wait until a text was said so many times."""

        def heard() -> bool:
            return sum(text in line for line in self.lines) >= times

        with self.said:
            assert self.said.wait_for(heard, timeout), "".join(self.lines)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.process.kill()
        self.process.wait()


class Journal:
    """A node's journal after its journald has read some lines of the kernel."""

    def __init__(self) -> None:
        self.records = [{"MESSAGE": "Linux version 6.1", "__CURSOR": "0"}]

    def write(self, kmsg: str) -> None:
        """Store a line; one that journald would take a token off has no place here."""
        text = re.sub(r"^<\d+>", "", kmsg)
        assert text.startswith("["), f"journald would not store this unchanged: {text}"
        self.records.append({"MESSAGE": text, "__CURSOR": str(len(self.records))})

    def read(self, *options: str) -> list[dict[str, Any]]:
        """What `lab.sentinel.journal.read` returns for its two forms of options."""
        option, _, value = options[0].partition("=")
        if option == "--lines":
            return self.records[-int(value) :]
        assert option == "--after-cursor"
        return self.records[int(value) + 1 :]


class JournalMonitor(Monitor):
    """The monitor over a journal that is played here."""

    journal: Journal

    def records(self, *options: str) -> list[dict[str, Any]]:
        return self.journal.read(*options)


class Host:
    """What runs on one node: monitor and connector. It begins with a monitor that is armed."""

    def __init__(self, stage: Stage, name: str, pci: str, gpu: str) -> None:
        self.stage, self.name = stage, name
        folder = CLUSTER.folder / "hosts" / name
        folder.mkdir(parents=True)
        self.files = Files(folder, folder / "state.json", folder / "gpus.json", folder / "boot_id")
        self.boot_id = str(uuid.uuid4())
        self.files.boot_id.write_text(self.boot_id)
        self.files.metadata.write_text(json.dumps({"gpus": [{"pci_address": pci, "uuid": gpu}]}))
        armed = {"version": 1, "boot_id": self.boot_id, "check_last_cursors": {CHECK: "0"}}
        self.files.state.write_text(json.dumps(armed))
        self.journal = Journal()
        self.lock = threading.Lock()
        self.monitor: JournalMonitor | None = None
        self.connector: Connector | None = None
        self.start()

    def start(self) -> None:
        """Start both."""
        with self.lock:
            self.connector = Connector(self.stage.connecting, self.name)
            self.monitor = JournalMonitor(self.stage.monitoring, self.name, self.files)
            self.monitor.journal = self.journal
            self.monitor.start()

    def stop(self) -> None:
        """End both."""
        with self.lock:
            self.monitor = self.connector = None

    def restart(self) -> None:
        """Start the monitor without its state file, which makes it report that all is well."""
        self.stop()
        self.files.state.unlink()
        self.start()

    def reboot(self) -> None:
        """Another boot id, and a state file that was in memory is gone."""
        self.stop()
        self.files.boot_id.write_text(str(uuid.uuid4()))
        self.restart()

    def look(self) -> None:
        """One poll of the monitor."""
        with self.lock:
            if self.monitor:
                self.monitor.look()


class Stage:
    """The running stand-in, its nodes, and whoever listens to what becomes of objects."""

    def __init__(self) -> None:
        admin = CLUSTER.folder / "kubeconfig"
        self.admin = connect(admin, "fixture")
        self.humans = {who: connect(admin, who) for who in ("kubectl", "kubectl-patch")}
        self.config = install(self.admin)
        self.accounts = {
            name: account(self.admin, name)
            for name in (*COMPONENTS, "syslog-health-monitor", "platform-connectors")
        }
        self.monitoring = connect(self.accounts["syslog-health-monitor"], "syslog-health-monitor")
        self.connecting = connect(self.accounts["platform-connectors"], "platform-connectors")
        self.hosts: dict[str, Host] = {}
        self.listeners: list[Callable[[Row], None]] = []
        self.objects: dict[tuple[str, str], Obj] = {}
        self.ended = threading.Event()
        self.components = {name: self.component(name) for name in COMPONENTS}
        self.caches = [self.admin.follow(*kind, self._seen(kind[1])) for kind in WATCHED]
        self.caches.append(self.connecting.follow(*HEALTH_EVENT, self._connect))
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        self.ticker.start()

    def component(self, name: str, breaker: bool = False) -> Component:
        """Start a component."""
        settings = {CONFIG: str(self.config), "CIRCUIT_BREAKER": str(breaker).lower()}
        return Component(name, self.accounts[name], **settings)

    def restart_quarantine(self) -> None:
        """Start fault-quarantine again, with its breaker on."""
        self.components["fault-quarantine"].kill()
        self.components["fault-quarantine"] = self.component("fault-quarantine", breaker=True)

    def end(self) -> None:
        """End everything but the control plane."""
        self.ended.set()
        self.ticker.join()
        for cache in self.caches:
            cache.end()
        for component in self.components.values():
            component.kill()

    def _tick(self) -> None:
        while not self.ended.wait(intervals().poll):
            for host in list(self.hosts.values()):
                host.look()

    def _connect(self, op: str, found: Obj) -> None:
        for host in list(self.hosts.values()):
            if host.connector:
                host.connector.handle(op, found)

    def _seen(self, kind: str) -> Callable[[str, Obj], None]:
        def handle(op: str, found: Obj) -> None:
            meta = found["metadata"]
            key = (kind, f"{meta.get('namespace', '')}/{meta['name']}")
            row = observe(kind, op, self.objects.get(key), found)
            self.objects[key] = found
            if op == "DELETED":
                del self.objects[key]
            for listener in list(self.listeners):
                listener(row)
            if kind == "RebootNode":
                self._power_cycle(found)

        return handle

    def _power_cycle(self, found: Obj) -> None:
        """A node whose reboot signal was sent comes up again with another boot id."""
        state, name = conditions(found), found["spec"]["nodeName"]
        if (state.get("SignalSent"), state.get("NodeReady")) == ("True", "Unknown"):
            info = {"status": {"nodeInfo": {"bootID": str(uuid.uuid4())}}}
            self.admin.patch("v1", "Node", name, info, subresource="status")

    def revision(self) -> int:
        """Number of the last change of anything."""
        nodes = self.admin.dynamic.resources.get(api_version="v1", kind="Node")
        return int(nodes.get(limit=1).metadata.resourceVersion)

    def snapshot(self, name: str) -> tuple[str, Row]:
        """A node's uid and what it looks like now."""
        node = self.admin.get("v1", "Node", name)
        assert node
        return node["metadata"]["uid"], view("Node", node)
