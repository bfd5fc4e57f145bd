# SPDX-License-Identifier: Apache-2.0
"""Hardware faults from Python: `HWFaultConfig` and `HWFaultManager`.

A thin front over the roles `cuda_shim`, `xid_inject`, `nvsentinel_wait` and the library of the
modules; nothing here does what they do a second time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ansible_collections.faultline.gpu.plugins.module_utils import _driver, _record, _run
from ansible_collections.faultline.gpu.plugins.module_utils._client import NODE, Cluster, Kind
from ansible_collections.faultline.gpu.plugins.module_utils._cuda_effect import effect_of
from ansible_collections.faultline.gpu.plugins.module_utils._errors import (
    FaultlineError,
    WaitTimeout,
)
from ansible_collections.faultline.gpu.plugins.module_utils._node_predicates import node_quarantined
from ansible_collections.faultline.gpu.plugins.module_utils._watch import wait
from ansible_collections.faultline.gpu.plugins.module_utils._xid import FIRST, LAST

from .roles import Roles

BACKENDS = ("vllm", "sglang", "trtllm")


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


@dataclass
class HWFaultConfig:
    """What to inject, and where.

    `xid_type` is the XID; `target_node` a node's name, None for the node of a worker whose pods fit
    elsewhere; `setup_timeout` and `fault_timeout` are seconds, the latter after which a fault ends
    by itself; `api_url` the address of the fault-injection API, None to reach it through the API
    server; `backend` one of vllm, sglang, trtllm; `cuda` says how CUDA calls fail and whose, with
    the suboptions of the module gpu_fault (`{"mode": "hang", "delay_microseconds": 500000}`), {}
    as the XID's row says. Raises FaultlineError for what cannot be.
    """

    enabled: bool = True
    xid_type: int = 79
    target_node: str | None = None
    api_url: str | None = None
    setup_timeout: int = 300
    fault_timeout: int = 600
    backend: str | None = None
    allow_nonfatal: bool = False
    cuda: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field that a wrong value of would only show later."""
        rules = {
            "xid_type": (
                type(self.xid_type) is int and FIRST <= self.xid_type <= LAST,
                f"a whole number from {FIRST} to {LAST}",
            ),
            "backend": (self.backend in (None, *BACKENDS), f"one of {', '.join(BACKENDS)}"),
            "setup_timeout": (_positive(self.setup_timeout), "a number of seconds above 0"),
            "fault_timeout": (_positive(self.fault_timeout), "a number of seconds above 0"),
        }
        for name, (good, wanted) in rules.items():
            if not good:
                raise FaultlineError(f"{name} is {getattr(self, name)!r}, wanted is {wanted}.")
        if not isinstance(self.cuda, Mapping):
            raise FaultlineError(f"cuda is {self.cuda!r}, wanted is a mapping such as mode: hang.")
        self.cuda_mode()

    def cuda_mode(self) -> str:
        """How CUDA calls fail with this XID; raises FaultlineError when they cannot so."""
        found = effect_of(self.cuda, self.xid_type, ["cuda"], self.fault_timeout)
        if found["problems"]:
            raise FaultlineError(" ".join(found["problems"]))
        return str(found["mode"])

    @classmethod
    def of(cls, given: HWFaultConfig | Mapping[str, Any] | None) -> HWFaultConfig:
        """A configuration from a mapping of its fields; None is the default one."""
        if isinstance(given, HWFaultConfig):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise FaultlineError(
                f"hw_fault_config is {given!r}, wanted is a HWFaultConfig or a mapping such as "
                "{'xid_type': 79}."
            )
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(given or {}) - known)
        if unknown:
            raise FaultlineError(
                f"hw_fault_config has no {', '.join(unknown)}; it has {', '.join(sorted(known))}."
            )
        return cls(**(given or {}))


