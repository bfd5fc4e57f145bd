# SPDX-License-Identifier: Apache-2.0
"""The lab's engine answers to the command lines of the backends that it stands in for."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec

from lab.engine.backends import MODEL, translate

TREE = Path(__file__).parents[4]
EXAMPLES = sorted((TREE / "tests/data/deployments").rglob("*.yaml"))


@pytest.mark.parametrize(
    ("backend", "words", "name", "mode"),
    [
        ("vllm", ["--model", "Org/M"], "Org/M", "agg"),
        ("vllm", ["--model=Org/M", "--served-model-name", "m"], "m", "agg"),
        ("vllm", ["--model", "Org/M", "--is-prefill-worker"], "Org/M", "prefill"),
        ("vllm", ["--model", "Org/M", "--is-decode-worker"], "Org/M", "decode"),
        ("vllm", ["--model", "Org/M", "--disaggregation-mode", "decode"], "Org/M", "decode"),
        ("sglang", ["--model-path", "Org/M", "--disaggregation-mode", "null"], "Org/M", "agg"),
        ("sglang", ["--model-path", "Org/M", "--tp", "2"], "Org/M", "agg"),
        (
            "trtllm",
            ["--model-path", "Org/M", "--disaggregation-mode", "prefill_and_decode"],
            "Org/M",
            "agg",
        ),
    ],
)
def test_model_name_and_part_are_those_of_the_backends_command_line(
    backend: str, words: list[str], name: str, mode: str
) -> None:
    assert translate(backend, words) == [
        f"--model-path={MODEL}",
        f"--served-model-name={name}",
        f"--disaggregation-mode={mode}",
    ]


def test_what_means_nothing_to_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    translate("sglang", ["--model-path", "m", "--tp", "2", "--page-size=16"])
    assert "takes no notice of: --tp 2 --page-size=16" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_without_a_model_it_does_not_start(backend: str) -> None:
    with pytest.raises(SystemExit):
        translate(backend, [])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: "-".join(p.parts[-3:]))
def test_every_example_deployment_starts_it_with_the_model_of_the_example(path: Path) -> None:
    spec = DeploymentSpec(path)
    for service in spec.worker_services():
        words = [word.value for word in service.command_line.words()]
        backend = next(w for w in words if w.startswith("dynamo.")).removeprefix("dynamo.")
        found = translate(backend, words[words.index(f"dynamo.{backend}") + 1 :])
        assert f"--served-model-name={service.served_model_name or service.model}" in found
        part = "prefill" if "prefill" in service.name.lower() else "agg"
        part = "decode" if "disagg" in path.name and part == "agg" else part
        assert f"--disaggregation-mode={part}" in found
