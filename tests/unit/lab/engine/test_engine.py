# SPDX-License-Identifier: Apache-2.0
"""The engine as a worker: command line, chunks, and what becomes of it when its GPU dies."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import fake_dynamo
import pytest
import yaml
from driver_machine import GPUS, TREE, Machine

from lab.engine.answer import answer, decode, encode
from lab.engine.cuda import CudaError

PROMPT = "Request 1: are you there?"
ANSWER = encode(answer(PROMPT))
LOST = CudaError("cuCtxSynchronize", 719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure")
LIMIT = 60.0


class FakeGpu:
    """Gives every token back and counts; raises once `good` steps are done."""

    def __init__(self, good: int = 10**6) -> None:
        self.good = good
        self.steps = 0

    def step(self, token: int) -> int:
        self.steps += 1
        if self.steps > self.good:
            raise LOST
        return token


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The engine's module, with a `dynamo` that has no runtime."""
    for name, fake in fake_dynamo.modules().items():
        monkeypatch.setitem(sys.modules, name, fake)
    for name in [n for n in os.environ if n.startswith("DYN_")]:
        monkeypatch.delenv(name)
    yield importlib.import_module("lab.engine.__main__")
    del sys.modules["lab.engine.__main__"]


def engine(module: ModuleType, gpu: FakeGpu, *words: str) -> Any:
    made = module.LabEngine(module.parse(["--model=/m", "--step-seconds=0", *words]))
    made.gpu = gpu
    return made


def request(prompt: str = PROMPT, **stop: Any) -> dict[str, Any]:
    return {"token_ids": encode(prompt), "stop_conditions": stop}


async def collect(one: Any, order: dict[str, Any], into: list[dict[str, Any]]) -> None:
    async for chunk in one.generate(order, None):
        into.append(chunk)


