# SPDX-License-Identifier: Apache-2.0
"""The ten phases of a drill, noted in a run's record while a test goes through them."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.faultline.gpu.plugins.module_utils import _record

from .roles import TREE

log = logging.getLogger("faultline.deployment")


def _settings(name: str) -> dict[str, Any]:
    """Variables that the playbook of a drill has, too."""
    found: dict[str, Any] = yaml.safe_load((TREE / f"playbooks/vars/{name}.yml").read_text())
    return found


PHASES = {phase["number"]: phase for phase in _settings("phases")["drill_phases"]}
# Regular expression for what a client sees of an engine whose CUDA calls fail.
ENGINE_ERROR = str(_settings("defaults")["__drill_engine_error"])


class Phase:
    """A phase under way; `evidence` is what was observed for its gate.

    `refusing` says that an error is a refusal: nothing has been touched yet.
    """

    def __init__(self) -> None:
        self.evidence, self.refusing = "", False


@asynccontextmanager
async def noted(folder: Path, number: int) -> AsyncIterator[Phase]:
    """Note a phase in the record in `folder`; it fails with whatever the body raises."""
    plan, phase = PHASES[number], Phase()
    begun = time.monotonic()

    def note(status: str, evidence: str | None) -> None:
        content = {key: plan[key] for key in ("number", "name", "gate")}
        _record.note(str(folder), content | {"status": status, "evidence": evidence}, False)

    log.info("%2d %s", number, plan["name"])
    note("started", None)
    try:
        yield phase
    except BaseException as error:
        # An AssertionError's text is pytest's, with the values it saw.
        note("refused" if phase.refusing else "failed", str(error) or type(error).__name__)
        raise
    seen = phase.evidence or "done"
    note("passed", seen)
    took = time.monotonic() - begun
    log.info("%2d %s passed in %.1f s: %s", number, plan["name"], took, seen)
