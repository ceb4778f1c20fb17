"""EnvironmentClass: what many have in common, who says otherwise, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from containarium.model.environment import Environment
from containarium.model.environmentclass import EnvironmentClass, merged
from containarium.model.schema import class_schema, class_schema_text
from containarium.sources.cached import CachedSource
from containarium.sources.directory import load, load_file
from tests.builders import public_key

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: containarium.dev/v1\n"
STUDENT = f"""{HEAD}kind: EnvironmentClass
metadata: {{name: student, labels: {{course: unix, room: "1"}}}}
spec:
  image: bootstrap:debian/12
  resources: {{cpu: 2, memory: 2GiB}}
  packages: [git, tmux]
  snapshots: {{schedule: "@weekly"}}
  expires: 2027-01-31
  deletion: {{grace: 30d, backup: true}}
"""


def member(name: str, spec: str = "", metadata: str = "") -> str:
    key = public_key(name)
    return (
        f"{HEAD}kind: Environment\nmetadata: {{name: {name}{metadata}}}\n"
        f"spec: {{class: student, sshKeys: [{key}]{spec}}}\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A class in a file of its own."""
    folder = tmp_path / "environments"
    folder.mkdir()
    (folder / "student.yaml").write_text(STUDENT)
    return folder


def environments(folder: Path) -> dict[str, Environment]:
    found = load(folder)
    assert found.problems == ()
    return {manifest.name: manifest.environment for manifest in found.manifests}


def test_a_member_is_as_its_class_says(folder: Path) -> None:
    (folder / "alice.yaml").write_text(member("alice"))
    alice = environments(folder)["alice"]
    assert (str(alice.spec.resources.cpu), str(alice.spec.resources.memory)) == ("2", "2GiB")
    assert str(alice.spec.resources.disk) == "50GiB", "which neither of them says"
    assert alice.spec.packages == ("git", "tmux")
    assert alice.spec.snapshots is not None
    assert str(alice.spec.expires) == "2027-01-31"
    assert (str(alice.spec.deletion.grace), alice.spec.deletion.backup) == ("30d", True)
    assert alice.metadata.labels == {"course": "unix", "room": "1"}
    assert alice.spec.class_name is None, "what it says is all said now"


def test_what_a_member_says_itself_counts(folder: Path) -> None:
    spec = ", resources: {memory: 8GiB}, packages: [], snapshots: null, deletion: {backup: false}, docker: true"
    (folder / "a.yaml").write_text(member("alice", spec, ', labels: {room: "2", team: ml}') + "---\n" + member("bob"))
    found = environments(folder)
    alice = found["alice"]
    assert (str(alice.spec.resources.cpu), str(alice.spec.resources.memory)) == ("2", "8GiB")
    assert (alice.spec.packages, alice.spec.snapshots, alice.spec.docker) == ((), None, True)
    assert (str(alice.spec.deletion.grace), alice.spec.deletion.backup) == ("30d", False)
    assert alice.metadata.labels == {"course": "unix", "room": "2", "team": "ml"}
    assert str(found["bob"].spec.resources.memory) == "2GiB"


def test_a_member_equals_the_same_written_out(folder: Path) -> None:
    (folder / "alice.yaml").write_text(member("alice"))
    named = EnvironmentClass.model_validate(yaml.safe_load(STUDENT) | {"spec": {"docker": True}})
    own: dict[str, Any] = {
        "apiVersion": "containarium.dev/v1",
        "kind": "Environment",
        "metadata": {"name": "alice"},
        "spec": {"sshKeys": [public_key("alice")], "class": "student"},
    }
    out = own | {
        "metadata": {"name": "alice", "labels": {"course": "unix", "room": "1"}},
        "spec": {"sshKeys": [public_key("alice")], "docker": True},
    }
    assert merged(Environment.model_validate(own), named) == Environment.model_validate(out)


def test_an_edited_class_changes_all_of_its_members(folder: Path) -> None:
    (folder / "class.yaml").write_text("---\n".join(map(member, ("alice", "bob"))))
    source = CachedSource(folder)
    source.load()
    before = source.revision("alice")
    (folder / "student.yaml").write_text(STUDENT.replace("2GiB", "4GiB"))
    found = source.load()
    assert {str(m.environment.spec.resources.memory) for m in found.manifests} == {"4GiB"}
    assert source.revision("alice") != before
    assert source.generation == 2
    source.load()
    assert source.generation == 2, "nothing changed"


