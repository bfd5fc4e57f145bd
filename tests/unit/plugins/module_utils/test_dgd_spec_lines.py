# SPDX-License-Identifier: Apache-2.0
"""An edit of a text in somebody else's style changes the lines that it must and no other."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest
import yaml
from dgd_graphs import SCHEMAS, graph_text, opened

# What ruamel.yaml alone would write in another way, each in the lines that no edit touches.
ODDITIES = {
    "spaces before a colon's value": ("kind: D", "kind:     D"),
    "an aligned comment": ("agg  # of", "agg        # of"),
    "spaces in brackets": ("[python3, -m, dynamo.vllm]", "[ python3,  -m, dynamo.vllm ]"),
    "a tilde": ("metadata:\n", "metadata:\n  annotations: ~\n"),
    "null": ("metadata:\n", "metadata:\n  labels: null\n"),
    "a text over two lines": ("metadata:\n", 'metadata:\n  x: "one\n    two"\n'),
    "spaces at a line's end": ("metadata:\n", "metadata:  \n"),
    "a comment in another column": ("    # does", "# does"),
    "a number with zeros": ("metadata:\n", "metadata:\n  x: 007\n"),
    "comments at and below a block in a list": (
        "metadata:\n",
        "metadata:\n  x:\n    - |  # at\n      text\n\n    # below\n    - b\n",
    ),
}


@pytest.mark.parametrize("odd", ODDITIES)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_lines_that_no_edit_touches_stay(schema: str, odd: str, tmp_path: Path) -> None:
    old, new = ODDITIES[odd]
    text = graph_text(schema).replace(old, new, 1)
    assert new in text
    spec = opened(tmp_path, text)
    spec.set_model("org/new")
    spec.set_tensor_parallel(2)
    spec.set_logging()
    changes = [
        d for d in difflib.ndiff(text.splitlines(), spec.text().splitlines()) if d[0] in "+-"
    ]
    gpu = "gpu" if schema == "v1alpha1" else "nvidia.com/gpu"
    assert [d[1:].strip() for d in changes if d[0] == "-"] in (
        [f'{gpu}: "1"', "- Qwen/Qwen3-0.6B"],
        ["- Qwen/Qwen3-0.6B", f'{gpu}: "1"'],
    )
    assert sorted(d[1:].strip() for d in changes if d[0] == "+") == sorted(
        [
            f'{gpu}: "2"',
            "- org/new",
            "- --tensor-parallel-size",
            '- "2"',
            "envs:" if schema == "v1alpha1" else "env:",
            "- name: DYN_LOGGING_JSONL",
            'value: "true"',
            "- name: DYN_LOG",
            "value: debug",
        ]
    )


def test_comments_at_and_below_an_edited_block_in_a_list_stay(tmp_path: Path) -> None:
    text = graph_text("v1beta1", "vllm", "script")
    text = text.replace("- |\n", "- |  # the script\n").replace("# the end", "# below it")
    spec = opened(tmp_path, text)
    spec["decode"].set_arg("--max-model-len", "8192")
    assert spec.text() == text.replace("4096", "8192")


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_end_of_a_file_stays(end: str, tmp_path: Path) -> None:
    text = graph_text("v1beta1").rstrip("\n") + end
    spec = opened(tmp_path, text)
    spec.set_model("org/new")
    assert spec.text() == text.replace("Qwen/Qwen3-0.6B", "org/new")


def test_a_mark_at_the_begin_of_a_file_stays(tmp_path: Path) -> None:
    text = "\ufeff" + graph_text("v1beta1")
    spec = opened(tmp_path, text)
    spec.set_model("org/new")
    assert spec.text() == text.replace("Qwen/Qwen3-0.6B", "org/new")


def test_dashes_in_a_text_are_no_end_of_a_document(tmp_path: Path) -> None:
    text = graph_text("v1beta1").replace("metadata:\n", "metadata:\n  x: |\n    ---\n    y\n")
    spec = opened(tmp_path, f"--- # first\n{text}")
    spec.set_model("org/new")
    assert spec.text() == f"--- # first\n{text}".replace("Qwen/Qwen3-0.6B", "org/new")


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
def test_json_stays_json(indent: int | None, tmp_path: Path) -> None:
    graph = yaml.safe_load(graph_text("v1beta1")) | {"x": "ä"}
    text = json.dumps(graph, indent=indent, ensure_ascii=False) + "\n"
    spec = opened(tmp_path, text)
    spec.set_model("org/new")
    spec.set_service_env_var("decode", "A", "1")
    assert json.loads(spec.text()) == spec.spec()
    expected = json.dumps(spec.spec(), indent=indent, ensure_ascii=False) + "\n"
    assert spec.text() == expected
    assert "org/new" in expected