class HWFaultManager:
    """The faults of one deployment, from setup to the way back.

    Usually made by ManagedDeployment. `results_dir` holds a folder per run, whose record lets
    `playbooks/cleanup.yml` undo everything when this process is killed.
    """

    def __init__(
        self,
        namespace: str,
        deployment_name: str,
        config: HWFaultConfig | Mapping[str, Any] | None = None,
        results_dir: str | os.PathLike[str] = "results",
        run_id: str | None = None,
        roles: Roles | None = None,
    ) -> None:
        self.namespace, self.deployment_name = namespace, deployment_name
        self.config = HWFaultConfig.of(config)
        self.results_dir = Path(results_dir).absolute()
        self.run_id = run_id or _run.new_run_id()
        self.roles = roles or Roles()
        self.target_node: str | None = self.config.target_node
        self.target_gpu: str | None = None
        self.target_pod: str | None = None
        self.passthrough = False
        self._cluster: Cluster | None = None

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.results_dir / self.run_id

    @property
    def cluster(self) -> Cluster:
        """The cluster, for reading."""
        if self._cluster is None:
            self._cluster = Cluster(self.roles.kubeconfig)
        return self._cluster

    def remember(self, **facts: Any) -> None:
        """Add facts to the record of the run, which a fresh process needs to undo it."""
        mine = {
            "namespace": self.namespace,
            "graph": self.deployment_name,
            "cluster": self.cluster.address,
        }
        facts = mine | {key: value for key, value in facts.items() if value is not None}
        driver = _driver.describe(os.getpid())
        _record.keep(str(self.results_dir), self.run_id, facts, False, driver)

    async def setup(self) -> None:
        """Check that the XID makes NVSentinel act, and that a node it watches can be spared."""
        self.remember(xid=self.config.xid_type, cuda_mode=self.config.cuda_mode())
        if not (self.folder / "before.json").exists():
            # By itself: the deployment is the caller's, and only what is added to it is undone.
            self.remember(graph_is_ours=False)
            await self.roles.role(
                "evidence",
                "preflight",
                evidence_run=str(self.folder),
                evidence_namespace=self.namespace,
            )
        found = await self.roles.roles(
            [
                self.xid("preflight"),
                (
                    "recovery",
                    "preflight",
                    {
                        "recovery_namespace": self.namespace,
                        "recovery_name": self.deployment_name,
                        "recovery_node": self.config.target_node or "",
                    },
                ),
            ]
        )
        self.target_node = str(found["drill_target"]["node"])
        await self.roles.role("nvsentinel_wait", "preflight", nvsentinel_wait_node=self.target_node)
        self.remember(target_node=self.target_node)

    def xid(self, entry: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
        """An entry point of the role xid_inject with the variables of this deployment."""
        variables = {
            "xid_inject_run_id": self.run_id,
            "xid_inject_namespace": self.namespace,
            "xid_inject_deployment": self.deployment_name,
            "xid_inject_node": self.target_node or "",
            "xid_inject_gpu_uuid": self.target_gpu or "",
            "xid_inject_xid": self.config.xid_type,
            "xid_inject_duration": self.config.fault_timeout,
            "xid_inject_allow_nonfatal": self.config.allow_nonfatal,
            "xid_inject_cuda": dict(self.config.cuda),
            "xid_inject_api_url": self.config.api_url or "",
        }
        return "xid_inject", entry, variables | {f"xid_inject_{k}": v for k, v in more.items()}

    async def setup_cuda_passthrough(self, xid_type: int | None = None) -> None:
        """Put the shim into the workers, idle: their pods restart once, and each proves it.

        Builds the shim on the GPU hosts first, and chooses the GPU afterwards, for the restart may
        move workers.
        """
        self._choose(xid_type)
        await self.roles.playbook("shim_hosts")
        shim = {
            "cuda_shim_namespace": self.namespace,
            "cuda_shim_name": self.deployment_name,
            "cuda_shim_timeout": self.config.setup_timeout,
        }
        wanted = self.config.target_node or ""
        found = await self.roles.roles(
            [("cuda_shim", "main", shim), self.xid("target", node=wanted)]
        )
        chosen = found["drill_target"]
        self.target_node, self.target_gpu = chosen["node"], chosen["gpu_uuid"]
        self.target_pod, self.passthrough = chosen["pod"], True
        self.remember(
            target_node=self.target_node, target_gpu=self.target_gpu, target_pod=self.target_pod
        )

    def _choose(self, xid_type: int | None) -> None:
        if xid_type is not None:
            self.config.xid_type = xid_type
            self.remember(xid=xid_type, cuda_mode=self.config.cuda_mode())

    def _fault(self, effect: str) -> str:
        """Name of this run's fault with one effect alone."""
        return f"{self.run_id}-{effect.lower()}"

    async def toggle_cuda_faults(self, enable: bool = True) -> bool:
        """Let CUDA calls on the target GPU fail, or end that; no pod restarts.

        True when the state is what was asked for. A process whose context has failed does not heal.
        """
        if not self.passthrough:
            raise FaultlineError("No shim is in the workers: call setup_cuda_passthrough first.")
        part = self.xid("main" if enable else "remove", name=self._fault("cuda"), effects=["cuda"])
        await self.roles.roles([part])
        return True

    async def wait_for_cuda_failures(self, timeout: int = 60) -> str:
        """Wait until calls on the target fail by the shim, and none elsewhere; what was seen."""
        found = await self.roles.role(
            "cuda_shim",
            "hit",
            cuda_shim_namespace=self.namespace,
            cuda_shim_node=self._target(),
            cuda_shim_fault=self._fault("cuda"),
            cuda_shim_hit_timeout=timeout,
        )
        return str(found["shim_evidence"]["seen"])

    async def inject_xid_fault(
        self, xid_type: int | None = None, gpu_id: int | None = None, node: str | None = None
    ) -> str:
        """Write the XID's line into the target's kernel log; returns the fault's name.

        `gpu_id` and `node` are refused unless they are the target's: a fault elsewhere would hurt
        what this deployment does not use.
        """
        self._choose(xid_type)
        if node not in (None, self.target_node):
            raise FaultlineError(f"The target of this run is {self.target_node}, not {node}.")
        if gpu_id is not None:
            raise FaultlineError("The GPU of a run is that of its worker; choose by target_node.")
        name = self._fault("kernelLog")
        await self.roles.roles([self.xid("main", name=name, effects=["kernelLog"], cuda={})])
        return name

    def wait_for_node_cordon(self, timeout: float = 180) -> bool:
        """Wait until NVSentinel has seen this run's fault and cordoned the target.

        Raises WaitTimeout with what was seen last. Blocks: it is no coroutine.
        """
        node = self._target()
        kinds = {"node": Kind(NODE.api_version, NODE.kind, name=node)}
        wait(
            self.cluster,
            kinds,
            lambda now: node_quarantined(next(iter(now["node"].values()), None), self.run_id),
            timeout,
        )
        return True

    def _target(self) -> str:
        if not self.target_node:
            raise FaultlineError("No target node has been chosen yet: call setup first.")
        return self.target_node

    def is_node_cordoned(self, node: str | None = None) -> bool:
        """Whether a node (the target) is cordoned now, by whomever."""
        name = node or self._target()
        found = self.cluster.get(NODE, name)
        if found is None:
            raise FaultlineError(f"There is no node {name}.")
        return bool(found["spec"].get("unschedulable"))

    async def cleanup_cuda_spec_without_restart(self) -> None:
        """Take the shim out of the deployment's specification; we delete no pod."""
        await self.roles.role(
            "cuda_shim",
            "remove",
            cuda_shim_namespace=self.namespace,
            cuda_shim_name=self.deployment_name,
        )
        self.passthrough = False

    async def wait_for_node_release(self, timeout: int = 900) -> None:
        """Wait until NVSentinel has put the target back: remediation, healthy event, un-cordon."""
        await self.roles.role(
            "nvsentinel_wait",
            "released",
            nvsentinel_wait_node=self._target(),
            nvsentinel_wait_release_timeout=timeout,
        )

    async def cleanup(self) -> None:
        """End the faults of this run, take out the shim, and wait until the node is back.

        Every step is tried; raises FaultlineError with all that could not be undone.
        """
        steps = [self._end_faults, self.cleanup_cuda_spec_without_restart]
        steps += [self.wait_for_node_release] if self.target_node else []
        wrong = []
        for step in steps:
            try:
                await step()
            except FaultlineError as error:
                wrong.append(str(error))
        if wrong:
            raise FaultlineError("Not everything could be undone: " + " ".join(wrong))

    async def _end_faults(self) -> None:
        await self.roles.roles([self.xid("remove")])


__all__ = ["FaultlineError", "HWFaultConfig", "HWFaultManager", "WaitTimeout"]
