# SPDX-License-Identifier: Apache-2.0
"""Admission and conversion over HTTPS, on the recorded paths, and their registration in the
cluster."""

from __future__ import annotations

import base64
import json
from typing import Any

from fastapi import FastAPI, Request

from lab.operator import validate
from lab.operator.convert import ConversionError, convert

Object = dict[str, Any]
PLURAL = "dynamographdeployments"
MUTATE = f"/mutate/nvidia.com/v1beta1/{PLURAL}"
VALIDATE = f"/validate/nvidia.com/v1beta1/{PLURAL}"
CONVERT = "/convert"


def mutate_review(request: Object) -> Object:
    """Answer of the mutating webhook: two annotations at creation."""
    response: Object = {"uid": request["uid"], "allowed": True}
    obj = request.get("object") or {}
    if request.get("operation") != "CREATE":
        return response
    wanted = validate.default_annotations(obj)
    if wanted == obj["metadata"].get("annotations"):
        return response
    patch = [{"op": "add", "path": "/metadata/annotations", "value": wanted}]
    text = base64.b64encode(json.dumps(patch).encode()).decode()
    return {**response, "patchType": "JSONPatch", "patch": text}


def validate_review(request: Object) -> Object:
    """Answer of the validating webhook. A deletion in progress is let through, so that it can
    end."""
    response: Object = {"uid": request["uid"], "allowed": True}
    obj = request.get("object") or {}
    if not obj or obj["metadata"].get("deletionTimestamp"):
        return response
    old = request.get("oldObject") if request.get("operation") == "UPDATE" else None
    found = validate.causes(obj, old)
    if found:
        return {
            **response,
            "allowed": False,
            "status": validate.refusal(obj["metadata"]["name"], found),
        }
    notes = validate.warnings(obj)
    return {**response, "warnings": notes} if notes else response


def convert_review(request: Object) -> Object:
    """Answer of the conversion webhook; one object that fails makes the whole review fail."""
    uid, version = request["uid"], request["desiredAPIVersion"]
    try:
        converted = [convert(obj, version) for obj in request.get("objects", [])]
    except (ConversionError, KeyError, TypeError, AttributeError) as error:
        return {
            "uid": uid,
            "result": {"status": "Failure", "message": f"conversion failed: {error}"},
        }
    return {"uid": uid, "convertedObjects": converted, "result": {"status": "Success"}}


def make_app() -> FastAPI:
    """The HTTPS application."""
    app = FastAPI(title="Dynamo operator stand-in", docs_url=None, redoc_url=None, openapi_url=None)

    async def answer(request: Request, kind: str, handle: Any) -> Object:
        review = await request.json()
        version = review.get("apiVersion")
        return {"apiVersion": version, "kind": kind, "response": handle(review["request"])}

    @app.post(MUTATE)
    async def mutate(request: Request) -> Object:
        return await answer(request, "AdmissionReview", mutate_review)

    @app.post(VALIDATE)
    async def admit(request: Request) -> Object:
        return await answer(request, "AdmissionReview", validate_review)

    @app.post(CONVERT)
    async def conversion(request: Request) -> Object:
        return await answer(request, "ConversionReview", convert_review)

    return app
