# SPDX-License-Identifier: Apache-2.0
"""Roles take what they say they take, by names that tell whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]
TREE = Path(__file__).parents[3]
ROLES = sorted(path.name for path in (TREE / "roles").iterdir() if path.is_dir())
# The one in C is ten times as fast, where there is one.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TEMPLATED = re.compile(r"\{\{.*\}\}", re.DOTALL)
KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


@cache
def load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=LOADER) if path.exists() else None


def defaults(role: str) -> Object:
    return load(TREE / f"roles/{role}/defaults/main.yml") or {}


def entry_points(role: str) -> dict[str, Object]:
    found: dict[str, Object] = load(TREE / f"roles/{role}/meta/argument_specs.yml")[
        "argument_specs"
    ]
    return found


def tasks_files(role: str) -> list[Path]:
    return sorted((TREE / "roles" / role / "tasks").glob("*.yml"))


def mappings(content: Any) -> Iterator[Object]:
    """Every mapping in a YAML document."""
    if isinstance(content, dict):
        yield content
        for value in content.values():
            yield from mappings(value)
    elif isinstance(content, list):
        for value in content:
            yield from mappings(value)


def set_by(role: str) -> set[str]:
    """Names that a role's tasks give values to."""
    found: set[str] = set(load(TREE / f"roles/{role}/vars/main.yml") or {})
    for path in tasks_files(role):
        for mapping in mappings(load(path)):
            found |= {mapping["register"]} if "register" in mapping else set()
            found |= (mapping.get("ansible.builtin.set_fact") or {}).keys()
            found |= (mapping.get("vars") or {}).keys()
            loop = mapping.get("loop_control") or {}
            found |= {loop["loop_var"]} if "loop_var" in loop else set()
    return found


def test_there_are_roles() -> None:
    assert len(ROLES) >= 10


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_takes_exactly_what_has_a_default(role: str) -> None:
    for name, entry in entry_points(role).items():
        assert sorted(entry["options"]) == sorted(defaults(role)), name
        assert entry["short_description"], name
        for option, spec in entry["options"].items():
            assert spec.get("description"), option


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_says_what_it_does_itself(role: str) -> None:
    said = [entry["short_description"] for entry in entry_points(role).values()]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("role", ROLES)
def test_every_default_has_the_type_that_is_asked_for(role: str) -> None:
    for name, spec in entry_points(role)["main"]["options"].items():
        value = defaults(role)[name]
        assert spec.get("default", value) == value, name
        if isinstance(value, str) and TEMPLATED.search(value):
            continue
        assert isinstance(value, KINDS[spec["type"]]), name
        assert spec["type"] == "bool" or not isinstance(value, bool), name
        for chosen in value if isinstance(value, list) else [value]:
            assert chosen in spec.get("choices", [chosen]), name


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_says_whose_it_is(role: str) -> None:
    assert [name for name in defaults(role) if not name.startswith(f"{role}_")] == []
    ours = (f"{role}_", f"__{role}_")
    foreign = {name for name in set_by(role) if not name.startswith(ours)}
    # What is set for a role that this one includes is that role's.
    of_others = {n for n in foreign for other in ROLES if n.startswith(f"{other}_")}
    assert foreign - of_others == set()


@pytest.mark.parametrize("role", ROLES)
def test_every_default_has_a_comment_above_it(role: str) -> None:
    text = (TREE / f"roles/{role}/defaults/main.yml").read_text().removeprefix("---\n")
    for paragraph in text.split("\n\n"):
        keys = re.findall(r"^(\w+):", paragraph, re.MULTILINE)
        assert not keys or paragraph.lstrip().startswith("# "), keys


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_that_a_role_uses_has_a_default_or_is_set_by_it(role: str) -> None:
    known = defaults(role).keys() | set_by(role)
    files = [*tasks_files(role), *(TREE / "roles" / role / "templates").glob("*")]
    for path in files:
        used = set(re.findall(rf"(?<![\w./-])_*{role}_[a-z0-9_]+", path.read_text()))
        assert used - known == set(), path.name


def used_entry_points() -> set[tuple[str, str]]:
    """Roles and entry points that playbooks, and roles themselves, include."""
    found: set[tuple[str, str]] = set()
    folders = [TREE / "playbooks", TREE / "roles", TREE / "extensions"]
    paths = [p for folder in folders for p in folder.rglob("*.yml") if "files" not in p.parts]
    for path in paths:
        for mapping in mappings(load(path)):
            included = mapping.get("ansible.builtin.include_role") or mapping.get(
                "ansible.builtin.import_role"
            )
            if included:
                found.add((included["name"], included.get("tasks_from", "main")))
            elif "role" in mapping:
                tasks = mapping.get("tasks_from") or mapping.get("tasks") or "main"
                found.add((mapping["role"], tasks))
    return {
        (role.removeprefix("faultline.gpu."), tasks.removesuffix(".yml"))
        for role, tasks in found
        if not TEMPLATED.search(role)
    }


def test_every_entry_point_that_is_used_is_described_and_there() -> None:
    used = used_entry_points()
    # From a play's roles, an include_role, and the list of what the way back undoes.
    assert {("lab_stack", "main"), ("inference_check", "good"), ("platform", "remove")} <= used
    for role, tasks in sorted(used):
        assert role in ROLES, role
        assert tasks in entry_points(role), f"{role}: {tasks}"


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_has_its_tasks(role: str) -> None:
    assert set(entry_points(role)) <= {path.stem for path in tasks_files(role)}


def test_playbooks_give_roles_only_what_they_take() -> None:
    options = {name for role in ROLES for name in defaults(role)}
    paths = [*(TREE / "playbooks").rglob("*.yml"), *(TREE / "inventories").rglob("*.yml")]
    unknown = []
    for path in paths:
        for mapping in mappings(load(path)):
            given = (mapping.get("vars") or {}).keys()
            named = {n for n in given for role in ROLES if n.startswith(f"{role}_")}
            unknown += [(path.name, name) for name in named - options]
    assert unknown == []
