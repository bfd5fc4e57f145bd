# SPDX-License-Identifier: Apache-2.0
"""How a detached process reaches the API server."""

from __future__ import annotations

import base64
import datetime
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils import _access as access
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes.config import kube_config

NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """Signs certificates; all in PEM."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
        self.cert = self._sign(self.name, self.key, True).public_bytes(serialization.Encoding.PEM)

    def _sign(self, subject: x509.Name, key: Any, ca: bool) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1))
            .not_valid_after(NOW + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        form = serialization.PrivateFormat.PKCS8
        text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        cert = self._sign(subject, key, False).public_bytes(serialization.Encoding.PEM)
        return cert, text


class Who(BaseHTTPRequestHandler):
    """Answers with the name in the client's certificate and the Authorization header."""

    def do_GET(self) -> None:
        subject = dict(part[0] for part in self.connection.getpeercert()["subject"])
        text = f"{subject['commonName']} {self.headers['Authorization']} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server on loopback that wants a client certificate."""
    folder = tmp_path_factory.mktemp("server")
    cert, key = authority.issue("server")
    (folder / "pem").write_bytes(cert + key)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.cert.decode())
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(folder / "pem")
    found = HTTPServer(("127.0.0.1", 0), Who)
    found.socket = tls.wrap_socket(found.socket, server_side=True)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found.server_port
    found.shutdown()


def kubeconfig(path: Path, port: int, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"https://localhost:{port}"} | cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def inline(**parts: bytes) -> dict[str, str]:
    return {f"{k.replace('_', '-')}-data": base64.b64encode(v).decode() for k, v in parts.items()}


def ask(found: access.Access, url: str) -> str:
    request = urllib.request.Request(url, headers=found.headers)
    assert isinstance(found.tls, ssl.SSLContext)
    with urllib.request.urlopen(request, timeout=30, context=found.tls) as answer:
        return str(answer.read().decode())


def test_everything_is_in_memory_when_the_copies_of_the_keys_are_gone(
    authority: Authority, server: int, tmp_path: Path
) -> None:
    cert, key = authority.issue("admin")
    path = kubeconfig(
        tmp_path / "config",
        server,
        inline(certificate_authority=authority.cert),
        {**inline(client_certificate=cert, client_key=key), "token": "t0"},
    )
    found = access.load(path)
    # What the process that loaded them does when it ends.
    kube_config._cleanup_temp_files()
    (tmp_path / "config").unlink()
    url = found.service_url("drill", "agg-frontend", 8000, "/v1/models")
    assert url == (
        f"https://localhost:{server}/api/v1/namespaces/drill/services/agg-frontend:8000"
        "/proxy/v1/models"
    )
    assert ask(found, url) == f"admin Bearer t0 {url.split(str(server), 1)[1]}"


def test_without_a_token_there_is_no_header(server: int, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", server, {"insecure-skip-tls-verify": True}, {})
    found = access.load(path)
    assert found.headers == {}
    assert isinstance(found.tls, ssl.SSLContext)
    assert found.tls.verify_mode is ssl.CERT_NONE


def test_a_server_that_the_kubeconfig_does_not_trust_is_not_asked(
    authority: Authority, server: int, tmp_path: Path
) -> None:
    cert, key = authority.issue("admin")
    path = kubeconfig(
        tmp_path / "config",
        server,
        inline(certificate_authority=Authority().cert),
        inline(client_certificate=cert, client_key=key),
    )
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(access.load(path), f"https://localhost:{server}/")


def test_a_context_is_chosen_by_name(server: int, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", server, {"insecure-skip-tls-verify": True}, {})
    assert access.load(path, "one").host == f"https://localhost:{server}"
    with pytest.raises(FaultlineError, match="two"):
        access.load(path, "two")


def test_without_any_configuration_the_error_says_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(FaultlineError, match="There is no kubeconfig"):
        access.load()


def test_a_kubeconfig_that_was_asked_for_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FaultlineError):
        access.load(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "it is no YAML in line 1: expected the node content"),
        ("", "is empty"),
        ("hello", "expected are a mapping with clusters, contexts and users"),
        ("{clusters: [], users: [], contexts: [], current-context: two}", "two"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named_with_what_is_wrong_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    with pytest.raises(FaultlineError) as error:
        access.load()
    assert str(error.value).startswith(f"The kubeconfig {path} cannot be used: ")
    assert said in str(error.value)
