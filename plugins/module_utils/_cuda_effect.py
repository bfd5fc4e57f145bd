# SPDX-License-Identifier: Apache-2.0
"""How an XID's fault will show in CUDA calls, and whether a drill can show that. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._errors import FaultlineError
from ._fault_options import CUDA_OPTION, problems
from ._xid import profile

# With these, requests fail by the engine's own CUDA error until their node is empty.
PROVABLE = ("sticky", "transient", "hang")
# Calls that a running engine makes for a request; a fault of others leaves it unharmed.
SERVING = "SQ"
# After so many seconds a client of a drill gives up (request_timeout of the module
# inference_probe): an engine that blocks longer never gets to say what is wrong.
CLIENT_SECONDS = 30
# So long phase 5 may wait, and the fault must last: drill_verify_timeout, 60 s by default, for the
# first CUDA call to fail, and as long again for the first request.
SHOWN_SECONDS = 120
EFFECTS = ("kernelLog", "cuda")
MILLION = 1_000_000


def unprovable(effect: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about why a drill could not pass with a fault that is possible as such.

    Its requests must fail by an engine's error on the GPU that it has chosen, and go on failing
    until NVSentinel has emptied the node.
    """
    mode, delay, cuda = effect["mode"], effect["delay_microseconds"], options["cuda"]
    if missing := [name for name in EFFECTS if name not in options["effects"]]:
        yield (
            f"A drill needs both effects, and {' and '.join(missing)} is missing: NVSentinel acts "
            "on the kernel line, requests fail by CUDA calls."
        )
    if options["duration"] < SHOWN_SECONDS:
        yield (
            f"The fault would end after {options['duration']} s, and a drill may need "
            f"{SHOWN_SECONDS} s to see requests fail: let it last as long at least."
        )
    if mode not in PROVABLE:
        yield (
            f"A drill cannot show mode {mode}: its requests must fail by an engine's CUDA error "
            f"until the node is empty. It can show the modes {', '.join(PROVABLE[:-1])}, and "
            f"{PROVABLE[-1]} with an end; for others use the module gpu_fault."
        )
    if mode == "hang" and not 0 < delay < CLIENT_SECONDS * MILLION:
        yield (
            "A drill can show mode hang only if calls fail before clients give up: say "
            f"delay_microseconds from 1 to {CLIENT_SECONDS * MILLION - 1}, it is {delay}."
        )
    if not set(effect["classes"]) & set(SERVING):
        yield (
            f"No request would fail: calls of a running engine are of the classes S and Q, this "
            f"fault is of {effect['classes'] or 'none'}. Choose another XID, or say classes."
        )
    elif not effect["code"]:
        yield "No request would fail: the XID leaves running CUDA programs alone. Choose another."
    if cuda.get("not_before_seconds"):
        yield (
            "A drill's calls must fail at once: NVSentinel acts on the kernel line and may have "
            "emptied the node before. Leave not_before_seconds out."
        )
    if any(value is not None for value in (cuda.get("target") or {}).values()):
        yield "A drill chooses its GPU itself, among new pods. Leave target out."


def effect_of(
    cuda: Any, xid: Any, effects: list[str], duration: int, drill: bool = False
) -> dict[str, Any]:
    """What CUDA calls will do, and under `problems` why that cannot be: sentences.

    `cuda` is the option of the module gpu_fault, also as `key=value,key=value` from a command line.
    What it does not say is as the XID's row says. With `drill` what a drill could not show is a
    problem, too. Raises FaultlineError for what is no XID, and for a `cuda` of another type.
    """
    row = profile(xid)
    if cuda is not None and not isinstance(cuda, (str, Mapping)):
        raise FaultlineError(f"cuda is a mapping, or key=value,key=value, not {cuda!r}.")
    read = ArgumentSpecValidator({"cuda": CUDA_OPTION}).validate({"cuda": cuda or {}})
    said = read.validated_parameters["cuda"] if not read.error_messages else {}
    own = row.get("mode", "sticky")
    mode = said.get("mode") or own
    default = row.get("delay_microseconds", 0) if mode == own else 0
    delay = said.get("delay_microseconds")
    effect = {
        "mode": mode,
        "classes": said.get("classes") or row["classes"],
        "code": row["live_code"],
        "delay_microseconds": default if delay is None else delay,
    }
    options = {"cuda": said, "xid": row["xid"], "effects": effects, "duration": duration}
    # One that is no mapping at all has several messages, of which the first says so.
    found = read.error_messages[:1] or problems(options)
    if drill and not found:
        found = list(unprovable(effect, options))
    return effect | {"problems": found}
