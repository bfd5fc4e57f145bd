# SPDX-License-Identifier: Apache-2.0
"""Write tests/gpu/signatures.tsv: parameter types and names of every driver function of the list.

Usage: cuda_signatures.py FOLDER > tests/gpu/signatures.tsv, FOLDER holding the unpacked wheels
nvidia-cuda-runtime and nvidia-cuda-runtime-cu12. Needs gcc: cuda.h names the exported variants
(_v2, _ptsz) with macros, and its older ones only when asked. Functions of the graphics headers are
left out, they are not called. Run by hand, as cuda_symbols.py is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROTOTYPE = re.compile(r"CUresult\s+(cu\w+)\s*\(([^;{]*?)\)\s*;", re.DOTALL)
# Of cudaProfiler.h, which no wheel has.
PROFILER = {
    "cuProfilerInitialize": [
        "const char*:configFile",
        "const char*:outputFile",
        "CUoutput_mode:outputMode",
    ],
    "cuProfilerStart": [],
    "cuProfilerStop": [],
}
VIEWS = ((), ("-DCUDA_API_PER_THREAD_DEFAULT_STREAM",), ("-D__CUDA_API_VERSION_INTERNAL",))


def parameters(text: str) -> list[str]:
    """`type:name` of each parameter of a prototype's text."""
    found = []
    for one in text.split(","):
        words = re.sub(r"\s*([*]+)\s*", r"\1 ", " ".join(one.split())).strip()
        kind, _, name = words.rpartition(" ")
        if kind:  # else it is `void`
            found.append(f"{kind.replace('* *', '**')}:{name}")
    return found


def read(header: Path) -> dict[str, list[str]]:
    """Parameters by function of one cuda.h, in all its views."""
    found: dict[str, list[str]] = {}
    for flags in VIEWS:
        command = ["gcc", "-E", "-P", *flags, str(header)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found |= {name: parameters(rest) for name, rest in PROTOTYPE.findall(text)}
    return found


def main() -> None:
    """Print the table, sorted by name, for the names that data/cuda_symbols.txt knows."""
    tree = Path(__file__).resolve().parents[1]
    known: dict[str, list[str]] = dict(PROFILER)
    for header in sorted(Path(sys.argv[1]).rglob("cuda.h")):
        known |= read(header)
    names = [line.split()[0] for line in (tree / "data/cuda_symbols.txt").read_text().splitlines()]
    print("# Driver functions: name, then type:name of each parameter. By hack/cuda_signatures.py.")
    for name in names:
        if name in known:
            print("\t".join([name, *known[name]]))


if __name__ == "__main__":
    main()
