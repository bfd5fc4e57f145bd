# SPDX-License-Identifier: Apache-2.0
"""Command lines of the control plane. Pure functions of the plan."""

from __future__ import annotations

from .config import Cluster

AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  # Every change is kept with who made it; reads are not.
  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
    omitManagedFields: true
  - level: None
"""


def commands(cluster: Cluster) -> dict[str, list[str]]:
    """Command of each control plane process, in the order in which they are started."""
    inside = ["ip", "netns", "exec", cluster.control_netns]
    return {
        "etcd": [*inside, *_etcd(cluster)],
        "kube-apiserver": [*inside, *_apiserver(cluster)],
        "kube-controller-manager": [*inside, *_controller_manager(cluster)],
        "kube-scheduler": [*inside, *_scheduler(cluster)],
    }


def _etcd(cluster: Cluster) -> list[str]:
    return [
        cluster.binary("etcd"),
        f"--data-dir={cluster.folder}/etcd",
        # A lab that loses power is made anew; waiting for the disk would only slow it down.
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ]


def _apiserver(cluster: Cluster) -> list[str]:
    pki = cluster.pki
    return [
        cluster.binary("kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        f"--advertise-address={cluster.api_address}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={cluster.service_network}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        # No kube-proxy runs beside it: webhooks on Services are reached at their endpoints.
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={pki}/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        f"--audit-policy-file={cluster.folder}/audit-policy.yaml",
        f"--audit-log-path={cluster.logs}/audit.jsonl",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=1",
    ]


def _controller_manager(cluster: Cluster) -> list[str]:
    config = f"{cluster.pki}/controller-manager.kubeconfig"
    return [
        cluster.binary("kube-controller-manager"),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--root-ca-file={cluster.pki}/ca.crt",
        f"--service-account-private-key-file={cluster.pki}/sa.key",
        "--use-service-account-credentials=true",
        f"--cluster-cidr={cluster.pod_network}",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def _scheduler(cluster: Cluster) -> list[str]:
    config = f"{cluster.pki}/scheduler.kubeconfig"
    return [
        cluster.binary("kube-scheduler"),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]
