#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A thousand steps of the lab's engine on this machine's GPU: `python3 tests/gpu/engine_step.py`.

Needs python3 and libcuda.so.1, nothing else. Prints one JSON object about the GPU and the time of a
step; exits with 0 only when every token came back as it was sent.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.engine.cuda import CudaError, Gpu

STEPS = 1000


def driver_version() -> str | None:
    """Version of the kernel driver as NVML says it, None where there is no NVML."""
    text = ctypes.create_string_buffer(80)
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(text, 80):
        return None
    return text.value.decode()


def main() -> None:
    """Measure; raises SystemExit with a sentence when the GPU fails or computes wrongly."""
    # Multiples of a large odd number: every bit of a token changes on its way.
    tokens = [number * 2654435761 % 2**32 for number in range(STEPS)]
    try:
        gpu = Gpu()
        begun = time.perf_counter()
        made = [gpu.step(token) for token in tokens]
        seconds = time.perf_counter() - begun
    except (OSError, CudaError) as error:
        raise SystemExit(f"The GPU did not do {STEPS} steps: {error}") from error
    wrong = [(tokens[i], got) for i, got in enumerate(made) if got != tokens[i]]
    if wrong:
        sent, got = wrong[0]
        raise SystemExit(
            f"{len(wrong)} of {STEPS} tokens are wrong, the first: {got} instead of {sent}."
        )
    result = {
        "device": gpu.name,
        "uuid": f"GPU-{uuid.UUID(gpu.uuid)}",
        "driver_version": driver_version(),
        "steps": STEPS,
        "seconds": round(seconds, 6),
        "microseconds_per_step": round(seconds / STEPS * 1e6, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
