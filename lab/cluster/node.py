# SPDX-License-Identifier: Apache-2.0
"""The first process of a node, inside namespaces of its own: mounts, then containerd and kubelet.

Started as `unshare --mount --uts --ipc --pid --fork --kill-child python -m lab.cluster.node
<cluster folder> <node>`, so that it is process 1 of its PID namespace: when it ends, by reboot(2)
or by a kill, the kernel ends everything else on the node.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from . import config
from .config import CGROUP_ROOT, Cluster, Node, boot_id
from .keeper import Keeper

# Folders of the node that outlive its reboot, each bound over the path of the same name.
KEPT = ("kubelet", "containerd", "cni", "faultline", "faultline-lab", "nvsentinel")
SECRETS = Path("/run/lab")
SOCKET = Path("/run/containerd/containerd.sock")
MARKER = Path("/etc/faultline-lab-node")


def mount(*words: str) -> None:
    """Run mount(8); raises CalledProcessError."""
    subprocess.run(["mount", *words], check=True)


def prepare_mounts(cluster: Cluster, node: Node, home: Path) -> None:
    """Give the node a /run, /var/lib, /var/log, /etc, /proc and boot id of its own."""
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    mine, kernel = boot_id(cluster, node.name), Path("/proc/sys/kernel/random/boot_id")
    mine.write_text(f"{uuid.uuid4()}\n")
    mount("--bind", str(mine), str(kernel))
    # sysrq belongs to the whole machine; a stand-in for a power button must not find it.
    if Path("/proc/sysrq-trigger").exists():
        mount("--bind", "/dev/null", "/proc/sysrq-trigger")
    mount("-t", "tmpfs", "tmpfs", "/proc/driver")
    _own_etc(home, node)
    kept = home / "var-lib"
    kept.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "tmpfs", str(kept))
    for name in KEPT:
        (home / name).mkdir(exist_ok=True)
        (kept / name).mkdir()
        mount("--bind", str(home / name), str(kept / name))
    (home / "log").mkdir(exist_ok=True)
    mount("--bind", str(home / "log"), "/var/log")
    secrets = [cluster.pki / f for f in ("ca.crt", f"{node.name}.crt", f"{node.name}.key")]
    secrets += [cluster.pki / f"{node.name}.kubeconfig", cluster.pki / "proxy.kubeconfig"]
    contents = {file.name: file.read_bytes() for file in secrets}
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    SECRETS.mkdir(mode=0o700)
    for name, content in contents.items():
        (SECRETS / name).write_bytes(content)
    SOCKET.parent.mkdir()
    Path("/run/netns").mkdir()
    mount("--rbind", str(kept), "/var/lib")
    # Pods may ask for mounts that propagate; that needs a shared root inside the node.
    mount("--make-rshared", "/")


def _own_etc(home: Path, node: Node) -> None:
    """An overlay on /etc: machine id, CNI configuration and marker of the node alone."""
    upper, work = home / "etc", home / "etc-work"
    upper.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    machine_id = upper / "machine-id"
    if not machine_id.exists():
        machine_id.write_text(f"{uuid.uuid4().hex}\n")
    (upper / "hostname").write_text(f"{node.name}\n")
    options = f"lowerdir=/etc,upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", options, "overlay", "/etc")
    MARKER.write_text(
        "This is a node of a faultline lab: rebooting it does not reboot a machine.\n"
    )
    cni = Path("/etc/cni/net.d")
    cni.mkdir(parents=True, exist_ok=True)
    (cni / "10-lab.conflist").write_text(json.dumps(cni_config(node), indent=2))


def cni_config(node: Node) -> dict[str, object]:
    """Pod network: a bridge in the node's namespace, addresses from the node's own subnet."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pod_subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}


def remove_cgroups(tops: list[Path]) -> None:
    """Remove what the node's last life left: its processes have ended with their namespace.

    A kubelet that finds the cgroups of dead containers asks for each of them for seconds.
    """
    deadline = time.monotonic() + 10
    for top in tops:
        for folder, _dirs, _files in os.walk(top, topdown=False):
            while True:
                try:
                    Path(folder).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    # The kernel is still taking the last processes out of it.
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)


