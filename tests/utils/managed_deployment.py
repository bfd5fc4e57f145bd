# SPDX-License-Identifier: Apache-2.0
"""A Dynamo deployment for the time of a test: `ManagedDeployment`, with `DeploymentSpec`.

A thin front: what changes the cluster are entry points of the collection's roles, what reads is the
library of its modules. The way back is `playbooks/cleanup.yml`, which a fresh process can run as
well when this one was killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ansible_collections.faultline.gpu.plugins.module_utils import _driver, _run
from ansible_collections.faultline.gpu.plugins.module_utils._checks import label
from ansible_collections.faultline.gpu.plugins.module_utils._client import (
    NAMESPACE,
    Cluster,
    Kind,
    Obj,
)
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec
from ansible_collections.faultline.gpu.plugins.module_utils._errors import (
    FaultlineError,
    WaitTimeout,
)
from ansible_collections.faultline.gpu.plugins.module_utils._objects import (
    COMPONENT_LABEL,
    GRAPH_LABEL,
    conditions,
    run_of,
)
from ansible_collections.faultline.gpu.plugins.module_utils._settling import Settling
from ansible_collections.faultline.gpu.plugins.module_utils._watch import Snapshot, wait

from .hw_fault_helpers import HWFaultConfig, HWFaultManager
from .phases import Phase, noted
from .port_forward import PortForward
from .roles import Roles

log = logging.getLogger("faultline.deployment")


@dataclass(frozen=True)
class Pod:
    """A pod of the deployment; `raw` is the whole object."""

    name: str
    node: str | None
    ready: bool
    raw: Obj


class ManagedDeployment:
    """An ephemeral deployment: `async with` makes namespace and DGD, and removes both again.

    `namespace` is made for the run, or refused when it is somebody else's. `log_dir` gets a folder
    per run with the record, the timeline, evidence and report. With `enable_hw_faults` the faults
    of `hw_fault_config` (a HWFaultConfig or a mapping of its fields) can be injected.
    `skip_service_restart` leaves NATS and etcd of the platform as they are. With `fail_fast` a pod
    that cannot become Ready (an image that cannot be pulled, a crash loop, no room) ends the wait
    for the first readiness at once. A namespace made beforehand, with Secrets in it, has the label
    `faultline.dev/run`, whose value is `run_id`. Raises FaultlineError with a sentence for whatever
    is refused or fails.
    """

    def __init__(
        self,
        namespace: str,
        deployment_spec: DeploymentSpec,
        log_dir: str | os.PathLike[str] = "./logs",
        enable_hw_faults: bool = False,
        hw_fault_config: HWFaultConfig | Mapping[str, Any] | None = None,
        skip_service_restart: bool = False,
        readiness_timeout: int = 1800,
        frontend_service_name: str | None = None,
        kubeconfig: str | None = None,
        inventory: str | None = None,
        fail_fast: bool = True,
        run_id: str | None = None,
    ) -> None:
        if not isinstance(deployment_spec, DeploymentSpec):
            raise FaultlineError(
                f"deployment_spec is {deployment_spec!r}, wanted is a DeploymentSpec: load the "
                "file with DeploymentSpec(path)."
            )
        self.namespace = label("A namespace", namespace)
        self.deployment_spec = deployment_spec
        self.log_dir = Path(log_dir).absolute()
        self.skip_service_restart, self.readiness_timeout = skip_service_restart, readiness_timeout
        self.frontend_service_name = frontend_service_name or deployment_spec.frontend_service.name
        self.enable_hw_faults, self.fail_fast = enable_hw_faults, fail_fast
        self.roles = Roles(kubeconfig or os.environ.get("KUBECONFIG"), inventory)
        self.faults = HWFaultManager(
            namespace, deployment_spec.name, hw_fault_config, self.log_dir, run_id, self.roles
        )
        self.run_id = self.faults.run_id
        self.report: dict[str, Any] | None = None
        self._forwards: list[PortForward] = []
        self._entered = False

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.faults.folder

    @property
    def cluster(self) -> Cluster:
        """The cluster, for reading."""
        return self.faults.cluster

    @property
    def frontend_service(self) -> str:
        """Name of the Service to ask."""
        return f"{self.deployment_spec.name}-{self.frontend_service_name.lower()}"

    async def __aenter__(self) -> Self:
        """Undo what an earlier run left, then deploy and wait until the model is served."""
        self.deployment_spec.namespace = self.namespace
        await self._finish_interrupted()
        self.faults.remember(xid=self.faults.config.xid_type)
        self._entered = True
        try:
            async with self.phase(1) as phase:
                await self._deploy(phase)
                if self.enable_hw_faults:
                    phase.refusing = True
                    await self.faults.setup()
                    phase.evidence += f"; target {self.faults.target_node}"
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def _deploy(self, phase: Phase) -> None:
        space = self.namespace
        platform = {
            "platform_namespace": space,
            "platform_run_id": self.run_id,
            "platform_gpus": sum(s.pods * s.gpus for s in self.deployment_spec.services),
            "platform_min_gpu_nodes": 2 if self.enable_hw_faults else 1,
            "platform_definition": self.deployment_spec.spec(),
            "platform_skip_service_restart": self.skip_service_restart,
        }
        graph = {
            "dgd_namespace": space,
            "dgd_name": self.deployment_spec.name,
            "dgd_run_id": self.run_id,
            "dgd_definition": self.deployment_spec.spec(),
            "dgd_timeout": self.readiness_timeout,
            "dgd_fail_fast": self.fail_fast,
        }
        evidence = {"evidence_run": str(self.folder), "evidence_namespace": space}
        phase.refusing = True
        await self.roles.roles(
            [
                ("evidence", "preflight", evidence),
                *([self.faults.xid("preflight")] if self.enable_hw_faults else []),
                ("platform", "preflight", platform),
            ]
        )
        phase.refusing = False
        if not self.skip_service_restart:
            self.faults.remember(services_restarted=True)
            await self.roles.role("platform", "restart_services", **platform)
        found = await self.roles.roles(
            [("platform", "namespace", platform), ("dgd", "main", graph)]
        )
        rows = found["dgd"]["pods"]
        self.faults.remember(replicas=sum(1 for row in rows if row["worker"]))
        phase.evidence = str(found["dgd"]["seen"])

    async def _finish_interrupted(self) -> None:
        """Undo runs of this folder whose process is gone; refuse a namespace of any other run."""
        owner = self._owner()
        for record in sorted(self.log_dir.glob(f"*/{_run.RUN_FILE}")):
            run = _run.load(record.parent)
            over = (record.parent / "report.json").exists() and run["run_id"] != owner
            driver = run.get("driver") or {}
            mine = _driver.here(driver) and not _driver.alive(driver)
            mine = mine and run.get("cluster") == self.cluster.address
            if mine and not over and not record.parent.is_symlink():
                log.warning("run %s was interrupted: undoing it", run["run_id"])
                await self._undo(str(run["run_id"]))
        owner = self._owner()
        if owner and owner != self.run_id:
            raise FaultlineError(
                f"Namespace {self.namespace} belongs to run {owner}, which is under way or has no "
                f"record in {self.log_dir}: wait for it, or undo it where it was begun "
                f"(playbooks/cleanup.yml -e drill_run_id={owner})."
            )

    def _owner(self) -> str | None:
        """The run to which the namespace belongs; None when there is none of a run."""
        return run_of(self.cluster.get(NAMESPACE, self.namespace))

    async def _undo(self, run_id: str) -> dict[str, Any]:
        found = await self.roles.way_back(drill_results_dir=str(self.log_dir), drill_run_id=run_id)
        report: dict[str, Any] = found["drill_report"]["report"]
        return report

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Undo everything; what went wrong in the test itself is never hidden by the way back."""
        try:
            await self._leave()
        except FaultlineError as left:
            if error is None:
                raise
            error.add_note(f"The way back failed as well: {left}")

    async def _leave(self) -> None:
        for forward in self._forwards:
            forward.stop()
        self._forwards.clear()
        if self._entered:
            self.report = await self._undo(self.run_id)
            self._entered = False

    def phase(self, number: int) -> AbstractAsyncContextManager[Phase]:
        """Note a phase of a drill in the run's record; it fails with whatever its body raises."""
        return noted(self.folder, number)

    def get_pods(self, service_names: Iterable[str] | None = None) -> dict[str, list[Pod]]:
        """Pods by the service that they belong to: of all services, unless some are named."""
        label = f"{GRAPH_LABEL}={self.deployment_spec.name}"
        wanted = [s.name for s in self.deployment_spec.services]
        if service_names is not None:
            wanted = [self.deployment_spec.get_service(name).name for name in service_names]
        found: dict[str, list[Pod]] = {name: [] for name in wanted}
        by_label = {name.lower(): name for name in wanted}
        for raw in self.cluster.list(Kind("v1", "Pod", self.namespace, label_selector=label)):
            name = by_label.get(str(raw["metadata"]["labels"].get(COMPONENT_LABEL)).lower())
            if name:
                ready = conditions(raw).get("Ready", {}).get("status") == "True"
                node = raw["spec"].get("nodeName")
                found[name].append(Pod(raw["metadata"]["name"], node, ready, raw))
        return found

    def port_forward(self, pod: Pod | str, port: int) -> PortForward:
        """Forward a free local port to a pod's; ends with the deployment at the latest."""
        name = pod if isinstance(pod, str) else pod.name
        forward = PortForward(self.namespace, name, port, self.roles.kubeconfig)
        self._forwards.append(forward)
        return forward

    def _settle(self, timeout: float, settling: Settling, min_pods: int = 1) -> str:
        """Wait by watch until it is settled with so many pods; returns what was seen."""

        def enough(now: Snapshot) -> tuple[bool, str]:
            good, seen = settling(now)
            there = len(now["pods"])
            if there < min_pods:
                return False, f"{there} of {min_pods} pods; {seen}"
            return good, seen

        follow = settling.follows(self.namespace, self.deployment_spec.name)
        wait(self.cluster, follow, enough, timeout)
        return settling.said

    async def wait_for_all_pods_ready(
        self, timeout: float = 300, min_pods: int = 1, fail_fast: bool = False
    ) -> str:
        """Wait until the DGD is ready at its generation with one generation of pods.

        Returns what was seen; raises WaitTimeout, with what was missing, and with `fail_fast`
        WaitFailed as soon as a pod cannot become Ready. A pod whose CUDA calls fail can, later on.
        """
        settling = Settling(fail_fast=fail_fast)
        return await asyncio.to_thread(self._settle, timeout, settling, min_pods)

    async def wait_for_pods_on_healthy_nodes(
        self, exclude_node: str | None = None, timeout: float = 360
    ) -> str:
        """Wait until the deployment serves on nodes that are in service, none on `exclude_node`.

        A node that is cordoned is not in service, whichever it is; a pod may be on it again once
        NVSentinel has put it back. Raises WaitTimeout.
        """
        settling = Settling(healthy_nodes=True, fail_fast=False)
        return await asyncio.to_thread(self._settle, timeout, settling)

    def _with_faults(self) -> HWFaultManager:
        if not self.enable_hw_faults:
            raise FaultlineError("Hardware faults are off: make it with enable_hw_faults=True.")
        return self.faults

    async def setup_cuda_passthrough(self, xid_type: int | None = None) -> None:
        """Put the idle shim into the workers; their pods restart once, and each proves it."""
        await self._with_faults().setup_cuda_passthrough(xid_type)

    async def toggle_cuda_faults(self, enable: bool = True) -> bool:
        """Let CUDA calls on the target GPU fail, or end that, without a restart."""
        return await self._with_faults().toggle_cuda_faults(enable)

    async def wait_for_cuda_failures(self, timeout: int = 60) -> str:
        """Wait until CUDA calls fail on the target and nowhere else; returns what was seen."""
        return await self._with_faults().wait_for_cuda_failures(timeout)

    async def inject_hw_fault(
        self, fault_type: str = "xid", xid_type: int | None = None, gpu_id: int | None = None
    ) -> str:
        """Write an XID into the target's kernel log; returns the fault's name."""
        if fault_type != "xid":
            raise FaultlineError(f"fault_type is {fault_type!r}; only 'xid' can be injected.")
        return await self._with_faults().inject_xid_fault(xid_type, gpu_id)

    def get_hw_fault_target_node(self) -> str | None:
        """The node whose GPU dies, None while none is chosen."""
        return self._with_faults().target_node

    def is_node_cordoned(self, node: str | None = None) -> bool:
        """Whether a node (the target) is cordoned now."""
        return self.faults.is_node_cordoned(node)

    def wait_for_node_cordon(self, timeout: float = 180) -> bool:
        """Wait until NVSentinel has seen the fault and cordoned the target."""
        return self._with_faults().wait_for_node_cordon(timeout)

    async def cleanup_cuda_spec_without_restart(self) -> None:
        """Take the shim out of the specification; we delete no pod."""
        await self._with_faults().cleanup_cuda_spec_without_restart()

    async def wait_for_eviction(self, timeout: int = 300) -> str:
        """Wait until the drainer has emptied the target of our pods; returns what was seen."""
        found = await self.roles.role(
            "nvsentinel_wait",
            "drained",
            nvsentinel_wait_node=self._with_faults().target_node,
            nvsentinel_wait_namespace=self.namespace,
            nvsentinel_wait_timeline=str(self.folder / _run.TIMELINE),
            nvsentinel_wait_drain_timeout=timeout,
        )
        return str(found["node_quarantine"]["seen"])

    def _inference(self, entry: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
        workers = sum(s.pods for s in self.deployment_spec.worker_services())
        models = [s.served_model_name or s.model for s in self.deployment_spec.worker_services()]
        base = {
            "path": str(self.folder),
            "namespace": self.namespace,
            "service": self.frontend_service,
            "model": models[0],
            "workers": workers,
        }
        return (
            "inference_check",
            entry,
            {f"inference_check_{key}": value for key, value in (base | more).items()},
        )

    async def start_inference(self, **options: Any) -> None:
        """Ask the model without pause from now on, with options of the role inference_check."""
        await self.roles.roles([self._inference("main", **options)])

    async def wait_for_good_inference(self, **options: Any) -> dict[str, Any]:
        """Wait until the newest requests are good; returns their summary."""
        found = await self.roles.roles([self._inference("good", **options)])
        summary: dict[str, Any] = found["inference_probe"]["summary"]
        return summary

    async def wait_for_failing_inference(self, since: float, **options: Any) -> dict[str, Any]:
        """Wait until requests fail that ended after `since` (epoch seconds); their summary."""
        found = await self.roles.roles([self._inference("failing", since=since, **options)])
        matched: dict[str, Any] = found["inference_probe"]["matched"]
        return matched

    async def collect_metrics(self, phase: str) -> Path:
        """Keep objects, logs and metrics under the name `phase`; returns the folder."""
        folder = self.folder / "evidence" / phase
        await self.roles.role(
            "evidence", evidence_path=str(folder), evidence_namespace=self.namespace
        )
        return folder


__all__ = ["DeploymentSpec", "FaultlineError", "ManagedDeployment", "WaitTimeout"]
