# SPDX-License-Identifier: Apache-2.0
"""The fault-injection API: `python3 -m faultline_service.api`, with the routes of Dynamo's.

It keeps no state: a fault is a GPUFault object, which the agent of the node acts on. Reading is
free; a change needs a token, see auth.py.
"""

from __future__ import annotations

import json
import os
import secrets
from typing import Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from kubernetes.client import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from pydantic import BaseModel, ConfigDict, Field, model_validator
from urllib3.exceptions import HTTPError

from . import auth, clock, profiles
from .cuda_effect import refused
from .kube import DRILL_LABEL, ENDED, FAULT, GROUP_VERSION, HOST, NODE_LABEL, RUN_LABEL, Kube, Obj
from .limits import may_hurt

NAME = "fault-injection-api"
LONGEST_LABEL = 63
SEVERITY = {"RESTART_BM": "critical", "COMPONENT_RESET": "critical", "RESTART_VM": "critical"}
UID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
# The API server keeps `Authorization` for itself; through its proxy the token comes in this one.
PROXY_HEADER = "X-Faultline-Authorization"


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


def create(kube: Any, body: Obj) -> Obj:
    """Create a fault; one of the same name and content is that fault already.

    Raises HTTPException, 409, when that one is over, is told to end or is of other content: it
    would not hurt.
    """
    name = body["metadata"]["name"]
    try:
        made: Obj = kube.create(body)
    except ApiException as error:
        found = kube.get(FAULT, name) if error.status == 409 else None
        if found is None:
            raise
        names = {*body["spec"], "cuda"}
        if any((found["spec"].get(n) or None) != (body["spec"].get(n) or None) for n in names):
            raise HTTPException(409, f"there is another fault {name}: end it first") from error
        told = found["spec"].get("ended") or found["metadata"].get("deletionTimestamp")
        if told or not may_hurt(found):
            raise HTTPException(
                409,
                f"the fault {name} is over, or about to be: delete it, or give another fault_id",
            ) from error
        return dict(found)
    return made


def refuse_unmarked(kube: Any, node: str, most_nodes: int) -> None:
    """Raise HTTPException unless the node may be hurt and few enough others are."""
    found = kube.get("Node", node, "v1")
    if found is None:
        raise HTTPException(404, f"there is no node {node}")
    if (found["metadata"].get("labels") or {}).get(DRILL_LABEL) != "allowed":
        raise HTTPException(
            403, f"node {node} must not be hurt; label it {DRILL_LABEL}=allowed to allow it"
        )
    nodes = {f["spec"]["node"] for f in kube.list(FAULT) if may_hurt(f)} - {node}
    if len(nodes) >= most_nodes:
        raise HTTPException(
            409, f"faults are active on {', '.join(sorted(nodes))}; at most {most_nodes} at a time"
        )


def refuse_impossible(xid: int, spec: Obj) -> None:
    """Raise HTTPException when CUDA calls cannot fail as `spec` of a GPUFault says."""
    said = spec.get("cuda") or {}
    why = refused(profiles.profile(xid), said)
    if said and "cuda" not in spec["effects"]:
        why = "cuda says how CUDA calls fail, but they are not among the effects"
    if why:
        raise HTTPException(422, why)


def may(verb: str) -> Any:
    """A dependency that lets a request through only if its user may do this to GPUFaults."""

    def check(request: Request) -> str:
        header = request.headers.get("Authorization") or request.headers.get(PROXY_HEADER)
        try:
            return auth.check(request.app.state.kube, auth.bearer(header), verb)
        except auth.Denied as error:
            challenge = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
            raise HTTPException(error.status, str(error), challenge) from error

    return Depends(check)


def refusal(error: ApiException) -> JSONResponse:
    """What the API server refused, in its own words.

    When it does not know or not allow this service, that is not the fault of who asks here: 502.
    """
    try:
        words = json.loads(error.body or "")["message"]
    except (TypeError, ValueError, KeyError):
        words = error.reason
    status = 502 if error.status in (401, 403) else error.status or 502
    return JSONResponse({"detail": f"the cluster refused: {words}"}, status)