def prepare_cgroups(node: Node) -> None:
    """The cgroup below which the kubelet keeps its pods, in every hierarchy there is."""
    remove_cgroups([CGROUP_ROOT / node.cgroup, *CGROUP_ROOT.glob(f"*/{node.cgroup}")])
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        (CGROUP_ROOT / node.cgroup).mkdir(exist_ok=True)
        return
    for hierarchy in sorted(p for p in CGROUP_ROOT.iterdir() if p.is_dir()):
        if hierarchy.name == "unified" or hierarchy.is_symlink():
            continue
        (hierarchy / node.cgroup).mkdir(exist_ok=True)
    cpuset = CGROUP_ROOT / "cpuset"
    for file in ("cpuset.cpus", "cpuset.mems"):
        if (cpuset / file).exists():
            # A new cpuset is empty, and no process can join an empty one.
            (cpuset / node.cgroup / file).write_text((cpuset / file).read_text())


def containerd_config() -> str:
    """Configuration of containerd for a machine without systemd and without CAP_SYS_RESOURCE."""
    return """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # Lowering a score needs CAP_SYS_RESOURCE; without this every sandbox fails where it is missing.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def kubelet_config(cluster: Cluster, node: Node) -> dict[str, object]:
    """KubeletConfiguration of a node (JSON is YAML)."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{SECRETS}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        # Nothing answers there: neither the Dynamo operator nor its runtime asks names. Without an
        # address the kubelet warns about every pod.
        "clusterDNS": [str(ipaddress.ip_network(cluster.service_network)[10])],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "tlsCertFile": f"{SECRETS}/{node.name}.crt",
        "tlsPrivateKeyFile": f"{SECRETS}/{node.name}.key",
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "nodeStatusUpdateFrequency": "4s",
        "serializeImagePulls": False,
        "maxPods": 60,
    }


def services(cluster: Cluster, node: Node) -> dict[str, list[str]]:
    """Command of each process of the node, in the order in which they are started."""
    return {
        "containerd": ["containerd", "--config=/run/lab/containerd.toml"],
        "kubelet": [
            cluster.binary("kubelet"),
            "--config=/run/lab/kubelet.json",
            f"--kubeconfig={SECRETS}/{node.name}.kubeconfig",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
            "--node-labels=nvidia.com/gpu.present=true",
            "--root-dir=/var/lib/kubelet",
        ],
        "kube-proxy": [
            cluster.binary("kube-proxy"),
            "--proxy-mode=nftables",
            f"--cluster-cidr={cluster.pod_network}",
            f"--kubeconfig={SECRETS}/proxy.kubeconfig",
            f"--hostname-override={node.name}",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
    }


def wait_for_socket(path: Path, seconds: float = 30) -> None:
    """Wait until something accepts connections on `path`; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
                return
            except OSError:
                time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {path} after {seconds:g} s")


def run(commands: dict[str, list[str]]) -> None:
    """Start the services one after the other and look after them: we are process 1."""
    keeper = Keeper(commands, Path("/var/log/lab"), least_seconds=1.0)
    for name in commands:
        keeper.start(name)
        if name == "containerd":
            wait_for_socket(SOCKET)
    keeper.keep()


def main() -> None:
    """Become the node named on the command line."""
    cluster = config.load(Path(sys.argv[1]))
    node = next(n for n in cluster.members if n.name == sys.argv[2])
    home = cluster.folder / "nodes" / node.name
    home.mkdir(parents=True, exist_ok=True)
    socket.sethostname(node.name)
    prepare_cgroups(node)
    prepare_mounts(cluster, node, home)
    (SECRETS / "containerd.toml").write_text(containerd_config())
    (SECRETS / "kubelet.json").write_text(json.dumps(kubelet_config(cluster, node)))
    shutil.rmtree("/var/lib/cni/networks", ignore_errors=True)
    run(services(cluster, node))


if __name__ == "__main__":
    main()
