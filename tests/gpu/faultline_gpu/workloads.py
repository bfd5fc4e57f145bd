# SPDX-License-Identifier: Apache-2.0
"""Programs of the kinds that use a GPU. Each is one step that can be repeated, and its output.

Usage: workloads NAME once|loop

`once` runs two steps and prints {"digest": …}. `loop` repeats the step until it fails, and obeys
lines on stdin meanwhile: `genuine KIND` sets off a kernel that really faults; after the failure
`again` tries several things and `quit` ends. Prints one JSON object per line.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from faultline_service.layout import constants, number

from .driver import Driver
from .faults import Trap

Step = Callable[[], bytes]
STEPS = 2  # of `once`


def _torch() -> Any:
    import torch

    torch.manual_seed(7)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch


def _raw(tensor: Any) -> bytes:
    return bytes(tensor.detach().contiguous().cpu().view(-1).float().numpy().tobytes())


def direct() -> Step:
    """The driver alone, without any library above it: allocate, copy there, around, and back."""
    driver = Driver()
    driver.start()
    there, back = (ctypes.c_ubyte * 256)(*range(256)), (ctypes.c_ubyte * 256)()

    def step() -> bytes:
        pointer = driver.make("cuMemAlloc_v2", 512)
        driver.need("cuMemcpyHtoD_v2", pointer, there, 256)
        driver.need("cuMemcpyDtoD_v2", pointer + 256, pointer, 256)
        driver.need("cuMemcpyDtoH_v2", back, pointer + 256, 256)
        driver.need("cuMemFree_v2", pointer)
        return bytes(back)

    return step


def eager() -> Step:
    """Element-wise kernels, a reduction and a copy back, one by one."""
    torch = _torch()
    x = torch.randn(1024, 1024, device="cuda")
    return lambda: _raw((torch.nn.functional.gelu(x * 2 + 1).softmax(0) / 3).sum(1))


def compiled() -> Step:
    """The same through torch.compile: Triton kernels, a C launcher built on the spot."""
    torch = _torch()
    x = torch.randn(1024, 1024, device="cuda")
    run = torch.compile(lambda t: (torch.nn.functional.gelu(t * 2 + 1).softmax(1) / 3).sum(1))
    return lambda: _raw(run(x))


def graph() -> Step:
    """A CUDA graph of twenty kernels, replayed."""
    torch = _torch()
    x = torch.zeros(4096, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            x.add_(1)
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        for _ in range(20):
            x.mul_(1.01).add_(1)

    def step() -> bytes:
        x.zero_()
        captured.replay()
        return _raw(x)

    return step


def cublas() -> Step:
    """Matrix products in three precisions."""
    torch = _torch()
    kinds = (torch.float32, torch.bfloat16, torch.float16)
    pairs = [[torch.randn(512, 512, device="cuda").to(kind) for _ in "ab"] for kind in kinds]
    return lambda: b"".join(_raw(a @ b) for a, b in pairs)


def transformer() -> Step:
    """A small language model with random weights: a forward pass and eight greedy tokens."""
    torch = _torch()
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        layer = torch.nn.TransformerEncoderLayer(128, 4, 256, 0.0, batch_first=True)
        model = torch.nn.TransformerEncoder(layer, 2).cuda().eval()
        x = torch.randn(2, 16, 128, device="cuda")
        return lambda: _raw(model(x))
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        pad_token_id=0,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    language = LlamaForCausalLM(config).cuda().eval()
    prompt = torch.arange(1, 17, device="cuda")[None]

    def step() -> bytes:
        with torch.no_grad():
            logits = language(prompt).logits
            tokens = language.generate(
                prompt, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(prompt)
            )
        return _raw(logits) + _raw(tokens)

    return step


def cupy() -> Step:
    """CuPy: a kernel of its own, a reduction, a matrix product."""
    import cupy as cp

    x = cp.arange(512 * 512, dtype=cp.float32).reshape(512, 512) / 1e5
    return lambda: bytes(cp.asnumpy((cp.tanh(x) @ x).sum(axis=0)).tobytes())


def jax() -> Step:
    """JAX: one jitted function of XLA."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Else XLA chooses among kernels by measuring them, and their results differ in the last bits.
    os.environ.setdefault("XLA_FLAGS", "--xla_gpu_autotune_level=0")
    import jax as jx
    import jax.numpy as jnp
    import numpy as np

    if jx.default_backend() != "gpu":
        raise ImportError(f"JAX has no GPU here, only {jx.default_backend()}")
    x = jnp.arange(512 * 512, dtype=jnp.float32).reshape(512, 512) / 1e5
    run = jx.jit(lambda t: (jnp.tanh(t) @ t).sum(0))
    return lambda: bytes(np.asarray(run(x)).tobytes())


