# SPDX-License-Identifier: Apache-2.0
"""How a detached process reaches the API server: everything it needs is in memory before it starts.

The Kubernetes client writes inline certificates of a kubeconfig into temporary files and removes
them when the process that loaded them ends; a detached child must therefore not need the files.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._errors import FaultlineError


@dataclass(frozen=True)
class Access:
    """Base address of the API server, TLS context and request headers."""

    host: str
    tls: ssl.SSLContext | bool
    headers: dict[str, str] = field(default_factory=dict)

    def pod_url(self, namespace: str, pod: str, path: str) -> str:
        """Address of what the API server offers of a pod: `log?…`, or `:<port>/proxy/<path>`."""
        return f"{self.host}/api/v1/namespaces/{namespace}/pods/{pod}{path}"

    def service_url(self, namespace: str, service: str, port: int | str, path: str) -> str:
        """Address of a Service's HTTP path through the API server's service proxy."""
        return (
            f"{self.host}/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy/"
            f"{path.lstrip('/')}"
        )

    def ask(
        self,
        url: str,
        timeout: float,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str]:
        """Status and text of a GET, or of a POST of `body` as JSON; any status is an answer.

        Status 0, and the reason as text, says that there was none.
        """
        data = None if body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(
            url, data=data, headers={**self.headers, **more, **(headers or {})}
        )
        context = self.tls if isinstance(self.tls, ssl.SSLContext) else None
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
                return int(answer.status), answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, _body(error)
        except (OSError, http.client.HTTPException) as error:
            # A pod that dies while its log is read breaks the answer off.
            return 0, str(error) or type(error).__name__


def _body(error: urllib.error.HTTPError) -> str:
    """Text of an answer that is an error, as far as it came."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return error.read().decode(errors="replace")
    return ""


def configuration(kubeconfig: str | None = None, context: str | None = None) -> Any:
    """The client's configuration as the kubeconfig (else KUBECONFIG, else ~/.kube/config) says.

    Where there is no such file it is that of the pod's own account. Raises FaultlineError when
    there is neither, and for a file that cannot be used.
    """
    from kubernetes import config
    from kubernetes.client import Configuration
    from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

    found, where = Configuration(), kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION
    try:
        config.load_kube_config(config_file=where, context=context, client_configuration=found)
    except Exception as error:  # the client fails in as many ways as a file can be wrong
        if any(Path(one).expanduser().exists() for one in where.split(os.pathsep)):
            raise FaultlineError(
                f"The kubeconfig {where} cannot be used: {_fault_of(error)}. Correct it, or name "
                "another one with KUBECONFIG or the option kubeconfig."
            ) from error
        if kubeconfig or context:
            raise FaultlineError(
                f"There is no kubeconfig {where}: name the cluster's with KUBECONFIG or the option "
                "kubeconfig."
            ) from error
        try:
            config.load_incluster_config(client_configuration=found)
        except config.ConfigException as inside:
            raise FaultlineError(
                f"There is no kubeconfig ({where}) and this is no pod: name the cluster's with "
                "KUBECONFIG or the option kubeconfig."
            ) from inside
    return found


def _fault_of(error: Exception) -> str:
    """What is wrong with a kubeconfig, by what the client or the YAML reader said of it."""
    if type(error).__name__ == "ConfigException":
        return str(error).rstrip(".")
    if problem := getattr(error, "problem", None):
        mark = getattr(error, "problem_mark", None)
        return f"it is no YAML in line {mark.line + 1}: {problem}" if mark else str(problem)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "expected are a mapping with clusters, contexts and users, and a current-context"


def of(found: Any) -> Access:
    """Access as a client's configuration says."""
    tls = ssl.create_default_context(cafile=found.ssl_ca_cert)
    if not found.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if found.cert_file:
        tls.load_cert_chain(found.cert_file, found.key_file)
    # The client keeps a token under the name of the scheme; older ones under that of the header.
    token = found.get_api_key_with_prefix("BearerToken", alias="authorization")
    return Access(found.host, tls, {"Authorization": token} if token else {})


def load(kubeconfig: str | None = None, context: str | None = None) -> Access:
    """Access as `configuration` finds it; raises FaultlineError when there is none."""
    return of(configuration(kubeconfig, context))
