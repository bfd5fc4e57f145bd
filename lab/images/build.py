# SPDX-License-Identifier: Apache-2.0
"""Builds the lab's container images without a registry and without a container engine.

A Debian root file system comes from mmdebstrap, Python packages from pip by their wheels, code from
this tree; buildah makes images of them. Each step has a stamp made of everything that goes into it,
so a second run only does what has changed. Prints one JSON object: which archives are new.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SITE = "usr/local/lib/python3.11/dist-packages"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PACKAGES = (
    "python3,ca-certificates,gcc,make,libc6-dev,systemd,procps,kmod,util-linux,iproute2,"
    "libnss-systemd"
)
CODE = {
    "lab": ("lab", "data"),
    "service": ("service", "data", "shim"),
}


def digest(*inputs: Path | str) -> str:
    """SHA-256 over texts and over the files below folders, in a fixed order."""
    total = hashlib.sha256()
    for one in inputs:
        if isinstance(one, str):
            total.update(one.encode())
            continue
        files = [one] if one.is_file() else sorted(p for p in one.rglob("*") if p.is_file())
        for file in files:
            name = file.relative_to(TREE)
            if not {"__pycache__", "build"} & set(name.parts):
                total.update(str(name).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:16]


class Builder:
    """Steps with stamps in one cache folder."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.done: list[str] = []
        self.store = cache / "containers"
        for folder in ("stamps", "images", "rootfs"):
            (cache / folder).mkdir(parents=True, exist_ok=True)

    def step(self, name: str, stamp: str, make: Callable[[], None]) -> str:
        """Run `make` unless it was run for this stamp; returns the stamp."""
        file = self.cache / "stamps" / name
        if not file.exists() or file.read_text() != stamp:
            make()
            file.write_text(stamp)
            self.done.append(name)
        return stamp

    def buildah(self, *words: str) -> str:
        """Run buildah on a store of its own."""
        driver = ["--root", str(self.store / "root"), "--runroot", str(self.store / "run")]
        command = ["buildah", *driver, "--storage-driver=vfs", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def root_file_system(self) -> str:
        """Debian with Python, gcc (for the shim) and journald (for the kernel log)."""
        target = self.cache / "rootfs" / "base.tar"

        def make() -> None:
            skip = [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("man", "doc", "locale")]
            command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}"]
            subprocess.run([*command, *skip, "bookworm", str(target)], check=True)

        return self.step("rootfs", digest(PACKAGES), make)

    def packages(self, name: str, requirements: Path, *bare: str) -> str:
        """Wheels of a requirements file, unpacked as a site folder; `bare` without dependencies."""
        target = self.cache / "rootfs" / f"python-{name}"

        def make() -> None:
            shutil.rmtree(target, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
            command += ["--disable-pip-version-check", "--only-binary=:all:", "--target"]
            command += [str(target), "--python-version=3.11", "--implementation=cp"]
            command += [f"--platform={p}" for p in PLATFORMS]
            if bare:
                subprocess.run([*command, "--no-deps", *bare], check=True)
            subprocess.run([*command, "-r", str(requirements)], check=True)
            compileall = [sys.executable, "-m", "compileall", "-q", "-j0", str(target)]
            if sys.version_info[:2] == (3, 11):
                # Byte code in the image: a drill starts engines often, and importing is slow.
                subprocess.run([*compileall, "--invalidation-mode=unchecked-hash"], check=False)

        return self.step(f"python-{name}", digest(requirements, *bare), make)

    def image(
        self, name: str, stamp: str, parent: str, adds: list[tuple[Path, str]], *settings: str
    ) -> str:
        """An image made of a parent and files, and its archive."""
        stamp = digest(stamp, parent, *settings)
        archive = self.cache / "images" / f"{name.split('/')[-1].replace(':', '-')}.tar"

        def make() -> None:
            container = self.buildah("from", "--pull=never", parent)
            for source, target in adds:
                self.buildah("add", "--quiet", container, str(source), target)
            self.buildah("config", *settings, "--author=faultline.gpu lab", container)
            self.buildah("commit", "--quiet", "--rm", container, name)
            archive.unlink(missing_ok=True)
            self.buildah(
                "push", "--quiet", "--disable-compression", name, f"docker-archive:{archive}:{name}"
            )

        return self.step(archive.name, stamp, make)


def pause(builder: Builder) -> str:
    """The sandbox image: one static program that sleeps and collects orphans."""
    source = HERE / "pause.c"
    program = builder.cache / "rootfs" / "pause"
    if not program.exists():
        subprocess.run(["gcc", "-Os", "-static", "-o", str(program), str(source)], check=True)
    return builder.image(
        "localhost/pause:1",
        digest(source),
        "scratch",
        [(program, "/pause")],
        '--entrypoint=["/pause"]',
    )


def main() -> None:
    """Build everything that is missing or has changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("/var/cache/faultline"))
    args = parser.parse_args()
    os.environ["BUILDAH_ISOLATION"] = "chroot"
    builder = Builder(args.cache)
    rootfs = builder.root_file_system()
    base_stamp = builder.packages("base", HERE / "python-base.txt")
    engine_stamp = builder.packages(
        "engine", HERE / "python-engine.txt", "ai-dynamo==1.6.1", "ai-dynamo-runtime==1.6.1"
    )
    pause(builder)
    files = builder.cache / "rootfs"
    debian = builder.image(
        "localhost/faultline/debian:12", rootfs, "scratch", [(files / "base.tar", "/")]
    )
    base = builder.image(
        "localhost/faultline/base:dev",
        debian + base_stamp,
        "localhost/faultline/debian:12",
        [(files / "python-base", f"/{SITE}")],
    )
    subprocess.run(["make", "-s", "-C", str(TREE / "lab/driver")], check=True, stdout=sys.stderr)
    model = files / "model"
    command = [sys.executable, "-m", "lab.engine.model", str(model)]
    subprocess.run(command, check=True, cwd=TREE)
    builder.image(
        "localhost/faultline/engine:1.6.1",
        debian + engine_stamp + digest(TREE / "lab/engine", TREE / "lab/backends"),
        "localhost/faultline/debian:12",
        [
            (files / "python-engine", f"/{SITE}"),
            (model, "/opt/faultline/model"),
            (TREE / "lab/engine", f"/{SITE}/lab_engine"),
            (TREE / "lab/backends", "/opt/faultline/backends"),
        ],
        "--env=HF_HUB_OFFLINE=1",
        # Before the packages: `dynamo` is a namespace, and the lab's backends come first in it.
        "--env=PYTHONPATH=/opt/faultline/backends",
        "--env=HOME=/tmp",
        "--user=1000:1000",
    )
    for name, folders in CODE.items():
        sources = [TREE / folder for folder in folders]
        builder.image(
            f"localhost/faultline/{name}:dev",
            base + digest(*sources),
            "localhost/faultline/base:dev",
            [(source, f"/opt/faultline/{source.name}") for source in sources],
            "--env=PYTHONPATH=/opt/faultline:/opt/faultline/service",
            "--env=FAULTLINE_DATA=/opt/faultline/data",
            "--workingdir=/",
        )
    binaries = builder.cache / "bin"
    builder.image(
        "localhost/faultline/platform:dev",
        digest(*(str((binaries / b).stat().st_size) for b in ("etcd", "nats-server"))),
        "scratch",
        [(binaries / "etcd", "/etcd"), (binaries / "nats-server", "/nats-server")],
    )
    stamps = {p.stem: p.read_text() for p in (args.cache / "stamps").glob("*.tar")}
    print(json.dumps({"changed": bool(builder.done), "built": builder.done, "stamps": stamps}))


if __name__ == "__main__":
    main()