def nccl() -> Step:
    """An all-reduce of PyTorch over every GPU there is, two at most; this process is rank 0."""
    torch = _torch()
    import multiprocessing
    import tempfile

    world = min(2, torch.cuda.device_count())
    meet = f"file://{tempfile.mkdtemp(prefix='faultline-nccl-')}/meet"
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    for rank in range(1, world):
        other = multiprocessing.get_context("spawn").Process(target=_rank, args=(rank, world, meet))
        other.daemon = True
        other.start()
    return _member(torch, 0, world, meet)


def _member(torch: Any, rank: int, world: int, meet: str) -> Step:
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group("nccl", init_method=meet, rank=rank, world_size=world)
    x = torch.ones(1 << 16, device="cuda") * (rank + 1)

    def step() -> bytes:
        y = x.clone()
        torch.distributed.all_reduce(y)
        return _raw(y)

    return step


def _rank(rank: int, world: int, meet: str) -> None:
    """Another rank: as many steps as rank 0 makes."""
    step = _member(_torch(), rank, world, meet)
    for _ in range(STEPS) if sys.argv[2] == "once" else itertools.count():
        step()


WORKLOADS: dict[str, Callable[[], Step]] = {
    "direct": direct,
    "eager": eager,
    "compile": compiled,
    "graph": graph,
    "cublas": cublas,
    "transformer": transformer,
    "nccl": nccl,
    "cupy": cupy,
    "jax": jax,
}


def say(**line: Any) -> None:
    """One line of JSON on the real stdout."""
    os.write(1, json.dumps(line).encode() + b"\n")


SHIM = (
    "page_mapped",
    "hits",
    "missed",
    "pooled",
    "resolved",
    "latched_code",
    "genuine_launched",
    "genuine_refused",
)


def shim_state() -> dict[str, int] | None:
    """What the shim in this process knows of itself, None when there is none."""
    try:
        raw = (ctypes.c_char * constants()["STATE_SIZE"]).in_dll(
            ctypes.CDLL(None), "faultline_state"
        )
    except ValueError:
        return None
    return {name: number(bytes(raw), "state", name) for name in SHIM}


def told(error: BaseException) -> dict[str, Any]:
    """Type and text of an exception, and when it came."""
    return {"type": type(error).__name__, "text": str(error)[:2000], "ns": time.monotonic_ns()}


def loop(step: Step) -> None:
    """Repeat the step until it fails, or the driver refuses the shim's kernel; then try again."""
    driver = trap = None
    say(ready=hashlib.sha256(step()).hexdigest())
    while True:
        if select.select([0], [], [], 0)[0]:
            word, _, kind = sys.stdin.readline().strip().partition(" ")
            if word != "genuine":
                return
            driver = driver or Driver()
            driver.start()
            trap = trap or Trap(driver, kind)
            say(sprung=trap.spring(), ns=time.monotonic_ns())
        try:
            step()
        except Exception as error:
            say(failed=told(error), shim=shim_state())
            break
        state = shim_state()
        if state and state["genuine_refused"]:
            say(refused=state["genuine_refused"], shim=state)
            return
    for line in sys.stdin:
        if line.strip() != "again":
            return
        say(again=[attempt(step) for _ in range(3)])


def attempt(step: Step) -> dict[str, Any]:
    """One more step, which must fail too."""
    try:
        step()
    except Exception as error:
        return told(error)
    return {"type": None, "text": "it worked"}


def main() -> None:
    """Run one workload."""
    name, how = sys.argv[1:3]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        step = WORKLOADS[name]()
        if how == "once":
            digests = [hashlib.sha256(step()).hexdigest() for _ in range(STEPS)]
            if os.environ.get("FAULTLINE_COUNTS"):
                from . import counts

                say(counts=counts.snapshot())
            say(digest=digests[-1], first=digests[0], shim=shim_state())
        else:
            loop(step)
    except ImportError as error:
        say(absent=str(error))
    except Exception as error:
        say(error=told(error), trace=traceback.format_exc()[-3000:])
        sys.exit(3)


if __name__ == "__main__":
    main()
