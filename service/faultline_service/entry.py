# SPDX-License-Identifier: Apache-2.0
"""One armed fault, and how it stands in the control page."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from .layout import constants, fields, number, text

CLASSES = "PSQITN"
MODES = ("sticky", "once", "transient", "hang", "slow", "genuine")
KINDS = ("GPU", "MIG")
NOBODY = b"\0" * 16


@dataclass(frozen=True)
class Entry:
    """One armed fault: whom it hits, with what codes, how, and until when.

    `gpu_uuid` is `GPU-…` or `MIG-…`; codes are CUresult and nvmlReturn_t numbers, 0 for none;
    `classes` letters of `PSQITN`; times nanoseconds of CLOCK_BOOTTIME, 0 for none. Whatever of
    `pod_uid`, `pid` (in the PID namespace with inode `pid_namespace`) and `rank` is given must be
    true of a process. The first `after_calls` calls of each process pass; of the others each is hit
    with `probability`, by `seed` the same ones in every run. `delay_us` is what `slow` adds to a
    call and the longest that `hang` blocks one, 0 for as long as the fault lasts. `at_init`: new
    processes see `code_new` in cuInit already. `serial` tells one arming from the next.
    """

    fault_id: str
    xid: int
    gpu_uuid: str
    code_live: int
    code_new: int
    code_nvml: int
    classes: str
    not_after: int
    mode: str = "sticky"
    not_before: int = 0
    pod_uid: str = ""
    pid: int = 0
    pid_namespace: int = 0
    rank: int | None = None
    after_calls: int = 0
    probability: float = 1.0
    seed: int = 0
    delay_us: int = 0
    at_init: bool = False
    serial: int = field(default=0, compare=False)


def uuid_bytes(gpu_uuid: str) -> bytes:
    """The 16 bytes of `GPU-xxxxxxxx-…` or `MIG-…`; raises ValueError when it is none."""
    kind, _, digits = gpu_uuid.partition("-")
    if kind not in KINDS:
        raise ValueError(f"{gpu_uuid!r} is no UUID of a GPU: it begins with GPU- or MIG-")
    return _uuid(digits, f"{gpu_uuid!r} is no UUID of a GPU: 32 hexadecimal digits follow {kind}-")


def pod_bytes(pod_uid: str) -> bytes:
    """The 16 bytes of a pod's UID; raises ValueError when it is none."""
    return _uuid(pod_uid, f"{pod_uid!r} is no UID of a pod: that has 32 hexadecimal digits")


def _uuid(digits: str, complaint: str) -> bytes:
    try:
        return uuid.UUID(digits).bytes
    except ValueError:
        raise ValueError(complaint) from None


def id_bytes(fault_id: str) -> bytes:
    """A fault's id as it stands in the page; raises ValueError when it has no room there."""
    where, found = fields("entry")["fault_id"], fault_id.encode()
    most = where.stop - where.start - 1
    if len(found) > most:
        raise ValueError(f"the id of a fault has at most {most} bytes: {fault_id!r} has more")
    return found


def class_mask(classes: str) -> int:
    """A bit for each letter of `PSQITN`; raises ValueError for any other letter."""
    if wrong := set(classes) - set(CLASSES):
        raise ValueError(f"classes are letters of {CLASSES[1:]}, not {''.join(sorted(wrong))!r}")
    return sum(1 << CLASSES.index(letter) for letter in set(classes))


def _chance(probability: float) -> int:
    """A probability in units of 2^-32, 0 for certainty; raises ValueError outside (0, 1]."""
    if not 0 < probability <= 1:
        raise ValueError(f"a probability is above 0 and at most 1, not {probability}")
    return 0 if probability == 1 else min(max(round(probability * 2**32), 1), 2**32 - 1)


def pack(entry: Entry) -> bytes:
    """An entry as it stands in the page; raises ValueError or OverflowError for what fits not."""
    raw = bytearray(constants()["ENTRY_SIZE"])
    at = fields("entry")
    if entry.mode not in MODES:
        raise ValueError(f"a mode is one of {', '.join(MODES)}, not {entry.mode!r}")
    is_mig = entry.gpu_uuid.startswith("MIG-")
    numbers = {
        "state": 1,
        "xid": entry.xid,
        "mode": constants()[f"MODE_{entry.mode.upper()}"],
        "class_mask": class_mask(entry.classes),
        "code_live": entry.code_live,
        "code_new": entry.code_new,
        "code_nvml": entry.code_nvml,
        "flags": entry.at_init * constants()["AT_INIT"] | is_mig * constants()["IS_MIG"],
        "not_after": entry.not_after,
        "not_before": entry.not_before,
        "pid_namespace": entry.pid_namespace,
        "pid": entry.pid,
        "rank": 0 if entry.rank is None else entry.rank + 1,
        "after_calls": entry.after_calls,
        "probability": _chance(entry.probability),
        "seed": entry.seed,
        "delay": entry.delay_us,
        "serial": entry.serial,
    }
    for name, value in numbers.items():
        where = at[name]
        raw[where] = value.to_bytes(where.stop - where.start, "little")
    raw[at["uuid"]] = uuid_bytes(entry.gpu_uuid)
    raw[at["pod_uid"]] = pod_bytes(entry.pod_uid) if entry.pod_uid else NOBODY
    begin, id_text = at["fault_id"].start, id_bytes(entry.fault_id)
    raw[begin : begin + len(id_text)] = id_text
    return bytes(raw)


def unpack(raw: memoryview | bytes) -> Entry | None:
    """An entry of the page, None of a free one."""
    n = {name: number(raw, "entry", name) for name in fields("entry")}
    if not n["state"]:
        return None
    key, pod = bytes(raw[fields("entry")["uuid"]]), bytes(raw[fields("entry")["pod_uid"]])
    names = {constants()[f"MODE_{mode.upper()}"]: mode for mode in MODES}
    return Entry(
        fault_id=text(raw, "entry", "fault_id"),
        xid=n["xid"],
        gpu_uuid=f"{KINDS[bool(n['flags'] & constants()['IS_MIG'])]}-{uuid.UUID(bytes=key)}",
        code_live=n["code_live"],
        code_new=n["code_new"],
        code_nvml=n["code_nvml"],
        classes="".join(letter for i, letter in enumerate(CLASSES) if n["class_mask"] >> i & 1),
        not_after=n["not_after"],
        mode=names.get(n["mode"], "unknown"),
        not_before=n["not_before"],
        pod_uid=str(uuid.UUID(bytes=pod)) if pod != NOBODY else "",
        pid=n["pid"],
        pid_namespace=n["pid_namespace"],
        rank=n["rank"] - 1 if n["rank"] else None,
        after_calls=n["after_calls"],
        probability=n["probability"] / 2**32 if n["probability"] else 1.0,
        seed=n["seed"],
        delay_us=n["delay"],
        at_init=bool(n["flags"] & constants()["AT_INIT"]),
        serial=n["serial"],
    )
