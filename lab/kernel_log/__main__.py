# SPDX-License-Identifier: Apache-2.0
"""`python3 -m lab.kernel_log`: relay and journald of one node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ..gpu.identity import gpus
from .relay import marks_of, open_fifo, relay

CONFIG = """\
[Journal]
Storage=persistent
ReadKMsg=yes
Audit=no
Seal=no
RateLimitBurst=0
SyncIntervalSec=1s
ForwardToSyslog=no
ForwardToKMsg=no
ForwardToConsole=no
ForwardToWall=no
"""
NODE = Path("/proc/1/root")
FIFO = Path("/run/kmsg")

# In a mount namespace of its own, because the relay needs the real /dev/kmsg.
JOURNALD = f"""
set -e
mount --make-rprivate /
mount --bind {FIFO} /dev/kmsg
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
mount --bind /run/machine-id /etc/machine-id
exec /lib/systemd/systemd-journald
"""
COMMAND = ["unshare", "--mount", "sh", "-c", JOURNALD]


def prepare() -> None:
    """Files that journald expects of the system it runs on."""
    for folder in ("/run/systemd/journal", "/run/log", "/etc/systemd/journald.conf.d"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    # Without this journald keeps its journal in memory.
    Path("/run/systemd/journal/flushed").touch()
    Path("/etc/systemd/journald.conf.d/lab.conf").write_text(CONFIG)
    Path("/run/boot_id").write_bytes((NODE / "proc/sys/kernel/random/boot_id").read_bytes())
    machine_id = (NODE / "etc/machine-id").read_bytes()
    Path("/run/machine-id").write_bytes(machine_id)
    Path("/etc/machine-id").touch()
    Path("/var/log/journal", machine_id.decode().strip()).mkdir(parents=True, exist_ok=True)


def serve(source: int, target: int, marks: list[bytes], command: list[str]) -> int:
    """Run the relay and journald until one of them ends and the other with it.

    Returns journald's exit status; raises what ended the relay, so that the pod is started again.
    A journald without its relay would run on and see no fault.
    """
    lost: list[Exception] = []

    def pass_on() -> None:
        try:
            relay(source, target, marks)
        except Exception as error:
            lost.append(error)
            journald.terminate()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with subprocess.Popen(command) as journald:
        try:
            threading.Thread(target=pass_on, daemon=True).start()
            status = journald.wait()
        finally:
            journald.terminate()
    if lost:
        raise lost[0]
    return status


def main() -> None:
    """Give this node its kernel log."""
    node, count = os.environ["NODE_NAME"], int(os.environ.get("LAB_GPUS_PER_NODE", "2"))
    source = os.open("/dev/kmsg", os.O_RDONLY)
    os.lseek(source, 0, os.SEEK_END)
    prepare()
    sys.exit(serve(source, open_fifo(FIFO), marks_of(gpus(node, count)), COMMAND))


if __name__ == "__main__":
    main()
