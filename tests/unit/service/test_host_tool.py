# SPDX-License-Identifier: Apache-2.0
"""The host's tool as it is installed: by itself, with nothing but Python, once per version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faultline_service import profiles

TREE = Path(__file__).parents[3]
GPU = "MIG-9d249f14-4b37-4b66-a3d1-6515ff5199fe"
Install = Callable[[str], Path]


def make(folder: Path, *words: str) -> str:
    command = ["make", "--silent", "--no-print-directory", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Installs as the role does: from a copy that has only what a host gets."""
    sources = tmp_path / "sources"
    for name in make(TREE / "service", "print-files").split():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / name, sources / name)
    (sources / "xid_profiles.json").write_text(json.dumps(profiles.table()))

    def installed(version: str) -> Path:
        make(sources / "service", "install", f"PREFIX={tmp_path / 'host'}", f"VERSION={version}")
        return tmp_path / "host"

    return installed


def bare(host: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the tool with this Python, without any package."""
    service = (host / "bin/faultline-shim").resolve().parent
    run = "import runpy, sys; sys.argv[0] = 'faultline-shim'; sys.path.insert(0, sys.argv.pop(1)); "
    run += "runpy.run_module('faultline_service.shimctl', run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-B", "-c", run, str(service)]
    return subprocess.run(
        [*command, f"--page={host / 'page'}", *words], capture_output=True, text=True, check=False
    )


def test_it_arms_tells_and_ends_without_any_package(install: Install) -> None:
    host = install("one")
    words = ("arm", "--gpu", GPU, "--xid", "119", "--seconds", "60", "--id", "mine")
    assert bare(host, *words).stdout == "mine\n"
    (entry,) = json.loads(bare(host, "status", "--json").stdout)["entries"]
    assert (entry["fault_id"], entry["mode"], entry["code_live"]) == ("mine", "hang", 999)
    assert bare(host, "disarm", "--all").returncode == 0
    assert "armed 0" in bare(host, "status").stdout
    assert {p.name for p in (host / "tool/one").rglob("*")} & {"__pycache__", "api.py"} == set()


def test_it_needs_no_newer_python_than_its_documentation_says() -> None:
    files = [name for name in make(TREE / "service", "print-files").split() if name.endswith(".py")]
    vermin = Path(sys.executable).with_name("vermin")
    command = [vermin, "--no-tips", "--target=3.9-", *files]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_cannot_be_is_refused_with_a_sentence(install: Install) -> None:
    words = ("arm", "--gpu", GPU, "--xid", "79", "--seconds", "60")
    done = bare(install("one"), *words, "--mode", "slow")
    assert (done.returncode, done.stdout) == (1, "")
    assert "faultline-shim: mode slow needs a delay" in done.stderr


def test_it_starts_by_its_link_and_says_its_version(install: Install) -> None:
    tool = install("one") / "bin/faultline-shim"
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "faultline-shim one\n"
    assert os.readlink(tool) == "../tool/one/service/faultline-shim"


def test_a_new_version_takes_the_place_of_the_old_one(install: Install) -> None:
    install("one")
    host = install("two")
    assert bare(host, "--version").stdout == "faultline-shim two\n"
    assert [p.name for p in (host / "tool").iterdir()] == ["two"]
    assert [p.name for p in (host / "bin").iterdir()] == ["faultline-shim"]
    assert install("two") == host


def test_nobody_but_its_owner_may_change_it(install: Install) -> None:
    host = install("one")
    modes = {p.stat().st_mode & 0o777 for p in host.rglob("*") if not p.is_symlink()}
    assert modes == {0o644, 0o755}


def test_the_version_stands_for_every_file_that_a_host_gets(tmp_path: Path) -> None:
    files = ["data/xid_profiles.yml", *make(TREE / "service", "print-files").split()]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / name, tmp_path / name)
    seen = {make(tmp_path / "service", "print-version")}
    assert seen == {make(TREE / "service", "print-version")}
    for name in files:
        with (tmp_path / name).open("a") as file:
            file.write("\n# changed\n")
        seen.add(make(tmp_path / "service", "print-version"))
    assert len(seen) == len(files) + 1
