# SPDX-License-Identifier: Apache-2.0
"""What a module's documentation says is what it takes, and every module is in the action group."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.faultline.gpu.plugins.doc_fragments.cluster import ModuleDocFragment

Object = dict[str, Any]
TREE = Path(__file__).parents[4]
# The one in C is ten times as fast, where there is one.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NAMES = sorted(path.stem for path in (TREE / "plugins/modules").glob("*.py"))
PLACE = "ansible_collections.faultline.gpu.plugins.modules"
FRAGMENTS = {"faultline.gpu.cluster": ModuleDocFragment}


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{PLACE}.{name}")


@cache
def documented(name: str) -> Object:
    """The documentation with its fragments laid under it."""
    content: Object = yaml.load(module(name).DOCUMENTATION, LOADER)
    for fragment in content.pop("extends_documentation_fragment", []):
        for key, value in yaml.load(FRAGMENTS[fragment].DOCUMENTATION, LOADER).items():
            content[key] = value | content.get(key, {}) if isinstance(value, dict) else value
    return content


class Taken(Exception):
    """What a module hands to AnsibleModule."""


def taken(name: str, monkeypatch: pytest.MonkeyPatch) -> Object:
    def take(_self: AnsibleModule, **arguments: Any) -> None:
        raise Taken(arguments)

    monkeypatch.setattr(AnsibleModule, "__init__", take)
    if (TREE / f"plugins/action/{name}.py").exists():
        action = importlib.import_module(
            f"{PLACE.removesuffix('modules')}action.{name}"
        ).ActionModule
        return action.arguments | {"supports_check_mode": action._supports_check_mode}
    with patch_module_args({}), pytest.raises(Taken) as found:
        module(name).main()
    arguments: Object = found.value.args[0]
    return arguments


def summary(option: Object) -> Object:
    """What specification and documentation of an option must agree on, suboptions too."""
    inner: Object = option.get("suboptions") or option.get("options") or {}
    return {
        "suboptions": {name: summary(sub) for name, sub in inner.items()},
        "type": option.get("type", "str"),
        "required": bool(option.get("required")),
        "default": option.get("default"),
        "choices": option.get("choices"),
        "elements": option.get("elements"),
        "aliases": option.get("aliases") or [],
    }


def undescribed(options: Object) -> list[str]:
    """Options, and options of options, that the documentation only names."""
    found = [name for name, option in options.items() if not option.get("description")]
    for option in options.values():
        found += undescribed(option.get("suboptions") or {})
    return found


def test_there_are_modules() -> None:
    assert len(NAMES) >= 14


@pytest.mark.parametrize("name", NAMES)
def test_documented_options_are_those_that_the_module_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = taken(name, monkeypatch)["argument_spec"]
    options = documented(name)["options"]
    assert {k: summary(v) for k, v in options.items()} == {k: summary(v) for k, v in spec.items()}
    assert undescribed(options) == []


@pytest.mark.parametrize("name", NAMES)
def test_check_mode_is_supported_as_documented(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = documented(name)["attributes"]
    assert attributes["check_mode"]["support"] == "full"
    assert taken(name, monkeypatch)["supports_check_mode"] is True
    assert attributes["action_group"]["membership"] == "faultline.gpu.gpu"


@pytest.mark.parametrize("name", NAMES)
def test_a_module_says_what_it_is(name: str) -> None:
    found = documented(name)
    assert found["module"] == name
    for key in ("short_description", "description", "version_added", "author"):
        assert found[key], key
    assert isinstance(yaml.load(module(name).RETURN, LOADER), dict)


@pytest.mark.parametrize("name", NAMES)
def test_examples_use_only_what_the_module_takes_and_all_that_it_needs(name: str) -> None:
    tasks = yaml.load(module(name).EXAMPLES, LOADER)
    options = documented(name)["options"]
    needed = {key for key, option in options.items() if option.get("required")}
    assert tasks
    for task in tasks:
        given = task.get(f"faultline.gpu.{name}")
        assert given is not None or not needed, task["name"]
        assert (given or {}).keys() <= options.keys(), task["name"]
        assert needed <= (given or {}).keys(), task["name"]


def test_every_module_and_nothing_else_is_in_the_action_group() -> None:
    runtime = yaml.safe_load((TREE / "meta/runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["gpu"]) == NAMES
