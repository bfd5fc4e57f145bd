# SPDX-License-Identifier: Apache-2.0
"""Flags of a command line: found and changed without touching what stands around them."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_command import CommandLine
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError


def line(container: dict) -> CommandLine:
    return CommandLine(container, (), "service x")


def scripted(script: str) -> dict:
    return {"command": ["/bin/bash", "-c"], "args": [script]}


def after(script: str, flag: str, value: str | None) -> str:
    """The script after a flag was set in it."""
    container = scripted(script)
    line(container).set(flag, value)
    assert container["command"] == ["/bin/bash", "-c"]
    return container["args"][0]


# Each script with --model set to `new`.
MODELS = [
    ("python3 -m dynamo.vllm --model old", "python3 -m dynamo.vllm --model new"),
    ("dynamo.vllm --model=old --x", "dynamo.vllm --model=new --x"),
    ("dynamo.vllm --model 'old one' --x", "dynamo.vllm --model 'new' --x"),
    ('dynamo.vllm --model "$MODEL" "$@"', 'dynamo.vllm --model "new" "$@"'),
    ('dynamo.vllm --model="$M" --y', 'dynamo.vllm --model="new" --y'),
    ('dynamo.vllm "--model=old"', "dynamo.vllm --model=new"),
    ("dynamo.vllm --model $(cat /m | head -1) --x", "dynamo.vllm --model new --x"),
    ("dynamo.vllm --model `cat /m` --x", "dynamo.vllm --model new --x"),
    ("dynamo.vllm --model ${M:-old} --x", "dynamo.vllm --model new --x"),
    ("dynamo.vllm --model", "dynamo.vllm --model new"),
    ("dynamo.vllm --model --x", "dynamo.vllm --model new --x"),
    ("dynamo.vllm --model old; echo done", "dynamo.vllm --model new; echo done"),
    ("dynamo.vllm --model old& wait", "dynamo.vllm --model new& wait"),
    ("(dynamo.vllm --model old)", "(dynamo.vllm --model new)"),
    ("dynamo.vllm --model a --model old", "dynamo.vllm --model a --model new"),
    ("dynamo.vllm \\\n\t--model old\\\n\t--x", "dynamo.vllm \\\n\t--model new\\\n\t--x"),
    (
        "echo --model a # --model b\ndynamo.vllm --model old # --model c",
        "echo --model a # --model b\ndynamo.vllm --model new # --model c",
    ),
    ("serve.py --model old", "serve.py --model new"),
    (
        "set -e; cd /w && serve.py --model old | tee x",
        "set -e; cd /w && serve.py --model new | tee x",
    ),
]


@pytest.mark.parametrize(("script", "expected"), MODELS)
def test_in_a_script_only_the_value_changes(script: str, expected: str) -> None:
    assert after(script, "--model", "new") == expected
    assert after(expected, "--model", "new") == expected
    assert line(scripted(expected)).get("--model") == "new"


# Each script with --a b added.
ADDITIONS = [
    ("dynamo.vllm", "dynamo.vllm --a b"),
    ("dynamo.vllm --x 1\n", "dynamo.vllm --x 1 --a b\n"),
    ("dynamo.vllm --x > /log 2>&1", "dynamo.vllm --x --a b > /log 2>&1"),
    ("dynamo.vllm --x 2>&1 | tee /log", "dynamo.vllm --x --a b 2>&1 | tee /log"),
    ("dynamo.vllm &>/log &", "dynamo.vllm --a b &>/log &"),
    (
        "dynamo.vllm &\np=$!; trap 'kill $p' TERM; wait",
        "dynamo.vllm --a b &\np=$!; trap 'kill $p' TERM; wait",
    ),
    ("sleep 1 && exec python3 -m dynamo.vllm", "sleep 1 && exec python3 -m dynamo.vllm --a b"),
    ("X=1 dynamo.vllm --x # why", "X=1 dynamo.vllm --x --a b # why"),
    ("dynamo.vllm \\\n  --x 1 \\\n  --y 2\n", "dynamo.vllm \\\n  --x 1 \\\n  --y 2 \\\n  --a b\n"),
    ("if true; then dynamo.vllm --x; fi", "if true; then dynamo.vllm --x --a b; fi"),
]


@pytest.mark.parametrize(("script", "expected"), ADDITIONS)
def test_a_new_flag_goes_behind_the_engines_own(script: str, expected: str) -> None:
    assert after(script, "--a", "b") == expected


def test_a_new_flag_goes_to_the_one_command_that_has_flags() -> None:
    assert after("prepare; serve --z 1; echo", "--a", "b") == "prepare; serve --z 1 --a b; echo"


def test_a_new_flag_goes_nowhere_when_it_is_not_known_where() -> None:
    with pytest.raises(FaultlineError, match="Where in the script of service x does --a belong"):
        after("one --z; two --z", "--a", "b")


@pytest.mark.parametrize("value", ["a b", "it's", '{"a": "b c"}', "$HOME", "`id`", "a\\b", "", "é"])
@pytest.mark.parametrize(
    "before", ["", " --v old", " --v 'old'", ' --v "$OLD"', " --v=old", ' --v="o"']
)
def test_a_shell_gives_the_engine_the_very_value(value: str, before: str) -> None:
    script = after(f"printf '%s\\n' dynamo.vllm{before}", "--v", value)
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    given = done.stdout.removeprefix("dynamo.vllm\n").removesuffix("\n")
    assert given in (f"--v\n{value}", f"--v={value}")
    assert line(scripted(script)).get("--v") == value


def test_a_flag_without_value_is_added_once() -> None:
    once = after("dynamo.vllm --x", "--eager", None)
    assert once == "dynamo.vllm --x --eager"
    assert after(once, "--eager", None) == once


@pytest.mark.parametrize(
    ("command", "is_script"),
    [
        (["sh", "-c"], True),
        (["/bin/bash", "-lc"], True),
        (["/usr/bin/bash", "-e", "-c"], True),
        (["bash"], False),
        (["python3", "-c"], False),
        (["tini", "--"], False),
    ],
)
def test_a_script_is_what_a_shell_gets_with_c(command: list[str], is_script: bool) -> None:
    container = {"command": command, "args": ["dynamo.vllm --model a"]}
    assert line(container).get("--model") == ("a" if is_script else None)


def test_a_script_may_stand_in_the_command() -> None:
    container = {"command": ["sh", "-c", "exec dynamo.vllm --model a", "name"]}
    line(container).set("--model", "b")
    line(container).set("--x")
    assert container == {"command": ["sh", "-c", "exec dynamo.vllm --model b --x", "name"]}


def test_flags_may_stand_in_the_command_and_new_ones_go_to_args() -> None:
    container = {"command": ["dynamo.vllm", "--model", "a"]}
    line(container).set("--model", "b")
    line(container).set("--x", "1")
    assert container == {"command": ["dynamo.vllm", "--model", "b"], "args": ["--x", "1"]}


@pytest.mark.parametrize(
    ("args", "flag", "value", "expected"),
    [
        (["--a", "1"], "--a", "2", ["--a", "2"]),
        (["--a=1", "--b"], "--a", "2", ["--a=2", "--b"]),
        (["--a", "--b"], "--a", "2", ["--a", "2", "--b"]),
        (["--a", "-1"], "--a", "-2", ["--a", "-2"]),
        (["--ab", "1"], "--a", "2", ["--ab", "1", "--a", "2"]),
        (["--a", "1"], "--a", None, ["--a", "1"]),
        ([], "--a", "$X y", ["--a", "$X y"]),
    ],
)
def test_flags_of_a_list(
    args: list[str], flag: str, value: str | None, expected: list[str]
) -> None:
    container = {"command": ["dynamo.vllm"], "args": args}
    for _twice in range(2):
        line(container).set(flag, value)
        assert container["args"] == expected


def test_a_word_with_spaces_in_a_list_is_no_flag() -> None:
    container = {"args": ["--model a"]}
    assert not line(container).has("--model")
    assert str(line(container)) == shlex.quote("--model a")


def test_args_that_are_no_list_are_a_sentence() -> None:
    with pytest.raises(FaultlineError, match="`args` of service x must be a list of texts"):
        line({"args": "--model a"})


def test_a_quote_that_is_not_closed_ends_what_is_understood() -> None:
    container = scripted("dynamo.vllm --model a; echo 'b --model c")
    assert line(container).get("--model") == "a"
