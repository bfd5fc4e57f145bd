# SPDX-License-Identifier: Apache-2.0
"""What the engine answers, and the model folder by which the frontend makes the same of a text."""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils import _requests as requests
from driver_machine import TREE

from lab.engine import model
from lab.engine.answer import ALPHABET, SPECIAL, answer, decode, encode

PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " \n"


def settings(path: str) -> Any:
    return yaml.safe_load((TREE / path).read_text())


def test_every_printable_character_and_line_break_is_one_token_and_comes_back() -> None:
    assert set(ALPHABET) == set(PRINTABLE)
    tokens = encode(PRINTABLE)
    assert len(tokens) == len(set(tokens)) == len(PRINTABLE)
    assert min(tokens) == len(SPECIAL)
    assert decode(tokens) == PRINTABLE


def test_other_characters_become_the_unknown_token_which_means_nothing() -> None:
    assert encode("aä\t€") == [*encode("a"), 0, 0, 0]
    assert decode([0, 1, 2, *encode("a"), len(SPECIAL) + len(ALPHABET), -1]) == "a"


def test_an_answer_is_known_beforehand_and_another_for_another_prompt() -> None:
    assert answer("1+1?") == "fl-cfe29f43"
    assert answer("1+2?") != answer("1+1?")


@pytest.mark.parametrize("prompt", ["Request 1: are you there?", "", "two\nlines"])
def test_the_check_of_the_lab_takes_the_engines_answer_for_a_good_one(prompt: str) -> None:
    expected = settings("inventories/lab/group_vars/all.yml")["inference_check_expect"]
    pattern = requests.expected_pattern(expected, prompt)
    assert pattern.fullmatch(answer(prompt))
    assert not pattern.fullmatch(answer(f"{prompt} "))
    assert not pattern.fullmatch(answer(prompt)[:-1])


def test_the_answer_fits_into_the_tokens_that_a_check_asks_for() -> None:
    limit = settings("roles/inference_check/defaults/main.yml")["inference_check_max_tokens"]
    assert len(encode(answer("any"))) <= limit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as the image gets it."""
    made = tmp_path_factory.mktemp("model") / "new/folder"
    subprocess.run([sys.executable, "-m", "lab.engine.model", made], cwd=TREE, check=True)
    return made


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_the_folder_has_what_the_frontend_reads_and_nothing_else(folder: Path) -> None:
    names = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in folder.iterdir()} == names


def test_the_tokenizer_makes_of_a_text_what_the_engine_reads(folder: Path) -> None:
    tokenizer = read(folder, "tokenizer.json")
    words = tokenizer["model"]["vocab"]
    assert tokenizer["model"]["type"] == "WordLevel"
    assert tokenizer["pre_tokenizer"]["behavior"] == "Isolated"
    split = re.compile(tokenizer["pre_tokenizer"]["pattern"]["Regex"])
    unknown = words[tokenizer["model"]["unk_token"]]
    text = f"{PRINTABLE}€"
    assert [words.get(word, unknown) for word in split.findall(text)] == encode(text)
    assert tokenizer["decoder"] == {"type": "Fuse"}, "characters are joined without spaces"


def test_special_tokens_have_the_same_numbers_in_every_file(folder: Path) -> None:
    tokenizer = read(folder, "tokenizer.json")
    config, named = read(folder, "config.json"), read(folder, "tokenizer_config.json")
    generation = read(folder, "generation_config.json")
    words = tokenizer["model"]["vocab"]
    assert {t["content"]: t["id"] for t in tokenizer["added_tokens"]} == {
        word: words[word] for word in SPECIAL
    }
    assert all(token["special"] for token in tokenizer["added_tokens"])
    assert sorted(words.values()) == list(range(config["vocab_size"]))
    for end in ("bos", "eos"):
        number = words[named[f"{end}_token"]]
        assert config[f"{end}_token_id"] == generation[f"{end}_token_id"] == number
    assert config["max_position_embeddings"] == named["model_max_length"] == model.CONTEXT


def test_the_prompt_is_the_last_message_and_nothing_else(folder: Path) -> None:
    template = jinja2.Template(read(folder, "tokenizer_config.json")["chat_template"])
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Request 1:\nare you there? "},
    ]
    assert template.render(messages=messages) == " Request 1:\nare you there? "
