# SPDX-License-Identifier: Apache-2.0
"""A port of a pod on this machine, by kubectl, for as long as it is wanted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from typing import Self

from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError

FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class PortForward:
    """Forwards a free port of the loopback to a pod's port; `local_port` is that port."""

    def __init__(
        self,
        namespace: str,
        pod: str,
        port: int,
        kubeconfig: str | None = None,
        timeout: float = 15,
    ) -> None:
        """Begin, and wait until kubectl listens; raises FaultlineError with its words if not."""
        if not shutil.which("kubectl"):
            raise FaultlineError("A port-forward needs kubectl, which is not on the PATH.")
        command = ["kubectl", "port-forward", f"--namespace={namespace}", f"pod/{pod}", f":{port}"]
        command += [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ,
        )
        late = threading.Timer(timeout, self._process.kill)
        late.start()
        said = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said += line
            if found := FORWARDING.search(line):
                self.local_port = int(found.group(1))
                break
        late.cancel()
        if not hasattr(self, "local_port"):
            self.stop()
            raise FaultlineError(f"No port-forward to {pod}:{port}: {said.strip() or 'no word'}")

    @property
    def url(self) -> str:
        """Address of the pod's port on this machine."""
        return f"http://127.0.0.1:{self.local_port}"

    @property
    def alive(self) -> bool:
        """Whether it still forwards; it ends with its pod."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
