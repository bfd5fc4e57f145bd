# SPDX-License-Identifier: Apache-2.0
"""The host's tool as it is installed: by itself, with nothing but Python, once per version."""

from __future__ import annotations

import ast
import builtins
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
Install = Callable[..., Path]


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

    def installed(version: str, host: Path = tmp_path / "host") -> Path:
        make(sources / "service", "install", f"PREFIX={host}", f"VERSION={version}")
        return host

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


class NoAnnotations(ast.NodeTransformer):
    """Takes annotations out: with `from __future__ import annotations` no Python reads them."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Name("str")
        return self.generic_visit(node)


def is_type(node: ast.AST) -> bool:
    """Whether an expression can only be a type, by its name too, or None in the place of one."""
    if isinstance(node, ast.Subscript):
        return is_type(node.value)
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = node.id if isinstance(node, ast.Name) else node.attr
        camel = name[:1].isupper() and not name.isupper()
        return camel or isinstance(getattr(builtins, name, None), type)
    return isinstance(node, ast.Constant) and node.value is None


def unions(tree: ast.AST) -> list[str]:
    """Unions of types with `|`, which vermin does not see everywhere."""
    found = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.BitOr)]
    return [ast.unparse(n) for n in found if is_type(n.left) or is_type(n.right)]


def too_new(sources: list[str], folder: Path) -> str:
    """What of modules' code Python 3.9 does not have; empty when it has all."""
    found = ""
    for number, source in enumerate(sources):
        tree = NoAnnotations().visit(ast.parse(source))
        found += "".join(f"3.10: {words}\n" for words in unions(tree))
        (folder / f"module{number}.py").write_text(ast.unparse(tree))
    vermin = Path(sys.executable).with_name("vermin")
    command = [vermin, "--no-tips", "--target=3.9-", "-vvv", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return found + (done.stdout if done.returncode else "")


def test_it_needs_no_newer_python_than_its_documentation_says(tmp_path: Path) -> None:
    names = [name for name in make(TREE / "service", "print-files").split() if name.endswith(".py")]
    assert too_new([(TREE / name).read_text() for name in names], tmp_path) == ""


@pytest.mark.parametrize(
    "newer",
    [
        "Names = Callable[[str, str], tuple[str, str, str] | None]",
        "X = int | None",
        "from pathlib import Path\nX = Path | Entry",
        "import pathlib\nX = pathlib.Path | Entry",
        "match 1:\n    case 1: pass",
    ],
)
def test_what_a_newer_python_is_needed_for_would_be_noticed(newer: str, tmp_path: Path) -> None:
    assert "3.10" in too_new(["from collections.abc import Callable\n" + newer], tmp_path)


def test_what_cannot_be_is_refused_with_a_sentence(install: Install) -> None:
    words = ("arm", "--gpu", GPU, "--xid", "79", "--seconds", "60")
    done = bare(install("one"), *words, "--mode", "slow")
    assert (done.returncode, done.stdout) == (1, "")
    assert "faultline-shim: mode slow needs a delay" in done.stderr


def test_it_starts_by_its_link_and_says_its_version(install: Install) -> None:
    tool = install("one") / "bin/faultline-shim"
    # With that variable no Python writes byte code, whatever the link says.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "faultline-shim one\n"
    assert os.readlink(tool) == "../faultline-shim.d/one/service/faultline-shim"
    written = {p.name for p in tool.resolve().parents[1].rglob("*")}
    assert written & {"__pycache__", "api.py"} == set()


def test_a_new_version_takes_the_place_of_the_old_one(install: Install) -> None:
    install("one")
    host = install("two")
    assert bare(host, "--version").stdout == "faultline-shim two\n"
    assert [p.name for p in (host / "faultline-shim.d").iterdir()] == ["two"]
    assert [p.name for p in (host / "bin").iterdir()] == ["faultline-shim"]
    assert install("two") == host


def test_what_lies_there_and_is_not_ours_stays_as_it_is(install: Install, tmp_path: Path) -> None:
    folder, beside = tmp_path / "host/faultline-shim.d/somebodys", tmp_path / "linked"
    for theirs in (folder, beside):
        (theirs / "service").mkdir(parents=True)
        (theirs / "service/faultline-shim").touch()
        (theirs / "version").write_text("linked\n")
        (theirs / "data").write_text("dear")
    folder.with_name("linked").symlink_to(beside)
    (tmp_path / "host/bin").mkdir(0o2770)
    before = (tmp_path / "host/bin").stat().st_mode
    install("one")
    install("two")
    assert [(theirs / "data").read_text() for theirs in (folder, beside)] == ["dear", "dear"]
    assert folder.with_name("linked").is_symlink()
    assert (tmp_path / "host/bin").stat().st_mode == before


def test_the_name_of_its_folder_may_have_blanks(install: Install, tmp_path: Path) -> None:
    host = install("two", install("one", tmp_path / "my host"))
    tool = host / "bin/faultline-shim"
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "faultline-shim two\n"
    assert [p.name for p in (host / "faultline-shim.d").iterdir()] == ["two"]
    assert not (tmp_path / "my").exists()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_nobody_but_its_owner_may_change_it_and_everybody_may_use_it(
    install: Install, mask: int
) -> None:
    before = os.umask(mask)
    try:
        host = install("one")
    finally:
        os.umask(before)
    found = [p for p in host.rglob("*") if not p.is_symlink()]
    assert {p.stat().st_mode & 0o777 for p in found} == {0o644, 0o755}


def test_it_looks_for_page_and_builds_where_it_was_installed(install: Install) -> None:
    tool = install("one") / "bin/faultline-shim"
    done = subprocess.run([tool, "status"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"there is no control page {tool.parents[1]}/control/page" in done.stderr


def test_a_fault_that_would_end_before_it_begins_is_refused(install: Install) -> None:
    words = ("arm", "--gpu", GPU, "--xid", "79", "--seconds", "10", "--not-before", "10")
    done = bare(install("one"), *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert "would end before it begins: --not-before 10, --seconds 10" in done.stderr


def test_a_version_that_cannot_be_read_is_an_error_in_a_sentence(install: Install) -> None:
    host = install("one")
    version = host / "faultline-shim.d/one/version"
    version.unlink()
    version.mkdir()
    done = bare(host, "status")
    assert done.returncode == 1
    assert done.stderr.startswith("faultline-shim: ")
    assert "Traceback" not in done.stderr


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
