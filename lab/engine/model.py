# SPDX-License-Identifier: Apache-2.0
"""Writes the files that a model folder must have for the Dynamo frontend: tokenizer and config.

Usage: python -m lab.engine.model FOLDER. There are no weights; the engine needs none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .answer import ALPHABET, BEGIN, END, SPECIAL, UNKNOWN

CONTEXT = 4096
# The prompt is the last message and nothing else, so that the answer depends on it alone.
TEMPLATE = "{% for m in messages %}{% if loop.last %}{{ m['content'] }}{% endif %}{% endfor %}"


def tokenizer() -> dict[str, object]:
    """A word-level tokenizer whose words are single characters."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *ALPHABET])}
    added = [
        {
            "id": i,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, word in enumerate(SPECIAL)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[\\s\\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": SPECIAL[UNKNOWN]},
    }


def files() -> dict[str, dict[str, object]]:
    """The files of the folder by name."""
    config: dict[str, object] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(SPECIAL) + len(ALPHABET),
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "torch_dtype": "bfloat16",
    }
    tokenizer_config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BEGIN],
        "eos_token": SPECIAL[END],
        "unk_token": SPECIAL[UNKNOWN],
        "model_max_length": CONTEXT,
        "chat_template": TEMPLATE,
    }
    generation: dict[str, object] = {"bos_token_id": BEGIN, "eos_token_id": END}
    return {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": tokenizer_config,
        "config.json": config,
        "generation_config.json": generation,
    }


def main() -> None:
    """Write the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
