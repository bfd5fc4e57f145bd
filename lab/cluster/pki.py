# SPDX-License-Identifier: Apache-2.0
"""Certificates and kubeconfigs of a cluster, made once."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .config import Cluster

LIFETIME = timedelta(days=3650)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _names(subject: str) -> x509.Name:
    """`O=group,CN=user` as an X.509 name."""
    oids = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
    pairs = [part.split("=", 1) for part in subject.split(",")]
    return x509.Name([x509.NameAttribute(oids[key], value) for key, value in pairs])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """A certificate authority of its own for one cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _names("CN=faultline-lab")
        builder = self._builder(self.name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = builder.sign(self.key, hashes.SHA256())
        _write(folder / "ca.key", _pem(self.key))
        _write(folder / "ca.crt", self.certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + LIFETIME)
        )

    def issue(
        self, file: str, subject: str, usages: list[x509.ObjectIdentifier], names: list[str]
    ) -> None:
        """Write `<file>.key` and `<file>.crt`."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_names(subject), key).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(n) for n in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        _write(self.folder / f"{file}.key", _pem(key))
        _write(self.folder / f"{file}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _kubeconfig(cluster: Cluster, user: str) -> bytes:
    def data(file: str) -> str:
        return base64.b64encode((cluster.pki / file).read_bytes()).decode()

    server = {"server": cluster.api_url, "certificate-authority-data": data("ca.crt")}
    account = {
        "client-certificate-data": data(f"{user}.crt"),
        "client-key-data": data(f"{user}.key"),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster.name, "cluster": server}],
        "users": [{"name": user, "user": account}],
        "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": user}}],
        "current-context": cluster.name,
    }
    return json.dumps(content, indent=2).encode()


def ensure(cluster: Cluster) -> None:
    """Make keys, certificates and kubeconfigs unless all of them are there."""
    done = cluster.pki / "complete"
    if done.exists():
        return
    cluster.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority(cluster.pki)
    service_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    addresses = [cluster.api_address, cluster.service_address, "127.0.0.1"]
    names = [*service_names, "kubernetes.default.svc.cluster.local", "localhost", *addresses]
    authority.issue("apiserver", "CN=kube-apiserver", [SERVER], names)
    users = {
        "admin": "O=system:masters,CN=admin",
        "kubelet-client": "O=system:masters,CN=kube-apiserver-kubelet-client",
        "controller-manager": "CN=system:kube-controller-manager",
        "scheduler": "CN=system:kube-scheduler",
        "proxy": "CN=system:kube-proxy",
        "front-proxy-client": "CN=front-proxy-client",
    }
    for user, subject in users.items():
        authority.issue(user, subject, [CLIENT], [])
    for node in cluster.members:
        subject = f"O=system:nodes,CN=system:node:{node.name}"
        authority.issue(node.name, subject, [SERVER, CLIENT], [node.name, node.address])
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(cluster.pki / "sa.key", _pem(accounts))
    _write(cluster.pki / "sa.pub", public)
    for user in ("admin", "controller-manager", "scheduler", "proxy"):
        _write(cluster.pki / f"{user}.kubeconfig", _kubeconfig(cluster, user))
    for node in cluster.members:
        _write(cluster.pki / f"{node.name}.kubeconfig", _kubeconfig(cluster, node.name))
    _write(cluster.folder / "kubeconfig", _kubeconfig(cluster, "admin"))
    done.touch()