def chunks(one: Any, order: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    asyncio.run(collect(one, order, found))
    return found


def worker(module: ModuleType, *words: str) -> Any:
    return asyncio.run(module.LabEngine.from_args(["--model-path=/m", *words]))[1]


def test_the_command_line_wins_over_what_the_operator_sets_in_the_environment(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = worker(module)
    assert (plain.namespace, plain.discovery_backend) == ("dynamo", "file")
    monkeypatch.setenv("DYN_NAMESPACE", "drill-agg")
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "kubernetes")
    by_operator = worker(module)
    assert (by_operator.namespace, by_operator.discovery_backend) == ("drill-agg", "kubernetes")
    by_hand = worker(module, "--namespace=mine", "--discovery-backend=mem")
    assert (by_hand.namespace, by_hand.discovery_backend) == ("mine", "mem")


def test_workers_of_one_generation_have_a_namespace_of_their_own(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYN_NAMESPACE", "drill-agg")
    monkeypatch.setenv("DYN_NAMESPACE_WORKER_SUFFIX", "1a2b3c4d")
    assert worker(module).namespace == "drill-agg-1a2b3c4d"


def test_the_labs_deployment_starts_an_engine_that_serves_what_the_check_asks_for(
    module: ModuleType,
) -> None:
    lab = yaml.safe_load((TREE / "inventories/lab/group_vars/all.yml").read_text())
    parts = lab["dgd_definition"]["spec"]["components"]
    decode_part = next(part for part in parts if part["type"] == "decode")
    arguments = decode_part["podTemplate"]["spec"]["containers"][0]["args"]
    assert module.parse(arguments).served_model_name == lab["inference_check_model"]


def test_without_a_model_the_command_line_is_refused(
    module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        module.parse([])
    assert refused.value.code == 2
    assert "--model" in capsys.readouterr().err


def test_every_token_goes_through_the_gpu_and_the_last_chunk_says_how_it_ended(
    module: ModuleType,
) -> None:
    gpu = FakeGpu()
    found = chunks(engine(module, gpu), request())
    assert [chunk["token_ids"] for chunk in found] == [[token] for token in ANSWER]
    assert gpu.steps == len(ANSWER)
    *rest, last = found
    assert all(chunk.keys() == {"token_ids", "index"} for chunk in rest)
    assert last["finish_reason"] == "stop"
    assert last["completion_usage"] == {
        "prompt_tokens": len(PROMPT),
        "completion_tokens": len(ANSWER),
        "total_tokens": len(PROMPT) + len(ANSWER),
    }


@pytest.mark.parametrize(
    ("limit", "tokens", "reason"),
    [(1, 1, "length"), (4, 4, "length"), (10, 10, "length"), (11, 11, "stop"), (99, 11, "stop")],
)
def test_an_answer_is_cut_at_the_longest_that_was_asked_for(
    module: ModuleType, limit: int, tokens: int, reason: str
) -> None:
    gpu = FakeGpu()
    found = chunks(engine(module, gpu), request(max_tokens=limit))
    assert len(found) == gpu.steps == tokens
    assert found[-1]["finish_reason"] == reason
    assert found[-1]["completion_usage"]["completion_tokens"] == tokens


@pytest.mark.parametrize("stop", [{"stop_conditions": None}, {"stop_conditions": {}}, {}])
def test_without_a_limit_the_answer_is_whole(module: ModuleType, stop: dict[str, Any]) -> None:
    found = chunks(engine(module, FakeGpu()), {"token_ids": encode(PROMPT), **stop})
    assert decode([token for chunk in found for token in chunk["token_ids"]]) == answer(PROMPT)


def test_a_cuda_error_fails_what_is_in_flight_and_all_that_comes_and_ends_the_process(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(good=5)
    dying = engine(module, gpu, "--dying-seconds=0.5")

    async def life() -> None:
        ended = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(os, "_exit", ended.set_result)
        streams: list[list[dict[str, Any]]] = [[], []]
        flights = [collect(dying, request(), stream) for stream in streams]
        begun = time.monotonic()
        errors = await asyncio.gather(*flights, return_exceptions=True)
        assert errors == [LOST, LOST]
        assert sum(map(len, streams)) == 5, "tokens that were made before are sent"
        assert not any("finish_reason" in chunk for stream in streams for chunk in stream)
        late: list[dict[str, Any]] = []
        with pytest.raises(CudaError, match="CUDA error 719"):
            await collect(dying, request(), late)
        assert late == []
        assert not ended.done(), "clients are told before the process ends"
        assert await asyncio.wait_for(ended, LIMIT) == 1
        assert time.monotonic() - begun >= 0.5

    asyncio.run(life())
    assert gpu.steps == 6, "a dead GPU is not asked again"


def test_an_engine_whose_gpu_fails_at_the_first_step_does_not_start(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Gpu", lambda: FakeGpu(good=0))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        asyncio.run(engine(module, FakeGpu()).start(7))
    assert ended.value.code == 1


MAIN = """
import sys, fake_dynamo
sys.modules.update(fake_dynamo.modules())
from lab.engine.__main__ import main
main()
"""
ENGINE = ("-c", MAIN, "--model-path=/m", "--dying-seconds=3", "--step-seconds=0")


class Worker:
    """A running engine on the driver stand-in."""

    def __init__(self, machine: Machine, **changes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *ENGINE],
            cwd=TREE,
            env=machine.environment(**changes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.registered = self.read()

    def read(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def send(self, order: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{json.dumps(order)}\n")
        self.process.stdin.flush()

    def ask(self) -> tuple[str, str]:
        """Text of an answer and how it ended."""
        self.send(request())
        tokens: list[int] = []
        while "chunk" in (line := self.read()):
            tokens += line["chunk"]["token_ids"]
        return decode(tokens), line["end"]


def test_an_engine_answers_through_the_driver_until_that_fails_and_then_ends_with_one(
    machine: Machine,
) -> None:
    worker = Worker(machine, NVIDIA_VISIBLE_DEVICES=GPUS[1].uuid, DYN_NAMESPACE="drill")
    try:
        assert worker.registered["worker"]["namespace"] == "drill"
        assert worker.registered["engine"]["served_model_name"] == "lab-model"
        assert worker.ask() == (answer(PROMPT), "good")
        worker.send({"lose": "context"})
        text, end = worker.ask()
        assert text == ""
        assert end.startswith("CUDA error 201 (CUDA_ERROR_INVALID_CONTEXT)")
        assert worker.ask() == ("", end)
        assert worker.process.wait(timeout=LIMIT) == 1
        _, log = worker.process.communicate()
        assert log.count("engine is dead: CUDA error 201") == 1
    finally:
        worker.process.kill()
        worker.process.communicate()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LD_LIBRARY_PATH": "/nowhere"}, "libcuda.so.1"),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, "CUDA error 100 (CUDA_ERROR_NO_DEVICE)"),
    ],
)
def test_an_engine_that_cannot_start_ends_with_one_and_says_why(
    machine: Machine, changes: dict[str, str], said: str
) -> None:
    done = machine.run(*ENGINE, **changes)
    assert done.returncode == 1
    assert "engine does not start" in done.stderr
    assert said in done.stderr
    assert done.stdout == ""


def test_a_prefill_worker_makes_one_token_and_hands_on(module: ModuleType) -> None:
    found = chunks(engine(module, FakeGpu(), "--disaggregation-mode=prefill"), request())
    assert [c["token_ids"] for c in found] == [[ANSWER[0]]]
    assert found[0]["disaggregated_params"] == module.HANDOFF
    assert worker(module, "--disaggregation-mode=prefill").component == "prefill"


def test_a_decode_worker_answers_only_what_a_prefill_worker_has_seen(module: ModuleType) -> None:
    one = engine(module, FakeGpu(), "--disaggregation-mode=decode")
    with pytest.raises(ValueError, match="no prefill_result"):
        chunks(one, request())
    handed_on = request() | {"prefill_result": {"disaggregated_params": module.HANDOFF}}
    assert [t for c in chunks(one, handed_on) for t in c["token_ids"]] == ANSWER
    # The runtime's own health probe goes to every worker alike.
    assert chunks(one, request() | {"probe": True})
