# SPDX-License-Identifier: Apache-2.0
"""The fault-injection API: `python3 -m faultline_service.api`, with the routes of Dynamo's.

It keeps no state: a fault is a GPUFault object, which the agent of the node acts on. Reading is
free; a change needs a token, see auth.py.
"""

from __future__ import annotations

import json
import os
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from kubernetes.client import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from . import auth, clock, profiles
from .cuda_effect import refused
from .kube import DRILL_LABEL, FAULT, HOST, Kube, Obj
from .limits import may_hurt
from .models import FaultResponse, Inject, fault_object, response

NAME = "fault-injection-api"
SEVERITY = {"RESTART_BM": "critical", "COMPONENT_RESET": "critical", "RESTART_VM": "critical"}
# The API server keeps `Authorization` for itself; through its proxy the token comes in this one.
PROXY_HEADER = "X-Faultline-Authorization"


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


# What the API's own description says of tokens; auth.py looks at them.
SCHEMES = (
    HTTPBearer(auto_error=False, description="Token for the audience faultline"),
    APIKeyHeader(
        name=PROXY_HEADER,
        auto_error=False,
        description="The same, with `Bearer ` before it, through the API server's service proxy",
    ),
)


def may(verb: str) -> list[Any]:
    """Dependencies that let a request through only if its user may do this to GPUFaults."""

    def check(request: Request) -> str:
        header = request.headers.get("Authorization") or request.headers.get(PROXY_HEADER)
        try:
            return auth.check(request.app.state.kube, auth.bearer(header), verb)
        except auth.Denied as error:
            challenge = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
            raise HTTPException(error.status, str(error), challenge) from error

    return [Depends(check), *(Security(scheme) for scheme in SCHEMES)]


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

    @app.post("/api/v1/faults/gpu/inject/xid-{xid}", dependencies=may("create"))
    def inject(wanted: Inject, xid: int = Path(ge=1, le=1000)) -> FaultResponse:
        if wanted.xid_type not in (None, xid):
            raise HTTPException(422, f"xid_type is {wanted.xid_type}, the address says {xid}")
        body = fault_object(xid, wanted)
        refuse_impossible(xid, body["spec"])
        refuse_unmarked(kube, wanted.node_name, most_nodes)
        return response(create(kube, body))

    @app.get("/api/v1/faults")
    def faults(active_only: bool = False) -> list[FaultResponse]:
        return [response(f) for f in kube.list(FAULT) if may_hurt(f) or not active_only]

    @app.get("/api/v1/faults/{fault_id}")
    def fault(fault_id: str) -> FaultResponse:
        return response(existing(fault_id, kube.get(FAULT, fault_id)))

    @app.post("/api/v1/faults/{fault_id}/recover", dependencies=may("update"))
    def recover(fault_id: str) -> FaultResponse:
        existing(fault_id, kube.get(FAULT, fault_id))
        done = kube.patch(FAULT, fault_id, {"spec": {"ended": True}})
        return response(existing(fault_id, done))

    @app.delete("/api/v1/faults/{fault_id}", dependencies=may("delete"))
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
