# SPDX-License-Identifier: Apache-2.0
"""The CRDs as text, for the manifest that the cluster gets. Long repeated parts become YAML
anchors."""

from __future__ import annotations

import json
from typing import Any

import yaml

from lab.operator.crds import all_crds

HEADER = """# SPDX-License-Identifier: Apache-2.0
# Made by `python3 -m lab.operator crds`; a test compares. The stand-in's CRDs, not NVIDIA's.
"""
WORTH_AN_ANCHOR = 300


class _Dumper(yaml.SafeDumper):
    """Anchors only for parts that are long enough to be worth one."""

    def ignore_aliases(self, data: Any) -> bool:
        return bool(super().ignore_aliases(data)) or len(json.dumps(data)) < WORTH_AN_ANCHOR


def crd_text() -> str:
    """All CRDs as YAML documents."""
    parts = [
        "---\n" + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=110) for crd in all_crds()
    ]
    return HEADER + "".join(parts)