@pytest.mark.parametrize(
    ("text", "where", "field", "message", "remedy"),
    [
        (STUDENT.replace("memory: 2GiB", "memory: 2G"), "6:31", "spec.resources.memory", "'2G' is not a size", "2GiB"),
        (STUDENT.replace("image:", "imag:"), "5:3", "spec.imag", "there is no field 'imag'", "did you mean image?"),
        (STUDENT + f"  sshKeys: [{public_key('x')}]\n", "11:3", "spec.sshKeys", "no field", "each has its own"),
        (STUDENT + "  network: {ipv4: 10.0.3.9}\n", "11:3", "spec.network", "no field", "each has its own"),
        (STUDENT + "  class: other\n", "11:3", "spec.class", "no field", "a class has no class"),
        (STUDENT.replace("name: student", "name: Student"), "3:18", "metadata.name", "cannot be the name", "lowercase"),
        (STUDENT.replace("v1", "v2"), "1:13", "apiVersion", "'containarium.dev/v2' is not known", "dev/v1"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_class_has_a_place_and_a_remedy(
    folder: Path, text: str, where: str, field: str, message: str, remedy: str
) -> None:
    (folder / "student.yaml").write_text(text)
    (folder / "alice.yaml").write_text(member("alice"))
    (folder / "carol.yaml").write_text(member("carol").replace("class: student, ", ""))
    found = load(folder)
    problem = next(p for p in found.problems if p.location.file.endswith("student.yaml"))
    assert str(problem.location) == f"{folder}/student.yaml:{where}"
    assert (problem.field, problem.environment) == (field, "")
    assert message in problem.message
    assert remedy in problem.remedy
    assert [p.environment for p in found.problems if p is not problem] == ["alice"], "who stays as she is"
    assert [m.name for m in found.manifests] == ["carol"]


def test_a_class_that_is_missing_is_told_at_the_field(folder: Path) -> None:
    (folder / "alice.yaml").write_text(member("alice").replace("student", "studnet"))
    (problem,) = load(folder).problems
    assert str(problem) == (f"{folder}/alice.yaml:4:15: spec.class: there is no class 'studnet'; did you mean student?")
    assert problem.environment == "alice"


def test_two_classes_of_one_name_are_both_refused(folder: Path) -> None:
    (folder / "z.yaml").write_text(STUDENT)
    (folder / "alice.yaml").write_text(member("alice"))
    found = load(folder)
    assert [(p.location.file.rpartition("/")[2], p.reason) for p in found.problems] == [
        ("alice.yaml", "ClassMissing"),
        ("student.yaml", "DuplicateName"),
        ("z.yaml", "DuplicateName"),
    ]
    assert found.manifests == ()


def test_classes_alone_are_nobody_and_an_empty_folder_is_unknown(folder: Path) -> None:
    found = load(folder)
    assert not found.complete
    assert [problem.reason for problem in found.problems] == ["SourceEmpty"]


def test_a_class_and_an_environment_of_one_name_are_no_conflict(folder: Path) -> None:
    (folder / "alice.yaml").write_text(member("student"))
    assert set(environments(folder)) == {"student"}


def test_one_file_alone_does_not_miss_a_class_that_may_stand_elsewhere(folder: Path) -> None:
    (folder / "alice.yaml").write_text(member("alice"))
    found = load_file(folder / "alice.yaml")
    assert found.problems == ()
    assert [m.name for m in found.manifests] == ["alice"]


def test_the_order_of_files_does_not_matter(folder: Path) -> None:
    (folder / "a.yaml").write_text(member("alice"))
    (folder / "student.yaml").rename(folder / "zz.yaml")
    assert str(environments(folder)["alice"].spec.resources.memory) == "2GiB"


def test_who_has_no_class_is_as_before(folder: Path) -> None:
    (folder / "alice.yaml").write_text(member("alice").replace("class: student, ", ""))
    assert str(environments(folder)["alice"].spec.resources.memory) == "4GiB"


def test_the_schema_is_that_of_the_types() -> None:
    written = (ROOT / "schemas" / "environmentclass.schema.json").read_text(encoding="utf-8")
    assert written == class_schema_text(), "run make schema"
    schema = class_schema()
    assert schema["$id"] == "https://containarium.dev/schemas/environmentclass.schema.json"
    spec = schema["$defs"]["ClassSpec"]
    assert spec["additionalProperties"] is False
    assert {"sshKeys", "network", "class"}.isdisjoint(spec["properties"])
    assert {"image", "resources", "packages", "expires", "deletion"} <= spec["properties"].keys()
    assert "required" not in spec
    for model in (*schema["$defs"].values(), schema):
        assert all("description" in field for field in model.get("properties", {}).values())
