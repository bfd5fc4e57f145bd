# SPDX-License-Identifier: Apache-2.0
"""What the engine relies on in a CUDA driver, asked of the stand-in."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from driver_machine import GPUS, TREE, Machine

FIRST, SECOND = (gpu.uuid for gpu in GPUS)
WHICH = "gpu = Gpu(); answer = [gpu.name, gpu.uuid]"
ERROR = """
try:
    Gpu()
    answer = None
except CudaError as error:
    answer = [error.code, str(error)]
"""
NO_DEVICE = "CUDA error 100 (CUDA_ERROR_NO_DEVICE): no CUDA-capable device is detected"


def digits(uuid: str) -> str:
    return uuid.removeprefix("GPU-").replace("-", "")


def test_every_token_comes_back_from_the_gpu(machine: Machine) -> None:
    tokens = [*range(99), 2**31, 2**32 - 1]
    assert machine.ask(f"gpu = Gpu(); answer = [gpu.step(t) for t in {tokens}]") == tokens


@pytest.mark.parametrize("skipped", ["cuLaunchKernel", "cuMemcpyDtoH_v2"])
def test_a_step_that_was_not_done_leaves_nothing_that_looks_like_the_token(
    machine: Machine, skipped: str
) -> None:
    code = f"""
gpu = Gpu()
call = gpu.call
gpu.call = lambda name, *rest: None if name == "{skipped}" else call(name, *rest)
answer = [gpu.step(7) for _ in range(50)]
"""
    assert 7 not in machine.ask(code)


@pytest.mark.parametrize(
    ("environment", "uuid"),
    [
        ({}, FIRST),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, FIRST),
        ({"NVIDIA_VISIBLE_DEVICES": FIRST}, FIRST),
        ({"NVIDIA_VISIBLE_DEVICES": SECOND}, SECOND),
        ({"NVIDIA_VISIBLE_DEVICES": f"{SECOND},{FIRST}"}, SECOND),
        ({"NVIDIA_VISIBLE_DEVICES": "1"}, SECOND),
        ({"CUDA_VISIBLE_DEVICES": "1"}, SECOND),
        ({"NVIDIA_VISIBLE_DEVICES": SECOND, "CUDA_VISIBLE_DEVICES": "0"}, SECOND),
        ({"NVIDIA_VISIBLE_DEVICES": f"{SECOND},{FIRST}", "CUDA_VISIBLE_DEVICES": FIRST}, FIRST),
    ],
)
def test_a_process_gets_the_gpu_that_its_container_was_given(
    machine: Machine, environment: dict[str, str], uuid: str
) -> None:
    assert machine.ask(WHICH, **environment) == [GPUS[0].name, digits(uuid)]


@pytest.mark.parametrize(("visible", "count"), [(FIRST, 1), (f"{FIRST},{SECOND}", 2)])
def test_only_visible_gpus_are_counted_and_another_ordinal_is_invalid(
    machine: Machine, visible: str, count: int
) -> None:
    code = f"""
cuda, found = Gpu().cuda, ctypes.c_int()
answer = [cuda.cuDeviceGetCount(ctypes.byref(found)), found.value]
answer += [cuda.cuDeviceGet(ctypes.byref(found), ordinal) for ordinal in ({count - 1}, {count})]
"""
    assert machine.ask(code, NVIDIA_VISIBLE_DEVICES=visible) == [0, count, 0, 101]


@pytest.mark.parametrize(
    "environment",
    [
        {"NVIDIA_VISIBLE_DEVICES": "GPU-00000000-0000-0000-0000-000000000000"},
        {"NVIDIA_VISIBLE_DEVICES": "void"},
        {"NVIDIA_VISIBLE_DEVICES": FIRST, "CUDA_VISIBLE_DEVICES": SECOND},
        {"CUDA_VISIBLE_DEVICES": ""},
        {"FAULTLINE_LAB_GPUS": "/nowhere/gpus.tsv"},
    ],
)
def test_a_process_without_a_gpu_is_told_so_at_the_first_call(
    machine: Machine, environment: dict[str, str]
) -> None:
    assert machine.ask(ERROR, **environment) == [100, f"{NO_DEVICE}, returned by cuInit"]


CODES = """
cuda, value, text = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_char_p()
pointer = ctypes.byref(value)
answer = {}
"""


def test_nothing_works_before_the_driver_is_initialized(machine: Machine) -> None:
    code = f"""{CODES}
answer["init with flags"] = cuda.cuInit(1)
answer["count"] = cuda.cuDeviceGetCount(pointer)
answer["get"] = cuda.cuDeviceGet(pointer, 0)
answer["retain"] = cuda.cuDevicePrimaryCtxRetain(pointer, 0)
"""
    assert machine.ask(code) == {"init with flags": 1, "count": 3, "get": 3, "retain": 3}


def test_a_thread_without_a_context_gets_an_error_instead_of_a_token(machine: Machine) -> None:
    code = f"""{CODES}
import threading
gpu = Gpu()
def step():
    try:
        gpu.step(1)
    except CudaError as error:
        answer["error"] = str(error)
thread = threading.Thread(target=step)
thread.start(); thread.join()
answer["here"] = gpu.step(1)
"""
    said = "CUDA error 201 (CUDA_ERROR_INVALID_CONTEXT): invalid device context"
    assert machine.ask(code) == {"error": f"{said}, returned by cuMemAlloc_v2", "here": 1}


def test_only_ptx_with_the_one_kernel_there_is_loads(machine: Machine) -> None:
    code = f"""{CODES}
gpu = Gpu()
answer["no ptx"] = cuda.cuModuleLoadData(pointer, b"hello")
answer["other kernel"] = cuda.cuModuleLoadData(pointer, PTX.replace(b"_step(", b"_leap("))
answer["ptx"] = cuda.cuModuleLoadData(pointer, PTX)
answer["other name"] = cuda.cuModuleGetFunction(pointer, value, b"faultline_token_leap")
"""
    expected = {"no ptx": 200, "other kernel": 801, "ptx": 0, "other name": 500}
    assert machine.ask(code) == expected


def described(machine: Machine, codes: list[int]) -> list[Any]:
    found: list[Any] = machine.ask(f"answer = [Gpu().describe(code) for code in {codes}]")
    return found


def test_errors_have_the_names_and_texts_of_a_real_driver(machine: Machine) -> None:
    assert described(machine, [0, 214, 719, 999, 12345]) == [
        ["CUDA_SUCCESS", "no error"],
        ["CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"],
        ["CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"],
        ["CUDA_ERROR_UNKNOWN", "unknown error"],
        ["unknown", "unknown"],
    ]


def test_every_code_that_a_fault_can_inject_has_a_name_and_a_text(machine: Machine) -> None:
    data = yaml.safe_load((TREE / "data/xid_profiles.yml").read_text())
    rows = [data["default"], *data["profiles"]]
    codes = {row[key] for row in rows for key in ("live_code", "new_context_code")}
    codes |= {row["live_code_before"]["code"] for row in rows if "live_code_before" in row}
    assert len(codes) > 5
    for code, (name, text) in zip(codes, described(machine, list(codes)), strict=True):
        assert name.startswith("CUDA_"), code
        assert text != "unknown", code
