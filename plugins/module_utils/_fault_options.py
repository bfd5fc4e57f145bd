# SPDX-License-Identifier: Apache-2.0
"""How a task describes a fault, and what of that cannot be.

The options have other names in a GPUFault and in a request to the fault-injection API: one table
says which. What is refused here the service refuses as well (`cuda_effect.py` there), but here it
is said before anything is touched, and in the words of the options.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ._client import Obj
from ._errors import FaultlineError

MODES = ("sticky", "once", "transient", "hang", "slow", "genuine")
WITH_DELAY = ("hang", "slow")
CLASSES = "SQITN"
# Rows of data/xid_profiles.yml with `genuine`. A module travels to its host without the table.
GENUINE_XIDS = (13, 31, 43)

CUDA_OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {
        "mode": {"type": "str", "choices": list(MODES)},
        "classes": {"type": "str"},
        "after_calls": {"type": "int"},
        "probability": {"type": "float"},
        "seed": {"type": "int"},
        "delay_microseconds": {"type": "int"},
        "not_before_seconds": {"type": "int"},
        "target": {
            "type": "dict",
            "options": {
                "pod_uid": {"type": "str"},
                "mig_uuid": {"type": "str"},
                "pid": {"type": "int"},
                "rank": {"type": "int"},
            },
        },
    },
}

# Option, its place in the spec of a GPUFault, its place in a request (the XID is in its address).
PLACES: tuple[tuple[str, str, str | None], ...] = (
    ("xid", "xid", None),
    ("node", "node", "node_name"),
    ("gpu_index", "gpu.index", "gpu_id"),
    ("gpu_uuid", "gpu.uuid", "gpu_uuid"),
    ("pci_address", "gpu.pciAddress", "pci_address"),
    ("duration", "durationSeconds", "duration"),
    ("effects", "effects", "effects"),
    ("run_id", "runId", "run_id"),
    ("cuda.mode", "cuda.mode", "cuda.mode"),
    ("cuda.classes", "cuda.classes", "cuda.classes"),
    ("cuda.after_calls", "cuda.afterCalls", "cuda.after_calls"),
    ("cuda.probability", "cuda.probability", "cuda.probability"),
    ("cuda.seed", "cuda.seed", "cuda.seed"),
    ("cuda.delay_microseconds", "cuda.delayMicroseconds", "cuda.delay_microseconds"),
    ("cuda.not_before_seconds", "cuda.notBeforeSeconds", "cuda.not_before_seconds"),
    ("cuda.target.pod_uid", "cuda.target.podUID", "cuda.target.pod_uid"),
    ("cuda.target.mig_uuid", "cuda.target.migUUID", "cuda.target.mig_uuid"),
    ("cuda.target.pid", "cuda.target.pid", "cuda.target.pid"),
    ("cuda.target.rank", "cuda.target.rank", "cuda.target.rank"),
)

# What the API takes for the id of a fault.
LONGEST_ID = 63
ID = rf"[a-z0-9]([a-z0-9-]{{0,{LONGEST_ID - 2}}}[a-z0-9])?"

# Seconds that the API lets a fault last.
LONGEST = 7200

RANGES = {
    "after_calls": (0, 2**32 - 1),
    "seed": (0, 2**63 - 1),
    "delay_microseconds": (0, 2**32 - 1),
    "not_before_seconds": (0, LONGEST),
    "target.pid": (1, 2**22),
    "target.rank": (0, 2**20),
}
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FORMS = {
    "classes": (
        f"[{CLASSES}]{{1,{len(CLASSES)}}}",
        "letters of S (work), Q (waiting), I (new context), T (teardown), N (NVML)",
    ),
    "target.pod_uid": (UUID, "the metadata.uid of a pod"),
    "target.mig_uuid": (f"MIG-{UUID}", "MIG- and a UUID in small letters, see nvidia-smi -L"),
}


def _at(options: Any, place: str) -> Any:
    """What stands at a dotted place, None when nothing does."""
    for key in place.split("."):
        options = (options or {}).get(key)
    return options


def _put(into: Obj, place: str, value: Any) -> None:
    *folders, last = place.split(".")
    for key in folders:
        into = into.setdefault(key, {})
    into[last] = value


def name_of(options: Mapping[str, Any]) -> str:
    """Name of a fault that was given none: run id, XID and node.

    Where that is no id of a fault, as names of nodes may have dots and be longer, what is left out
    is told by a digest.
    """
    plain = f"{options['run_id']}-xid-{options['xid']}-{options['node']}"
    if re.fullmatch(ID, plain):
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return re.sub(r"[^a-z0-9-]", "-", plain)[: LONGEST_ID - 9] + f"-{digest}"


def spec_of(options: Mapping[str, Any]) -> Obj:
    """The spec of the GPUFault that options describe; what is not said is not in it."""
    spec: Obj = {}
    for option, place, _ in PLACES:
        if (value := _at(options, option)) is not None:
            _put(spec, place, value)
    return spec


def request_of(options: Mapping[str, Any], name: str) -> Obj:
    """The same fault as the API is asked for it, with `name` as its id."""
    request: Obj = {"fault_id": name}
    for option, _, place in PLACES:
        if place and (value := _at(options, option)) is not None:
            _put(request, place, value)
    return request


def same(wanted: Obj, there: Obj) -> bool:
    """Whether a fault that is there is the wanted one; one that says more about CUDA is not."""
    names = wanted.keys() | {"cuda"}
    return all((there.get(name) or None) == (wanted.get(name) or None) for name in names)


def _delay_problems(cuda: Mapping[str, Any]) -> Iterator[str]:
    mode, delay = cuda.get("mode"), cuda.get("delay_microseconds")
    if mode == "slow" and not delay:
        yield (
            "cuda.mode slow needs cuda.delay_microseconds above 0: how much longer a call shall "
            "take."
        )
    elif delay is not None and mode not in WITH_DELAY:
        yield (
            "cuda.delay_microseconds is what mode slow adds to a call and the longest that mode "
            f"hang blocks one: say cuda.mode {' or '.join(WITH_DELAY)}, not {mode or 'nothing'}."
        )


def _single_problems(cuda: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one option by itself."""
    for name, (low, high) in RANGES.items():
        value = _at(cuda, name)
        if value is not None and not low <= value <= high:
            yield f"cuda.{name} is a number from {low} to {high}, not {value}."
    for name, (form, words) in FORMS.items():
        value = _at(cuda, name)
        if value is not None and not re.fullmatch(form, value):
            yield f"cuda.{name} is {words}, not {value!r}."
    chance = cuda.get("probability")
    if chance is not None and not 0 < chance <= 1:
        yield f"cuda.probability is above 0 and at most 1, not {chance:g}."


