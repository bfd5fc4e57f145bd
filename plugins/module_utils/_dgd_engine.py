# SPDX-License-Identifier: Apache-2.0
"""What the engines call the same things on their command lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ._dgd_command import CommandLine
from ._errors import FaultlineError

MODEL_FLAGS = ("--model", "--model-path")
NAME_FLAGS = ("--served-model-name", "--model-name")
# The first is the one to add. TensorRT-LLM takes its size from an engine file, over which only the
# override counts; its flag is kept in step where somebody has written it.
TP_FLAGS = {
    "vllm": ("--tensor-parallel-size", "-tp"),
    "sglang": ("--tp", "--tp-size", "--tensor-parallel-size"),
    "trtllm": ("--tensor-parallel-size",),
}
ENGINE_FILE, OVERRIDE = "--extra-engine-args", "--override-engine-args"
TP_KEY = "tensor_parallel_size"
BACKENDS = (*TP_FLAGS, "mocker")
UNKNOWN = "unknown"


def set_model(line: CommandLine, model: str) -> None:
    """Set every flag that is there and names the model or the name that it is served by.

    A served name of the model before would answer for another one: clients ask by name.
    """
    for flag in (*MODEL_FLAGS, *NAME_FLAGS):
        if line.has(flag):
            line.set(flag, model)


def override(line: CommandLine) -> dict[str, Any]:
    """TensorRT-LLM's overrides of its engine file. Raises FaultlineError if they are no JSON."""
    given = line.get(OVERRIDE)
    try:
        found = json.loads(given or "{}")
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise FaultlineError(
            f"{OVERRIDE} of {line.owner} is no JSON object: {given!r}. Correct it first."
        )
    return dict(found)


def tensor_parallel(line: CommandLine, backend: str) -> int | None:
    """Tensor parallel size of a command line, 1 when it says none.

    None when it cannot be known: no engine of which the flag is known, or TensorRT-LLM with an
    engine file inside the image and no override of it.
    """
    if backend not in TP_FLAGS:
        return None
    value: Any = line.get(*TP_FLAGS[backend])
    if backend == "trtllm":
        overrides = override(line)
        if TP_KEY not in overrides and line.has(ENGINE_FILE):
            return None
        value = overrides.get(TP_KEY, value)
    try:
        return int(1 if value is None else value)
    except (TypeError, ValueError):
        raise FaultlineError(
            f"The tensor parallel size of {line.owner} is {value!r}: expected a whole number."
        ) from None


def set_tensor_parallel(line: CommandLine, backend: str, size: int) -> None:
    """Set the tensor parallel size in the engine's own way."""
    flags = TP_FLAGS[backend]
    given = [flag for flag in flags if line.has(flag)]
    if backend == "trtllm":
        overrides = override(line)
        if overrides.get(TP_KEY) != size:
            line.set(OVERRIDE, json.dumps({**overrides, TP_KEY: size}))
    elif not given:
        given = [flags[0]]
    for flag in given:
        line.set(flag, str(size))
