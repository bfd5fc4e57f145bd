# SPDX-License-Identifier: Apache-2.0
"""The webhooks' certificate: a CA of the operator's own, kept in secret ``webhook-server-cert``."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.dynamic.exceptions import ConflictError

from lab.operator import names
from lab.operator.kube import Kube

LIFETIME = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)


@dataclass(frozen=True)
class Pair:
    """PEM texts: the CA, the server's certificate and its key."""

    ca: bytes
    certificate: bytes
    key: bytes


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make(hosts: list[str]) -> Pair:
    """A fresh CA and a server certificate for ``hosts`` (DNS names or IP addresses), valid for a
    year."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("dynamo-operator-webhook-ca")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        _builder(_name(hosts[0][:64]), ca_name, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([_alternative(h) for h in hosts]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Pair(
        ca.public_bytes(pem),
        server.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def still_good(pair: Pair, hosts: list[str]) -> bool:
    """True when the certificate is for all ``hosts`` and far enough from its end."""
    try:
        found = x509.load_pem_x509_certificate(pair.certificate)
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return False
    until = found.not_valid_after_utc - RENEW_BEFORE
    wanted = {_alternative(host) for host in hosts}
    return until > datetime.datetime.now(datetime.UTC) and wanted <= set(extension.value)


def _from_secret(secret: dict[str, dict[str, str]]) -> Pair:
    data = secret.get("data") or {}
    parts = (base64.b64decode(data.get(key, "")) for key in ("ca.crt", "tls.crt", "tls.key"))
    return Pair(*parts)


def ensure(kube: Kube, namespace: str, hosts: list[str]) -> Pair:
    """The pair from the secret; made (and written there) when it is missing, old or for other
    hosts.

    Another replica may be faster: both must answer with the same certificate."""
    secret = kube.get("Secret", namespace, names.WEBHOOK_SECRET)
    if secret is not None:
        known = _from_secret(secret)
        if still_good(known, hosts):
            return known
    pair = make(hosts)
    texts = {"ca.crt": pair.ca, "tls.crt": pair.certificate, "tls.key": pair.key}
    data = {key: base64.b64encode(value).decode() for key, value in texts.items()}
    if secret is not None:
        seen = {"resourceVersion": secret["metadata"]["resourceVersion"]}
        try:
            kube.patch("Secret", namespace, names.WEBHOOK_SECRET, {"metadata": seen, "data": data})
        except ConflictError:
            return ensure(kube, namespace, hosts)
        return pair
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": names.WEBHOOK_SECRET, "namespace": namespace},
        "data": data,
    }
    if kube.create(body) is None:
        return ensure(kube, namespace, hosts)
    return pair
