# SPDX-License-Identifier: Apache-2.0
"""What the fault-injection API is sent and answers, and the GPUFault that lies between."""

from __future__ import annotations

import secrets
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .kube import FAULT, GROUP_VERSION, NODE_LABEL, RUN_LABEL, Obj

LONGEST_LABEL = 63
UID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


class CudaTarget(BaseModel):
    """Whose calls are hit; all that is named must be true of a process. `pid` is the node's."""

    model_config = ConfigDict(extra="forbid")
    pod_uid: str | None = Field(None, pattern=UID, serialization_alias="podUID")
    mig_uuid: str | None = Field(None, pattern=f"^MIG-{UID[1:]}", serialization_alias="migUUID")
    pid: int | None = Field(None, ge=1)
    rank: int | None = Field(None, ge=0)


class Cuda(BaseModel):
    """How calls are hit; what is not said is as the XID's profile says."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["sticky", "once", "transient", "hang", "slow", "genuine"] | None = None
    classes: str | None = Field(None, pattern=r"^[SQITN]{1,5}$")
    after_calls: int | None = Field(None, ge=0, lt=2**32, serialization_alias="afterCalls")
    probability: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    delay_microseconds: int | None = Field(
        None, ge=0, lt=2**32, serialization_alias="delayMicroseconds"
    )
    not_before_seconds: int | None = Field(
        None, ge=0, le=7200, serialization_alias="notBeforeSeconds"
    )
    target: CudaTarget | None = None


class Inject(BaseModel):
    """A fault to be: the GPU by `gpu_uuid` or `pci_address`, else by `gpu_id`; times in seconds.

    With a `fault_id` the same request twice makes one fault. `xid_type` is what Dynamo's clients
    send beside the address, which says the XID.
    """

    # A word that is not understood may be the GPU's, and another one would be hit.
    model_config = ConfigDict(extra="forbid")
    node_name: str
    xid_type: int | None = None
    fault_id: str | None = Field(None, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    gpu_id: int = Field(0, ge=0)
    gpu_uuid: str | None = None
    pci_address: str | None = None
    duration: int | None = Field(None, ge=1, le=7200)
    effects: list[Literal["kernelLog", "cuda"]] = ["kernelLog", "cuda"]
    run_id: str | None = Field(None, pattern=r"^[a-z0-9-]{1,32}$")
    process_name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.:-]{1,32}$")
    cuda: Cuda | None = None

    @model_validator(mode="after")
    def _one_gpu(self) -> Inject:
        """Refuse a GPU that is named twice: the names may be of two."""
        ways = ("gpu_id", "gpu_uuid", "pci_address")
        said = [w for w in ways if w in self.model_fields_set and getattr(self, w) is not None]
        if len(said) > 1:
            raise ValueError(f"name the GPU by one of {', '.join(said)}")
        return self

    def gpu(self) -> dict[str, Any]:
        """The target as GPUFault has it."""
        if self.gpu_uuid:
            return {"uuid": self.gpu_uuid}
        return {"pciAddress": self.pci_address} if self.pci_address else {"index": self.gpu_id}


class FaultResponse(BaseModel):
    """A fault as Dynamo's service answers it, and the object's spec and status."""

    fault_id: str
    status: str
    fault_type: str
    target: str
    injected_at: str | None
    message: str
    spec: dict[str, Any]
    details: dict[str, Any]


def response(fault: Obj) -> FaultResponse:
    """A GPUFault as an answer."""
    spec, status = fault["spec"], fault.get("status") or {}
    gpu = status.get("gpu") or spec["gpu"]
    which = gpu.get("index", gpu.get("uuid") or gpu.get("pciAddress"))
    return FaultResponse(
        fault_id=fault["metadata"]["name"],
        status=status.get("phase", "Pending").lower(),
        fault_type=f"gpu_xid_{spec['xid']}",
        target=f"{spec['node']}/gpu{which}",
        injected_at=status.get("injectedAt"),
        message=status.get("message") or "waiting for the node's agent",
        spec=spec,
        details=status,
    )


def fault_object(xid: int, wanted: Inject) -> Obj:
    """The GPUFault of a request."""
    # For selectors; the name of a node may be longer than a label.
    labels = {NODE_LABEL: wanted.node_name} if len(wanted.node_name) <= LONGEST_LABEL else {}
    spec: Obj = {
        "xid": xid,
        "node": wanted.node_name,
        "gpu": wanted.gpu(),
        "effects": wanted.effects,
    }
    if wanted.duration is not None:
        spec["durationSeconds"] = wanted.duration
    if wanted.run_id:
        labels[RUN_LABEL] = spec["runId"] = wanted.run_id
    if wanted.process_name:
        spec["processName"] = wanted.process_name
    if wanted.cuda:
        spec["cuda"] = wanted.cuda.model_dump(by_alias=True, exclude_none=True)
    name = wanted.fault_id or f"xid-{xid}-{secrets.token_hex(4)}"
    meta = {"name": name, "labels": labels}
    return {"apiVersion": GROUP_VERSION, "kind": FAULT, "metadata": meta, "spec": spec}
