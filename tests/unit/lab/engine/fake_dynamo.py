# SPDX-License-Identifier: Apache-2.0
"""The part of `dynamo.common.backend` (1.6) that the engine uses, without runtime or network.

`run` serves orders from standard input, one JSON object per line: a request, answered by a line per
chunk and one for the end; or `{"lose": "context"}`, after which every driver call fails for real.
"""

from __future__ import annotations

import abc
import asyncio
import ctypes
import enum
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any


class DisaggregationMode(enum.Enum):
    AGGREGATED = "agg"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass
class WorkerConfig:
    namespace: str
    component: str
    model_name: str
    served_model_name: str
    discovery_backend: str
    request_plane: str
    event_plane: str
    disaggregation_mode: DisaggregationMode


@dataclass
class LlmRegistration:
    context_length: int
    kv_cache_block_size: int
    total_kv_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int


@dataclass
class EngineConfig:
    model: str
    served_model_name: str
    llm: LlmRegistration


class LLMEngine(abc.ABC):
    @classmethod
    @abc.abstractmethod
    async def from_args(cls, argv: list[str] | None = None) -> tuple[LLMEngine, WorkerConfig]: ...

    @abc.abstractmethod
    async def start(self, worker_id: int) -> EngineConfig: ...

    @abc.abstractmethod
    def generate(self, request: Any, context: Any) -> AsyncGenerator[dict[str, Any], None]: ...

    @abc.abstractmethod
    async def cleanup(self) -> None: ...


def enforce_prefill_max_tokens(request: Any) -> Any:
    return request | {"stop_conditions": {**request.get("stop_conditions", {}), "max_tokens": 1}}


def require_prefill_result(request: Any, mode: DisaggregationMode) -> Any:
    if "prefill_result" not in request:
        raise ValueError(f"{mode.value} worker received request with no prefill_result")
    return request["prefill_result"]


def is_probe(request: Any) -> bool:
    return bool(request.get("probe"))


def say(**what: Any) -> None:
    print(json.dumps(what, default=lambda one: one.value), flush=True)


async def serve(engine_class: type[LLMEngine]) -> None:
    engine, config = await engine_class.from_args()
    say(worker=asdict(config), engine=asdict(await engine.start(7)))
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        if order.get("lose") == "context":
            ctypes.CDLL("libcuda.so.1").cuCtxSetCurrent(None)
            continue
        try:
            async for chunk in engine.generate(order, None):
                say(chunk=chunk)
            say(end="good")
        except Exception as error:
            say(end=str(error))
    await engine.cleanup()


def run(engine_class: type[LLMEngine]) -> None:
    asyncio.run(serve(engine_class))


def modules() -> dict[str, ModuleType]:
    """The package, by module name, for `sys.modules`."""
    backend = "dynamo.common.backend"
    contents: dict[str, list[Any]] = {
        "dynamo": [],
        "dynamo.common": [],
        "dynamo.common.constants": [DisaggregationMode],
        backend: [WorkerConfig, LlmRegistration, EngineConfig, LLMEngine],
        f"{backend}.run": [run],
        f"{backend}.disagg": [enforce_prefill_max_tokens, require_prefill_result],
        f"{backend}.health_check": [is_probe],
    }
    found = {name: ModuleType(name) for name in contents}
    for name, parts in contents.items():
        for part in parts:
            setattr(found[name], part.__name__, part)
    return found
