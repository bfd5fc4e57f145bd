# SPDX-License-Identifier: Apache-2.0
"""The text of a DGD: which document it is, and what of it an edit leaves as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.faultline.gpu.plugins.module_utils._dgd_spec import DeploymentSpec
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from dgd_graphs import SCHEMAS, graph_text, opened

SECRET = "apiVersion: v1\nkind:   Secret  # odd, but theirs\nmetadata: {name: s}\n"


def comments(text: str) -> list[str]:
    """All comments of a text, in their order."""
    return re.findall(r"(?:^|\s)(#.*)", text)


def indented(schema: str, dash: int, step: int = 2) -> str:
    """A deployment with lists indented by `dash` and mappings by `step`."""
    lines, out = graph_text(schema).splitlines(), []
    stack: list[tuple[int, int]] = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            out.append(line)
            continue
        column = len(line) - len(line.lstrip())
        while stack and stack[-1][0] >= column:
            stack.pop()
        item = line.lstrip().startswith("- ")
        above = stack[-1][1] if stack else 0
        new = 0 if not stack else above + (dash if item else step)
        stack.append((column, new))
        if item:
            # The mapping within an item begins behind the dash.
            stack.append((column + 1, new + 2 - step))
        out.append(" " * new + line.lstrip())
    return "\n".join(out) + "\n"


def edited(tmp_path: Path, text: str) -> DeploymentSpec:
    """The deployment after edits that change, add to and begin lists and mappings."""
    spec = opened(tmp_path, text)
    spec.set_model("org/new")
    spec.set_tensor_parallel(2)
    spec.set_service_env_var("decode", "A", "off")
    spec.set_service_env_var("Frontend", "A", "1")
    spec.set_logging()
    return spec


@pytest.mark.parametrize("dash", [0, 2])
@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_in_every_indentation_nothing_is_lost(
    schema: str, step: int, dash: int, tmp_path: Path
) -> None:
    text = indented(schema, dash, step)
    assert yaml.safe_load(text) == yaml.safe_load(graph_text(schema))
    assert opened(tmp_path, text).text() == text
    spec = edited(tmp_path, text)
    assert comments(spec.text()) == comments(text)
    assert yaml.safe_load(spec.text()) == spec.spec()
    same = edited(tmp_path, graph_text(schema))
    assert spec.spec() == same.spec()
    lost = set(text.splitlines()) - set(spec.text().splitlines())
    assert {line.strip() for line in lost} <= {
        "- Qwen/Qwen3-0.6B",
        'gpu: "1"',
        'nvidia.com/gpu: "1"',
    }


FOREIGN = """\
apiVersion:   nvidia.com/v1beta1      # aligned
kind: 'DynamoGraphDeployment'
metadata: { name: agg, labels: {a: b} }   # flow
spec:
  x-unknown: {kept: true}
  backendFramework: ~
  components:
  - {name: Frontend, type: frontend}
  # about the worker
  - name: decode   # its name
    type:  decode
    minAvailable: null
    podTemplate:
        spec:
            containers:
              - name: main
                image: "a:1.0.0"
                args: [ "--model" , 'a/b' ]   # the model

                # about the command
                command: ["python3","-m",
                          "dynamo.vllm"]
                env:
                - {name: A, value: 'true'}
                # - {name: B, value: commented}

