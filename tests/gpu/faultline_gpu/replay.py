# SPDX-License-Identifier: Apache-2.0
"""A stand-in for libcuda.so.1 whose functions answer as a healthy driver was seen to answer.

Each function returns the recorded code and writes to the parameters that the driver wrote to. What
it writes is not what the driver wrote: a record says only whether it was zero. One that crashed or
hung returns 0 and does nothing: it is called to make objects, too, with arguments that suit it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .signatures import Parameter, signatures

HEAD = """#include <string.h>
typedef unsigned long long word;
typedef struct { char bytes[64]; } blob;
static void put(word at, int value, int size) { if (at) memset((void *)at, value, (unsigned)size); }
"""
BLOBS = ("CUipcMemHandle", "CUipcEventHandle")
VALUE = 0x5A  # every byte of what is not zero


def _type(parameter: Parameter) -> str:
    """C type that is passed in the same way; all others are integers or pointers."""
    if parameter.type in BLOBS:
        return "blob"
    return "float" if parameter.type == "float" else "word"


def _write(name: str, position: int, parameter: Parameter, how: str) -> str:
    """A write of as many bytes as the shim expects where it is the one that asks."""
    if name == "cuDeviceGetCount":
        return f"*(int *)p{position} = 1;"
    size = 16 if parameter.pointee == "CUuuid" else 4
    return f"put(p{position}, {VALUE if how == 'value' else 0}, {size});"


def _function(name: str, result: Mapping[str, Any]) -> str:
    found = signatures()[name]
    parameters = ", ".join(f"{_type(one)} p{i}" for i, one in enumerate(found)) or "void"
    body = ""
    for i, one in enumerate(found):
        if how := result.get("written", {}).get(one.name):
            body += _write(name, i, one, how)
    return f"int {name}({parameters}) {{ {body} return {result.get('code', 0)}; }}"


def source(healthy: Mapping[str, Mapping[str, Any]]) -> str:
    """C source of the stand-in for the results of a healthy process, by function."""
    functions = [
        _function(name, result)
        for name, result in healthy.items()
        if result["outcome"] != "absent" and name in signatures()
    ]
    return HEAD + "\n".join(functions) + "\n"


def build(healthy: Mapping[str, Mapping[str, Any]], folder: Path) -> Path:
    """Build `folder`/libcuda.so.1 with gcc; returns its path."""
    text, library = folder / "replay.c", folder / "libcuda.so.1"
    text.write_text(source(healthy))
    flags = ("-w", "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
    subprocess.run(["gcc", *flags, "-o", str(library), str(text)], check=True)
    return library
