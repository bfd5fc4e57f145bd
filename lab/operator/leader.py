# SPDX-License-Identifier: Apache-2.0
"""Leader election by a Lease, as the real operator does it (Lease ``dynamo.nvidia.com``).

Every replica answers webhooks and watches; only the leader reconciles. Another replica's lease
counts as expired when it was not renewed for its duration *by our clock*, so clocks need not agree.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError
from urllib3.exceptions import HTTPError

from lab.operator.kube import Kube, brief

Object = dict[str, Any]
LOG = logging.getLogger("dynamo-operator")
LEASE = "dynamo.nvidia.com"


@dataclass
class Sight:
    """What we last saw of the lease, and when (monotonic seconds)."""

    version: str = ""
    since: float = 0.0


def may_take(lease: Object | None, identity: str, sight: Sight, now: float) -> bool:
    """True when we hold the lease, nobody does, or its holder let it expire. Updates ``sight``."""
    if lease is None:
        return True
    version = lease["metadata"]["resourceVersion"]
    if version != sight.version:
        sight.version, sight.since = version, now
    holder = lease["spec"].get("holderIdentity")
    if not holder or holder == identity:
        return True
    return now - sight.since >= float(lease["spec"].get("leaseDurationSeconds", 15))


def taken(lease: Object, identity: str, seconds: int, moment: str) -> Object:
    """The lease, held by us."""
    spec = dict(lease.get("spec", {}))
    if spec.get("holderIdentity") != identity:
        first = "acquireTime" not in spec
        spec["leaseTransitions"] = 0 if first else int(spec.get("leaseTransitions", 0)) + 1
        spec["acquireTime"] = moment
    spec |= {"holderIdentity": identity, "leaseDurationSeconds": seconds, "renewTime": moment}
    return {**lease, "spec": spec}


def _moment() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Elector:
    """Holds the lease while it can. ``on_lead`` is called once, ``on_lost`` when it is lost."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        identity: str,
        seconds: int,
        on_lead: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._identity = identity
        self._seconds = seconds
        self._on_lead = on_lead
        self._on_lost = on_lost
        self._sight = Sight()
        self._leading = self._lost = False
        self._renewed = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader", daemon=True)

    def start(self) -> None:
        """Begin to try."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and give the lease back so that another replica need not wait for its end."""
        self._stopped.set()
        self._thread.join(timeout=5)
        if self._leading:
            lease = self._kube.get("Lease", self._namespace, LEASE)
            if lease and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                self._kube.replace(lease)

    def _run(self) -> None:
        while not (self._stopped.is_set() or self._lost):
            held = self._try()
            if held and not self._leading and not self._lost:
                self._leading = True
                LOG.info("%s leads", self._identity)
                threading.Thread(target=self._guard, name="lease", daemon=True).start()
                self._on_lead()
            self._stopped.wait(self._seconds / 7.5)

    def _guard(self) -> None:
        """Say when the lease was not renewed in time: the call that renews it may never return."""
        while (left := self._renewed + self._seconds * 2 / 3 - time.monotonic()) > 0:
            if self._stopped.wait(left):
                return
        LOG.error("%s could not renew its lease in time", self._identity)
        self._lost, self._leading = True, False
        self._on_lost()

    def _try(self) -> bool:
        # The lease counts from here for us: another replica may see it before we get the answer.
        begun = time.monotonic()
        try:
            lease = self._kube.get("Lease", self._namespace, LEASE)
            if not may_take(lease, self._identity, self._sight, time.monotonic()):
                return False
            if not self._write(lease):
                return False
        except ConflictError:
            return False
        except (DynamicApiError, HTTPError, OSError) as error:
            LOG.warning("lease: %s", brief(error))
            return False
        self._renewed = begun
        return True

    def _write(self, lease: Object | None) -> bool:
        if lease is not None:
            self._kube.replace(taken(lease, self._identity, self._seconds, _moment()))
            return True
        empty = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE, "namespace": self._namespace},
        }
        made = self._kube.create(taken(empty, self._identity, self._seconds, _moment()))
        return made is not None