# the end
"""


def test_in_a_foreign_style_nothing_is_lost(tmp_path: Path) -> None:
    spec = opened(tmp_path, FOREIGN)
    assert spec.text() == FOREIGN
    spec.set_model("org/new")
    spec["decode"].set_env_var("C", "c")
    spec["decode"].replicas = 2
    expected = yaml.safe_load(FOREIGN)
    decode = expected["spec"]["components"][1]
    decode["replicas"] = 2
    main = decode["podTemplate"]["spec"]["containers"][0]
    main["args"][1] = "org/new"
    main["env"].append({"name": "C", "value": "c"})
    assert yaml.safe_load(spec.text()) == expected == spec.spec()
    assert sorted(comments(spec.text())) == sorted(comments(FOREIGN))
    for kept in ("'DynamoGraphDeployment'", '"a:1.0.0"', "'true'", "'org/new'"):
        assert kept in spec.text()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_other_documents_stay_byte_for_byte(schema: str, tmp_path: Path) -> None:
    head = f"# all of it\n---\n{SECRET}---  # the deployment\n"
    tail = f"---\n{SECRET}...\n"
    whole = head + graph_text(schema) + tail
    spec = edited(tmp_path, whole)
    assert opened(tmp_path, whole).text() == whole
    assert spec.text().startswith(head)
    assert spec.text().endswith(tail)
    alone = edited(tmp_path, graph_text(schema))
    assert spec.text() == head + alone.text() + tail


def test_line_ends_of_the_file_are_kept(tmp_path: Path) -> None:
    text = graph_text("v1beta1", "trtllm", "script")
    windows = text.replace("\n", "\r\n")
    assert opened(tmp_path, windows).text() == windows
    spec = opened(tmp_path, windows)
    spec.set_model("org/new")
    plain = opened(tmp_path, text)
    plain.set_model("org/new")
    assert spec.text() == plain.text().replace("\n", "\r\n")


def test_signs_beyond_ascii_are_kept(tmp_path: Path) -> None:
    text = graph_text("v1alpha1").replace("# the end", "# das Ende – schön")
    spec = opened(tmp_path, text)
    spec.set_model("org/neu-ä")
    spec.save(tmp_path / "saved.yaml")
    saved = (tmp_path / "saved.yaml").read_bytes().decode()
    assert "# das Ende – schön\n" in saved
    assert "- org/neu-ä\n" in saved


# Texts that Kubernetes, which reads YAML 1.1, would take for something else without quotes.
@pytest.mark.parametrize(
    "value", ["yes", "off", "y", "N", "true", "null", "~", "1", "0o17", "1_0", "1e3", ""]
)
def test_a_text_stays_a_text_for_kubernetes(value: str, tmp_path: Path) -> None:
    spec = opened(tmp_path, graph_text("v1beta1"))
    spec.set_service_env_var("decode", "A", value)
    spec.add_arg_to_service("decode", "--a", value or "x")
    main = yaml.safe_load(spec.text())["spec"]["components"][1]["podTemplate"]["spec"]["containers"]
    assert main[0]["env"] == [{"name": "A", "value": value}]
    written = next(line for line in spec.text().splitlines() if "value:" in line)
    assert re.fullmatch(r"""\s+value: (["'])(.*)\1""", written)


def test_a_new_text_keeps_the_quotes_of_the_one_before(tmp_path: Path) -> None:
    text = graph_text("v1beta1")
    text = text.replace("registry.example/runtime:1.6.1  # pinned", "'old:1'  # pinned")
    text = text.replace(
        "              image: registry.example/runtime:1.6.1\n", '              image: "old:1"\n'
    )
    spec = opened(tmp_path, text)
    spec.set_image("new:2")
    assert "image: 'new:2'  # pinned\n" in spec.text()
    assert 'image: "new:2"\n' in spec.text()


FOLDED = """\
              command: [sh, -c]
              args:
                - >-  # one line
                  python3 -m dynamo.vllm
                  --model Qwen/Qwen3-0.6B
                  --max-model-len 4096

                # below the script
                - unused
"""


def test_a_folded_script_keeps_its_folds(tmp_path: Path) -> None:
    text = graph_text("v1beta1")
    begin = text.index("              command:")
    text = text[:begin] + FOLDED + "# the end\n"
    spec = opened(tmp_path, text)
    spec.set_model("a-much/longer-name-than-the-one-before")
    assert spec.text() == text.replace("Qwen/Qwen3-0.6B", "a-much/longer-name-than-the-one-before")
    spec.set_model("a/b")
    spec.add_arg_to_service("decode", "--seed", "1")
    expected = text.replace("Qwen/Qwen3-0.6B", "a/b").replace("4096", "4096 --seed 1")
    assert spec.text() == expected


BLOCK = "\n      # about what follows\n      # in two lines\n"


@pytest.mark.parametrize(
    ("tail", "edit"),
    [
        # The last value before the comment is plain, quoted, flow, a block, nothing, deeper.
        ("envs:\n        - name: A\n          value: b  # why", "env"),
        ('envs:\n        - name: A\n          value: "b"', "env"),
        ("envs:\n        - {name: A, value: b}  # why", "env"),
        ("envs: [{name: A, value: b}]", "env"),
        ("envs:\n        - name: A\n          value: |\n            b", "env"),
        (
            "envs:\n        - name: A\n          valueFrom:\n            fieldRef: {fieldPath: x}",
            "same",
        ),
        ("envs:  # none yet", "env"),
        ("envs: []", "env"),
    ],
)
def test_what_is_added_stands_before_the_comment_about_what_follows(
    tail: str, edit: str, tmp_path: Path
) -> None:
    text = (
        "apiVersion: nvidia.com/v1alpha1\nkind: DynamoGraphDeployment\nspec:\n  services:\n"
        f"    x:\n      {tail}\n{BLOCK}      replicas: 1\n"
    )
    spec = opened(tmp_path, text)
    spec["x"].set_env_var("A" if edit == "same" else "B", "new")
    assert spec.text().endswith(f"{BLOCK}      replicas: 1\n")
    assert comments(spec.text()) == comments(text)
    assert yaml.safe_load(spec.text()) == spec.spec()
    assert spec["x"].get_env_var("A" if edit == "same" else "B") == "new"


def test_what_replaces_a_mapping_stands_before_the_comment_about_what_follows(
    tmp_path: Path,
) -> None:
    text = (
        "apiVersion: nvidia.com/v1alpha1\nkind: DynamoGraphDeployment\nspec:\n  services:\n"
        "    x:\n      readinessProbe:\n        exec:\n          command: [a]\n"
        f"{BLOCK}      replicas: 1\n"
    )
    spec = opened(tmp_path, text)
    spec["x"].set_readiness_probe()
    assert spec.text().endswith(f"        failureThreshold: 3\n{BLOCK}      replicas: 1\n")


SHARED = """\
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: g}
spec:
  services:
    a: &a
      componentType: worker
      envs: &env
        - name: A  # shared
          value: one
      extraPodSpec:
        mainContainer: {image: "a:1"}
    b:
      componentType: worker
      envs: *env
    c:
      <<: *a
      replicas: 3
"""


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_an_edit_of_one_service_changes_no_other_that_shares_an_anchor(
    name: str, tmp_path: Path
) -> None:
    assert opened(tmp_path, SHARED).text() == SHARED
    spec = opened(tmp_path, SHARED)
    spec[name].set_env_var("A", "two")
    spec[name].set_env_var("B", "b")
    spec[name].image = "b:1"
    spec.save(tmp_path / "saved.yaml")
    saved = DeploymentSpec(tmp_path / "saved.yaml")
    plain = yaml.safe_load((tmp_path / "saved.yaml").read_text())
    assert plain == saved.spec() == spec.spec()
    before = yaml.safe_load(SHARED)["spec"]["services"]
    for service in saved.services:
        if service.name == name:
            assert service.get_env_var("A") == "two"
            assert service.image == "b:1"
        else:
            assert plain["spec"]["services"][service.name] == before[service.name]


def test_a_mapping_that_shares_a_list_is_edited_in_one_place() -> None:
    env = [{"name": "A", "value": "one"}]
    services = {"a": {"envs": env}, "b": {"envs": env}}
    graph = {"kind": "DynamoGraphDeployment", "spec": {"services": services}}
    spec = DeploymentSpec.from_mapping(graph)
    spec["a"].set_env_var("A", "two")
    assert spec["b"].get_env_var("A") == "one"


DGD = "kind: DynamoGraphDeployment\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no DynamoGraphDeployment: it holds nothing"),
        (f"{SECRET}---\na: 1\n", "it holds Secret, a document without kind"),
        ("- a\n- b\n", "it holds a document without kind"),
        (f"{DGD}---\n{SECRET}---\n{DGD}", "holds 2 DynamoGraphDeployments"),
        ("kind: List\nitems: []\n", "it holds List"),
        (f"{DGD}spec: [a\n", r"is no YAML in line 3"),
        (
            f"{SECRET}---\n{DGD}spec: {{a: 1}}\nspec: {{}}\n",
            "is no YAML in line 7: found duplicate key",
        ),
        (f"{DGD}apiVersion: apps/v1\n", "is of apps/v1"),
    ],
)
def test_a_file_that_is_not_one_dgd_is_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(FaultlineError, match=sentence) as caught:
        opened(tmp_path, text)
    assert "graph.yaml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FaultlineError, match=r"Cannot read .*missing\.yaml"):
        DeploymentSpec(tmp_path / "missing.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FaultlineError, match=r"Cannot read .*binary"):
        DeploymentSpec(tmp_path / "binary")
