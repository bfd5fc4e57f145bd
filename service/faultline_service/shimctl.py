# SPDX-License-Identifier: Apache-2.0
"""faultline-shim: look after the CUDA shim on one GPU host, without a cluster.

`python3 -m faultline_service.shimctl status|arm|disarm|selftest`. The page is changed in place,
under a lock that the node's agent takes too; it is never truncated or replaced.

Runs with Python 3.9 and nothing else, as service/Makefile puts it on a GPU host.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import clock, gpus, shimstate
from .cuda_effect import InNamespace, Moment, entry_of, locate, refused
from .entry import MODES, Entry, class_mask, id_bytes, pod_bytes, uuid_bytes
from .page import Page
from .profiles import profile

ABOUT = (
    "Look after the CUDA shim on one GPU host, without a cluster: what is armed, what processes "
    "have seen, arm and end faults. Each verb has its own --help."
)
DRIVER = Path("/proc/driver/nvidia")
MOST_SECONDS = 7200
# Beside the service's folder where the tool was installed: PREFIX/faultline-shim.d/VERSION.
INSTALLED = Path(__file__).resolve().parents[2]
VERSION = INSTALLED / "version"
STATE = INSTALLED.parents[1] if VERSION.exists() else Path("/var/lib/faultline")


def processes(proc: Path) -> Iterator[dict[str, Any]]:
    """Every process with the shim: its number, its name and what the shim in it has seen."""
    for folder in sorted(
        (f for f in proc.iterdir() if f.name.isdigit()), key=lambda f: int(f.name)
    ):
        try:
            where = shimstate.address(folder)
            if where is None:
                continue
            memory = os.open(folder / "mem", os.O_RDONLY | os.O_CLOEXEC)
            try:
                raw = shimstate.read(memory, where)
            finally:
                os.close(memory)
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue  # it has ended, or is not ours to look at
        times = {"firstHitAt": shimstate.first_hit(raw), "lastHitAt": shimstate.last_hit(raw)}
        seen = shimstate.evidence(raw) if raw else {"mapped": True, "used": False}
        seen |= {key: value for key, value in times.items() if value}
        yield {"pid": int(folder.name), "command": name, "shim": seen}


def left(entry: Entry) -> str:
    """How long an entry stays armed, in words."""
    if not entry.not_after:
        return "no end"
    seconds = (entry.not_after - clock.boottime()) / clock.SECOND
    return f"{seconds:.0f} s left" if seconds > 0 else "over"


def existing(path: Path) -> Page:
    """The page of this host; raises LookupError when there is none."""
    if not path.exists():
        raise LookupError(f"there is no control page {path}: the node's agent makes it, and arm")
    return Page(path)


def status(args: argparse.Namespace) -> int:
    """Print page, armed faults and processes."""
    page, found = existing(args.page), list(processes(args.proc))
    entries = page.entries()
    if args.json:
        facts = {
            "page": str(args.page),
            "inode": page.inode,
            "generation": page.generation,
            "entries": [asdict(e) | {"left": left(e)} for e in entries],
            "processes": found,
        }
        print(json.dumps(facts, indent=2))
        return 0
    print(f"{args.page}: generation {page.generation}, inode {page.inode}, armed {len(entries)}")
    for e in entries:
        print(f"  {e.fault_id}: XID {e.xid}, {e.gpu_uuid}, {e.mode}, {left(e)}")
    for p in found:
        shim = p["shim"]
        words = [f"{key} {value}" for key, value in shim.items() if key != "mapped"]
        if shim.get("pageInode", page.inode) != page.inode:
            words.append("ANOTHER PAGE than this one: it started before this one was made")
        print(f"  {p['pid']} {p['command']}: {', '.join(words)}")
    if not found:
        print("  no process has the shim")
    return 0


def chosen_gpu(key: str, driver: Path) -> str:
    """UUID of a GPU by number, UUID or PCI address; a MIG instance's is taken as it is.

    Raises ValueError when it is none of these, LookupError when there is no such GPU.
    """
    if key.startswith("MIG-"):
        uuid_bytes(key)
        return key
    kind = "uuid" if key.startswith("GPU-") else "pciAddress" if ":" in key else "index"
    if kind == "index" and not key.isdecimal():
        raise ValueError(
            f"{key!r} names no GPU: say its number, UUID (GPU-… or MIG-…) or PCI address"
        )
    return gpus.choose(gpus.on_node(driver), {kind: int(key) if kind == "index" else key}).uuid


def arm(args: argparse.Namespace) -> int:
    """Arm one fault and print its id."""
    target = {"podUID": args.pod_uid, "rank": args.rank}
    process = locate(args.pid, args.pod_uid or "", args.proc) if args.pid else InNamespace()
    facts, now, name = profile(args.xid), time.time(), args.id or f"host-{secrets.token_hex(4)}"
    cuda = {
        "mode": args.mode,
        "classes": args.classes,
        "afterCalls": args.after_calls,
        "probability": args.probability,
        "seed": args.seed,
        "delayMicroseconds": args.delay_us,
        "notBeforeSeconds": args.not_before,
        "target": target,
    }
    if why := refused(facts, cuda):
        raise ValueError(why)
    if args.not_before and args.not_before >= args.seconds:
        raise ValueError(
            f"the fault would end before it begins: --not-before {args.not_before}, "
            f"--seconds {args.seconds}"
        )
    if args.mode == "genuine" and not args.allow_genuine:
        raise ValueError("mode genuine lets the GPU really fault: say --allow-genuine, too")
    when, branch = Moment(now, now + args.seconds), gpus.driver_branch(args.driver)
    entry = entry_of(name, facts, chosen_gpu(args.gpu, args.driver), when, cuda, branch, process)
    if not entry.classes:
        raise ValueError(f"XID {args.xid} does nothing to CUDA calls; say --classes to hit some")
    page = Page(args.page)
    if args.mode == "genuine":
        page.allow_genuine(True)
    page.edit(lambda there: [*(e for e in there if e.fault_id != name), entry])
    print(name)
    return 0


def disarm(args: argparse.Namespace) -> int:
    """Disarm one fault, or all."""
    page = existing(args.page)
    ids = [e.fault_id for e in page.entries()]
    if args.id and args.id not in ids:
        raise LookupError(f"no fault {args.id} is armed; armed are: {', '.join(ids) or 'none'}")
    page.edit(lambda there: [e for e in there if args.id and e.fault_id != args.id])
    print(f"disarmed: {args.id or ', '.join(ids) or 'nothing was armed'}")
    return 0


def selftest(args: argparse.Namespace) -> int:
    """Run the newest build's self-test as a process with the shim would be."""
    builds = sorted(args.shims.glob(f"*/{shimstate.LIBRARY}"), key=lambda f: f.stat().st_mtime)
    if not builds:
        raise LookupError(f"there is no build of the shim below {args.shims}: make -C shim install")
    program = builds[-1].with_name("selftest")
    settings = {"LD_PRELOAD": str(builds[-1]), "FAULTLINE_CONTROL": str(args.page)}
    return subprocess.run([program], env=os.environ | settings, check=False).returncode