def problems(options: Mapping[str, Any]) -> list[str]:
    """Sentences about what `cuda` of the options says and cannot be; empty when all is well.

    `options` are those of the module gpu_fault: `xid`, `effects`, `duration` and `cuda`.
    """
    cuda = options.get("cuda") or {}
    found = [*_single_problems(cuda), *_delay_problems(cuda)]
    if not 1 <= options["duration"] <= LONGEST:
        found.append(f"A fault lasts from 1 to {LONGEST} seconds, not {options['duration']}.")
    if spec_of({"cuda": cuda}) and "cuda" not in options["effects"]:
        found.append("cuda says how CUDA calls fail, but effects does not have cuda: add it.")
    if cuda.get("seed") is not None and cuda.get("probability") is None:
        found.append(
            "cuda.seed chooses which calls are hit when chance decides: say cuda.probability, too."
        )
    if cuda.get("mode") == "genuine" and options["xid"] not in GENUINE_XIDS:
        xids = ", ".join(map(str, GENUINE_XIDS))
        found.append(
            f"cuda.mode genuine lets a kernel really fault, and none brings XID {options['xid']} "
            f"about: choose one of the XIDs {xids}, or another mode."
        )
    begin = cuda.get("not_before_seconds")
    if begin and begin >= options["duration"]:
        found.append(
            f"The fault would end before it begins: cuda.not_before_seconds is {begin}, duration "
            f"{options['duration']}."
        )
    return found


def check(options: Mapping[str, Any]) -> None:
    """Raise FaultlineError with all sentences when something cannot be."""
    if found := problems(options):
        raise FaultlineError(" ".join(found))
