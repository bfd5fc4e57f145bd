# SPDX-License-Identifier: Apache-2.0
"""The fault-injection API behind the module gpu_fault, with the service's own models."""

from __future__ import annotations

from typing import Any

from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from fake_api import Api
from fastapi import HTTPException
from faultline_service.api import refuse_impossible
from faultline_service.models import Inject, fault_object

Object = dict[str, Any]
NAME = "run-1-xid-79-gpu-node-1"
PRESENT = {"run_id": "run-1", "xid": 79, "node": "gpu-node-1", "gpu_index": 0, "timeout": 5}
ABSENT = {"run_id": "run-1", "state": "absent", "timeout": 5}
ACTIVE = {
    "phase": "Active",
    "kernelLog": {"line": "NVRM: Xid", "journal": {"seen": True}},
    "cuda": {"armed": True},
}


class Service:
    """The API and the agents behind it: a fault that is asked for becomes an object."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.status: Object = ACTIVE
        self.asked: list[tuple[int, Object]] = []
        self.refusal: str | None = None

    def inject(self, xid: int, wanted: Object) -> Object:
        self.asked.append((xid, wanted))
        if self.refusal:
            raise FaultlineError(self.refusal)
        try:
            made = fault_object(xid, Inject.model_validate(wanted))
            refuse_impossible(xid, made["spec"])
        except (ValueError, HTTPException) as error:
            raise FaultlineError(str(error)) from error
        self.api.put(fault(wanted["fault_id"], made["spec"], self.status, wanted["run_id"]))
        return wanted


def fault(name: str, spec: Object, status: Object | None = None, run: str = "run-1") -> Object:
    return {
        "apiVersion": "faultline.dev/v1alpha1",
        "kind": "GPUFault",
        "metadata": {"name": name, "labels": {"faultline.dev/run": run}},
        "spec": spec,
        "status": status or {},
    }