def create_app(kube: Any, most_nodes: int = 1) -> FastAPI:
    """The application; `kube` is a Kube or what acts like one."""
    app = FastAPI(title=NAME)
    app.state.kube = kube

    @app.exception_handler(ApiException)
    def cluster_refuses(_request: Request, error: ApiException) -> JSONResponse:
        return refusal(error)

    @app.exception_handler(HTTPError)
    def cluster_is_silent(_request: Request, _error: HTTPError) -> JSONResponse:
        text = (
            "the cluster's API server does not answer; faults end at their deadlines nevertheless"
        )
        return JSONResponse({"detail": text}, 503)

    @app.exception_handler(ResourceNotFoundError)
    def cluster_knows_no_faults(_request: Request, _error: ResourceNotFoundError) -> JSONResponse:
        text = f"the cluster knows no {FAULT}: install the definitions of the fault service"
        return JSONResponse({"detail": text}, 503)

    def existing(fault_id: str, found: Obj | None) -> Obj:
        if found is None:
            raise HTTPException(404, f"there is no fault {fault_id}")
        return found

    # Asynchronous: it waits for none of the threads, which may all wait for the cluster.
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy", "service": NAME, "timestamp": clock.stamp()}

    @app.get("/api/v1/faults/gpu/xid-types")
    def xid_types() -> list[dict[str, Any]]:
        rows = [profiles.profile(xid) for xid in profiles.listed()]
        return [
            {
                "code": row.xid,
                "name": row.name,
                "severity": SEVERITY.get(row.action, "high" if row.fatal else "medium"),
                "description": row.summary,
                "nvsentinel": {"action": row.action, "fatal": row.fatal},
                "cuda": {"live": row.live_code, "new_context": row.new_context_code},
                "nvml": row.nvml_code,
                "mode": row.mode,
                "confidence": row.confidence,
            }
            for row in rows
        ]

    @app.post("/api/v1/faults/gpu/inject/xid-{xid}", dependencies=[may("create")])
    def inject(wanted: Inject, xid: int = Path(ge=1, le=1000)) -> FaultResponse:
        if wanted.xid_type not in (None, xid):
            raise HTTPException(422, f"xid_type is {wanted.xid_type}, the address says {xid}")
        body = fault_object(xid, wanted)
        refuse_impossible(xid, body["spec"])
        refuse_unmarked(kube, wanted.node_name, most_nodes)
        return response(create(kube, body))

    @app.get("/api/v1/faults")
    def faults(active_only: bool = False) -> list[FaultResponse]:
        found = [response(fault) for fault in kube.list(FAULT)]
        ended = {phase.lower() for phase in ENDED}
        return [f for f in found if not (active_only and f.status in ended)]

    @app.get("/api/v1/faults/{fault_id}")
    def fault(fault_id: str) -> FaultResponse:
        return response(existing(fault_id, kube.get(FAULT, fault_id)))

    @app.post("/api/v1/faults/{fault_id}/recover", dependencies=[may("update")])
    def recover(fault_id: str) -> FaultResponse:
        existing(fault_id, kube.get(FAULT, fault_id))
        done = kube.patch(FAULT, fault_id, {"spec": {"ended": True}})
        return response(existing(fault_id, done))

    @app.delete("/api/v1/faults/{fault_id}", dependencies=[may("delete")])
    def delete(fault_id: str) -> FaultResponse:
        found = existing(fault_id, kube.get(FAULT, fault_id))
        kube.delete(FAULT, fault_id)
        return response(found)

    @app.get("/api/v1/hosts")
    def hosts() -> list[dict[str, Any]]:
        return [
            {"name": host["metadata"]["name"]} | (host.get("status") or {})
            for host in kube.list(HOST)
        ]

    return app


def main() -> None:
    """Serve on port 8080."""
    most = int(os.environ.get("FAULTLINE_MAX_ACTIVE_NODES", "1"))
    uvicorn.run(create_app(Kube(), most), host="0.0.0.0", port=8080, log_level="info")


if __name__ == "__main__":
    main()
