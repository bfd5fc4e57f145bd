# SPDX-License-Identifier: Apache-2.0
"""The stand-in for the driver's GPU, and what the files of results must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from faultline_gpu.faults import FAULTS

TREE = Path(__file__).resolve().parents[3]
TRAP = FAULTS["trap"]
GPU = "GPU-11111111-2222-3333-4444-555555555555"
SCHEMA = json.loads((TREE / "tests/gpu/results.schema.json").read_text())


def fits(name: str, content: Any) -> None:
    """Raise ValidationError when `content` is not what NAME.json is to be."""
    jsonschema.validate(json.loads(json.dumps(content)), SCHEMA | {"$ref": f"#/$defs/{name}"})
