# SPDX-License-Identifier: Apache-2.0
"""`python3 -m lab_engine`: the engine as a worker of the real Dynamo runtime."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator
from typing import Any

from dynamo.common.backend import EngineConfig, LLMEngine, LlmRegistration, WorkerConfig
from dynamo.common.backend.disagg import enforce_prefill_max_tokens, require_prefill_result
from dynamo.common.backend.health_check import is_probe
from dynamo.common.backend.run import run
from dynamo.common.constants import DisaggregationMode

from .answer import answer, decode, encode
from .cuda import CudaError, Gpu

log = logging.getLogger("lab_engine")
# What a prefill worker hands on: real engines send the place of their cache.
HANDOFF = {"handle": "lab-engine"}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what the operator sets in the environment is the default."""
    env = os.environ
    parser = argparse.ArgumentParser(prog="lab_engine", description=__doc__)
    parser.add_argument("--model-path", "--model", required=True, dest="model")
    parser.add_argument("--served-model-name", default="lab-model")
    parser.add_argument(
        "--disaggregation-mode",
        type=DisaggregationMode,
        default=DisaggregationMode.AGGREGATED,
        help="agg, prefill or decode",
    )
    parser.add_argument("--namespace", default=env.get("DYN_NAMESPACE", "dynamo"))
    parser.add_argument("--discovery-backend", default=env.get("DYN_DISCOVERY_BACKEND", "file"))
    parser.add_argument("--step-seconds", type=float, default=0.005, help="time of a decode step")
    parser.add_argument(
        "--dying-seconds",
        type=float,
        default=2.0,
        help="time between the first CUDA error and the end of the process",
    )
    return parser.parse_args(argv)


class LabEngine(LLMEngine):
    """Answers as `answer.answer` says, token by token through the GPU."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.gpu: Gpu | None = None
        self.death: CudaError | None = None

    @classmethod
    async def from_args(cls, argv: list[str] | None = None) -> tuple[LabEngine, WorkerConfig]:
        """The engine and how it registers."""
        args = parse(argv)
        # The operator gives the workers of one generation a namespace of their own by a suffix.
        suffix = os.environ.get("DYN_NAMESPACE_WORKER_SUFFIX")
        config = WorkerConfig(
            namespace=f"{args.namespace}-{suffix}" if suffix else args.namespace,
            component="prefill" if args.disaggregation_mode.value == "prefill" else "backend",
            model_name=args.model,
            served_model_name=args.served_model_name,
            discovery_backend=args.discovery_backend,
            request_plane="tcp",
            event_plane="zmq",
            disaggregation_mode=args.disaggregation_mode,
        )
        return cls(args), config

    async def start(self, worker_id: int) -> EngineConfig:
        """Take the GPU. A GPU that does not start ends the process, as a real engine does."""
        try:
            self.gpu = Gpu()
            self.gpu.step(0)
        except (OSError, CudaError) as error:
            log.critical("engine does not start: %s", error)
            os._exit(1)
        log.info("worker %s on %s GPU-%s", worker_id, self.gpu.name, self.gpu.uuid)
        registration = LlmRegistration(
            context_length=4096,
            kv_cache_block_size=16,
            total_kv_blocks=1024,
            max_num_seqs=64,
            max_num_batched_tokens=4096,
        )
        return EngineConfig(
            model=self.args.model,
            served_model_name=self.args.served_model_name,
            llm=registration,
        )

    async def generate(self, request: Any, context: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the answer's tokens; raises CudaError once the GPU has failed."""
        mode = self.args.disaggregation_mode
        if mode is DisaggregationMode.PREFILL:
            request = enforce_prefill_max_tokens(request)
        elif mode is DisaggregationMode.DECODE and not is_probe(request):
            require_prefill_result(request, mode)
        prompt = list(request["token_ids"])
        tokens = encode(answer(decode(prompt)))
        limit = (request.get("stop_conditions") or {}).get("max_tokens") or len(tokens)
        made = tokens[:limit]
        for number, token in enumerate(made, 1):
            chunk: dict[str, Any] = {"token_ids": [self.step(token)], "index": 0}
            if number == len(made):
                chunk["finish_reason"] = "stop" if limit >= len(tokens) else "length"
                if mode is DisaggregationMode.PREFILL:
                    chunk["disaggregated_params"] = HANDOFF
                chunk["completion_usage"] = {
                    "prompt_tokens": len(prompt),
                    "completion_tokens": number,
                    "total_tokens": len(prompt) + number,
                }
            yield chunk
            await asyncio.sleep(self.args.step_seconds)

    def step(self, token: int) -> int:
        """One decode step; the first CUDA error is the engine's death, some moments later."""
        if self.death:
            raise self.death
        assert self.gpu is not None
        try:
            return self.gpu.step(token)
        except CudaError as error:
            self.death = error
            log.critical("engine is dead: %s", error)
            # vLLM's core dies, its front fails what is in flight, then the process ends.
            asyncio.get_running_loop().call_later(self.args.dying_seconds, os._exit, 1)
            raise

    async def cleanup(self) -> None:
        """Nothing to give back: the driver takes all of it when the process ends."""


def main() -> None:
    """Serve."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    run(LabEngine)


if __name__ == "__main__":
    main()
