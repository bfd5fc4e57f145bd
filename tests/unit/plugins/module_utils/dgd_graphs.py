# SPDX-License-Identifier: Apache-2.0
"""Deployments to edit, of every version, backend and style of command; and where the files are."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec

FILES = Path(__file__).parents[3] / "data" / "deployments"
SCHEMAS = ("v1alpha1", "v1beta1")
BACKENDS = ("vllm", "sglang", "trtllm")
STYLES = ("list", "joined", "line", "script")
MATRIX = list(itertools.product(SCHEMAS, BACKENDS, STYLES))
MODEL = "Qwen/Qwen3-0.6B"

FLAGS = {
    "vllm": [("--model", MODEL), ("--max-model-len", "4096")],
    "sglang": [("--model-path", MODEL), ("--served-model-name", MODEL), ("--tp", "1")],
    "trtllm": [
        ("--model-path", MODEL),
        ("--served-model-name", MODEL),
        ("--override-engine-args", '{"max_batch_size": 8}'),
    ],
}

ALPHA = """\
# a header
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata:
  name: agg  # of the DGD
spec:
  services:
    Frontend:
      componentType: frontend
      extraPodSpec:
        mainContainer:
          image: registry.example/runtime:1.6.1

    # does the work
    decode:
      componentType: worker
      subComponentType: decode
      replicas: 2
      resources:
        limits:
          gpu: "1"
      extraPodSpec:
        mainContainer:
          image: registry.example/runtime:1.6.1  # pinned
{command}
# the end
"""

BETA = """\
# a header
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata:
  name: agg  # of the DGD
spec:
  components:
    - name: Frontend
      type: frontend
      podTemplate:
        spec:
          containers:
            - name: main
              image: registry.example/runtime:1.6.1

    # does the work
    - name: decode
      type: decode
      replicas: 2
      podTemplate:
        spec:
          containers:
            - name: main
              resources:
                limits:
                  nvidia.com/gpu: "1"
              image: registry.example/runtime:1.6.1  # pinned
{command}
# the end
"""


def command_of(backend: str, style: str) -> str:
    """`command` and `args` as YAML."""
    flags = FLAGS[backend]
    if style == "list":
        items = "".join(f"  - {flag}\n  - {_item(value)}\n" for flag, value in flags)
        return f"command: [python3, -m, dynamo.{backend}]\nargs:  # of the engine\n{items}"
    if style == "joined":
        items = "".join(f"  - {_item(f'{flag}={value}')}\n" for flag, value in flags)
        return f"command:\n  - python3\n  - -m\n  - dynamo.{backend}\nargs:\n{items}"
    words = [f"{flag} {_word(value)}" for flag, value in flags]
    if style == "line":
        text = " ".join([f'exec python3 -m dynamo.{backend} --log "$LEVEL"', *words])
        return f"command: [/bin/sh, -c]\nargs:\n  - >-\n    {text}\n"
    lines = [f'set -e; cd "$HOME"  # --model in a comment\npython3 -m dynamo.{backend}', *words]
    script = " \\\n  ".join(lines) + ' 2>&1 | tee "$LOG" &\nwait $!\n'
    return f"command: [bash, -ec]\nargs:\n  - |\n{textwrap.indent(script, '    ')}"


def _item(text: str) -> str:
    return f"'{text}'" if any(sign in text for sign in '{"') or text.isdigit() else text


def _word(text: str) -> str:
    return f"'{text}'" if " " in text else text


def graph_text(schema: str, backend: str = "vllm", style: str = "list") -> str:
    """A deployment with a frontend and a worker `decode`."""
    whole, depth = (ALPHA, 10) if schema == "v1alpha1" else (BETA, 14)
    command = textwrap.indent(command_of(backend, style), " " * depth)
    return whole.replace("{command}\n", command)


def opened(tmp_path: Path, text: str) -> DeploymentSpec:
    """A deployment from a file with this text."""
    path = tmp_path / "graph.yaml"
    path.write_bytes(text.encode())
    return DeploymentSpec(path)


def mapped(schema: str, change: Callable[[dict], Any] | None = None, **kind: str) -> DeploymentSpec:
    graph = yaml.safe_load(graph_text(schema, **kind))
    if change:
        change(graph)
    return DeploymentSpec.from_mapping(graph)


def worker(graph: dict) -> dict:
    """The mapping of the service `decode`."""
    spec = graph["spec"]
    return spec["services"]["decode"] if "services" in spec else spec["components"][1]


def main(graph: dict) -> dict:
    """The main container of `decode`."""
    service = worker(graph)
    if "podTemplate" in service:
        return service["podTemplate"]["spec"]["containers"][0]
    return service["extraPodSpec"]["mainContainer"]
