# SPDX-License-Identifier: Apache-2.0
"""The lab's engine behind the command lines of vLLM, SGLang and TensorRT-LLM workers of Dynamo.

`python3 -m dynamo.vllm --model …` in an image of the lab starts the lab's engine with the same
model name and the same part in disaggregated serving. Whatever else such a command line says
(parallelism, page sizes, engine files) means nothing to it, and it says so in its log.
"""

from __future__ import annotations

import argparse
import os
import sys

# Where the files are that a frontend needs of any model; there are no weights to choose.
MODEL = os.environ.get("FAULTLINE_LAB_MODEL", "/opt/faultline/model")
# Each engine's words for its part, as far as they are not those of Dynamo itself.
MODES = {"null": "agg", "prefill_and_decode": "agg"}


def translate(backend: str, argv: list[str]) -> list[str]:
    """Arguments for the lab's engine of those of a `backend` worker: vllm, sglang or trtllm.

    Raises SystemExit, as the real one does, when the model is missing.
    """
    parser = argparse.ArgumentParser(prog=f"dynamo.{backend}", description=__doc__)
    model = "--model" if backend == "vllm" else "--model-path"
    parser.add_argument(model, required=True, dest="model")
    parser.add_argument("--served-model-name")
    parser.add_argument("--disaggregation-mode", default="agg")
    if backend == "vllm":
        part = parser.add_mutually_exclusive_group()
        for mode in ("prefill", "decode"):
            flag = f"--is-{mode}-worker"
            part.add_argument(flag, action="store_const", const=mode, dest="disaggregation_mode")
    known, rest = parser.parse_known_args(argv)
    if rest:
        print(f"the lab's engine takes no notice of: {' '.join(rest)}", file=sys.stderr)
    mode = MODES.get(known.disaggregation_mode, known.disaggregation_mode)
    return [
        f"--model-path={MODEL}",
        f"--served-model-name={known.served_model_name or known.model}",
        f"--disaggregation-mode={mode}",
    ]


def main(backend: str) -> None:
    """Serve."""
    from .__main__ import main as serve

    sys.argv[1:] = translate(backend, sys.argv[1:])
    serve()
