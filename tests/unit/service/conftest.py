# SPDX-License-Identifier: Apache-2.0
"""Makes the service importable, as it is in its image."""

from __future__ import annotations

import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TREE / "service"))
