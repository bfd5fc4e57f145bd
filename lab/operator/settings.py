# SPDX-License-Identifier: Apache-2.0
"""Settings of the stand-in: environment variables, all optional."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Probes:
    """Probe times in seconds. The defaults are the recorded ones of the real operator."""

    startup_period: int = 10
    startup_total: int = 7200
    worker_readiness_period: int = 10
    worker_liveness_period: int = 5
    frontend_readiness_delay: int = 10
    frontend_readiness_period: int = 10
    frontend_liveness_delay: int = 15
    frontend_liveness_period: int = 10

    @property
    def startup_failures(self) -> int:
        """Failures until a worker is given up: two hours, whatever the period."""
        return max(1, self.startup_total // self.startup_period)


FAST_PROBES = Probes(
    startup_period=1,
    worker_readiness_period=2,
    frontend_readiness_delay=1,
    frontend_readiness_period=2,
)


@dataclass(frozen=True)
class Settings:
    """Everything that may differ between a cluster pod and a run on a developer's machine.

    ``status_delay``: seconds between a spec change and the operator's reaction; the real one was
    seen 0.03 to 0.36 s late, median 0.12 s. ``webhook_url``: base URL for admission and conversion
    instead of the Service, for a run outside of the cluster.
    """

    namespace: str = "dynamo-system"
    probes: Probes = field(default_factory=Probes)
    status_delay: float = 0.1
    webhook_host: str = "0.0.0.0"
    webhook_port: int = 9443
    health_port: int = 8081
    webhook_url: str | None = None
    identity: str = "lab-operator"
    lease_seconds: int = 15

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read ``DYNAMO_OPERATOR_*``; an unknown probe profile is an error, not a default."""
        env = os.environ if environment is None else environment
        profile = env.get("DYNAMO_OPERATOR_PROBE_PROFILE", "realistic")
        if profile not in ("realistic", "fast"):
            raise ValueError(
                f"DYNAMO_OPERATOR_PROBE_PROFILE is '{profile}'; it must be 'realistic' (the "
                "probe times of the real operator) or 'fast' (shorter ones, for the lab)."
            )
        return cls(
            namespace=env.get("POD_NAMESPACE", "dynamo-system"),
            probes=FAST_PROBES if profile == "fast" else Probes(),
            status_delay=float(env.get("DYNAMO_OPERATOR_STATUS_DELAY", "0.1")),
            webhook_port=int(env.get("DYNAMO_OPERATOR_WEBHOOK_PORT", "9443")),
            health_port=int(env.get("DYNAMO_OPERATOR_HEALTH_PORT", "8081")),
            webhook_url=env.get("DYNAMO_OPERATOR_WEBHOOK_URL") or None,
            identity=env.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
            lease_seconds=4 if profile == "fast" else 15,
        )