def _between(low: float, high: float, kind: type[int] | type[float]) -> Any:
    what = "a whole number" if kind is int else "a number"

    def convert(text: str) -> float:
        with suppress(ValueError):
            value = kind(text)
            if low <= value <= high:
                return value
        raise argparse.ArgumentTypeError(f"it is {what} from {low} to {high}, not {text!r}")

    return convert


def _checked(check: Callable[[str], object]) -> Any:
    """A text that is not empty and for which `check` raises no ValueError."""

    def convert(text: str) -> str:
        try:
            check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if not text:
            raise argparse.ArgumentTypeError("it is empty")
        return text

    return convert


def _classes(letters: str) -> None:
    if "P" in letters:
        raise ValueError("calls of class P pass always: say letters of SQITN")
    class_mask(letters)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="faultline-shim", description=ABOUT)
    version = VERSION.read_text().strip() if VERSION.exists() else "of a source tree"
    top.add_argument("--version", action="version", version=f"faultline-shim {version}")
    top.add_argument("--page", type=Path, default=STATE / "control/page", help="control page")
    top.add_argument("--proc", type=Path, default=Path("/proc"), help=argparse.SUPPRESS)
    top.add_argument("--driver", type=Path, default=DRIVER, help=argparse.SUPPRESS)
    top.add_argument("--shims", type=Path, default=STATE / "shim", help="folder of the builds")
    verbs = top.add_subparsers(required=True, metavar="status|arm|disarm|selftest")
    one = verbs.add_parser("status", help="say what is armed and what each process has seen")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=status)
    one = verbs.add_parser(
        "arm", help="arm one fault", description="Arm one fault; what is not said is as the XID's."
    )
    one.add_argument("--gpu", required=True, help="number, UUID (GPU-… or MIG-…) or PCI address")
    one.add_argument(
        "--xid",
        required=True,
        type=_between(1, 1000, int),
        help="number of the fault, as in the kernel's log",
    )
    one.add_argument(
        "--seconds",
        required=True,
        type=_between(1, MOST_SECONDS, int),
        help="after so long it ends by itself",
    )
    one.add_argument(
        "--id",
        type=_checked(id_bytes),
        help="name of the fault; one of that name is replaced",
    )
    one.add_argument("--mode", choices=MODES, help="how calls are hit")
    one.add_argument(
        "--classes",
        type=_checked(_classes),
        help="letters: S work, Q wait, I new context, T teardown, N NVML",
    )
    one.add_argument(
        "--after-calls", type=_between(0, 2**32 - 1, int), help="calls that pass first"
    )
    one.add_argument(
        "--probability", type=_between(1e-9, 1, float), help="of a call to be hit, 1 by default"
    )
    one.add_argument(
        "--seed", type=_between(0, 2**63, int), help="chooses the calls; the same ones in every run"
    )
    one.add_argument(
        "--delay-us", type=_between(0, 2**32 - 1, int), help="how long slow and hang take"
    )
    one.add_argument(
        "--not-before", type=_between(0, MOST_SECONDS, int), help="seconds until it begins"
    )
    one.add_argument("--pod-uid", type=_checked(pod_bytes), help="only processes of this pod")
    one.add_argument("--pid", type=_between(1, 2**22, int), help="only this process of the host")
    one.add_argument("--rank", type=_between(0, 2**20, int), help="only processes of this rank")
    one.add_argument("--allow-genuine", action="store_true", help="let the GPU really fault")
    one.set_defaults(run=arm)
    one = verbs.add_parser("disarm", help="end faults; processes that were hit stay failed")
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="fault that arm or status named")
    which.add_argument("--all", action="store_true", help="every fault of this host")
    one.set_defaults(run=disarm)
    one = verbs.add_parser("selftest", help="check build and page of this host")
    one.set_defaults(run=selftest)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; a sentence on stderr and 1 when that cannot be."""
    try:
        args = parser().parse_args(argv)
        return int(args.run(args))
    except (LookupError, ValueError, OSError) as error:
        print(f"faultline-shim: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
