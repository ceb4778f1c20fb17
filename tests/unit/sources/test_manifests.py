"""What is written in manifests: every mistake becomes a problem with a place, a message and a remedy."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from containarium.model.manifest import Load
from containarium.model.problem import Problem
from containarium.sources.directory import load, load_file
from containarium.sources.yamltree import resolve
from tests.unit.sources.cases import CASES, HEAD, KEY_CASES, Case
from tests.unit.sources.conftest import Folder, manifest, public_key

EXAMPLES = Path(__file__).parents[3] / "examples" / "manifests"


def only(read: Load) -> Problem:
    assert len(read.problems) == 1, [str(problem) for problem in read.problems]
    return read.problems[0]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_mistake_has_a_place_and_a_remedy(folder: Folder, case: Case) -> None:
    file = folder.write("x.yaml", case.text if case.text.startswith("---") else HEAD + case.text + "\n")
    read = load(folder.path)
    assert read.complete
    assert read.manifests == ()
    problem = next(problem for problem in read.problems if problem.field == case.field)
    assert f"{problem.location}" == f"{file}:{case.where}"
    assert case.message in problem.message
    assert case.remedy in problem.remedy


@pytest.mark.parametrize("case", KEY_CASES, ids=[case.name for case in KEY_CASES])
def test_mistakes_in_keys(folder: Folder, case: Case) -> None:
    file = folder.write("x.yaml", manifest("alice", keys=case.text))
    problem = only(load(folder.path))
    assert f"{problem.location}: {problem.field}" == f"{file}:{case.where}: {case.field}"
    assert case.message in problem.message
    assert case.remedy in problem.remedy
    assert problem.environment == "alice"


def test_a_good_manifest(folder: Folder) -> None:
    keys = f'"{public_key(9)}", {{file: keys/alice.pub}}, "{public_key(9)}"'
    more = "  expires: 2026-12-31\n  resources: {cpu: 0-3, memory: 8GB}\n  packages:\n    - git\n"
    file = folder.write("team/alice.yml", manifest("alice", keys, more))
    read = load(folder.path)
    assert (read.problems, read.complete, read.source) == ((), True, str(folder.path))
    (found,) = read.manifests
    assert found.environment.spec.expires == date(2026, 12, 31)
    assert str(found.environment.spec.resources.cpu) == "0-3"
    assert [key.line for key in found.keys] == [public_key(9), public_key(1)]
    origin = found.origin
    assert str(origin.locate("spec.resources.memory")) == f"{file}:8:33"
    assert str(origin.locate("spec.packages[0]")) == f"{file}:10:7"
    assert str(origin.locate("spec.resources.disk")) == f"{file}:8:3"
    assert str(origin.locate("spec.docker")) == f"{file}:5:1"
    assert str(origin.locate("status")) == f"{file}:1:1"


def test_several_documents_in_a_file(folder: Folder) -> None:
    host = "apiVersion: containarium.dev/v1\nkind: Host\nmetadata: {name: jump-1}\n"
    folder.write("all.yaml", "---\n".join(["# nothing\n", manifest("alice"), host, "", manifest("bob")]))
    read = load(folder.path)
    assert read.problems == ()
    assert [m.name for m in read.manifests] == ["alice", "bob"]
    assert str(read.manifests[1].origin.locate("metadata.name")).endswith("all.yaml:18:9")


def test_a_broken_document_leaves_those_before_it(folder: Folder) -> None:
    folder.write("all.yaml", manifest("alice") + "---\n" + manifest("bob", more="  docker: no\n") + "---\n[")
    read = load(folder.path)
    assert [m.name for m in read.manifests] == ["alice"]
    assert [problem.environment for problem in read.problems] == ["bob", ""]


def test_byte_order_mark_and_line_ends_do_not_matter(folder: Folder) -> None:
    folder.write("alice.yaml", b"\xef\xbb\xbf" + manifest("alice").replace("\n", "\r\n").encode())
    read = load(folder.path)
    assert (len(read.manifests), read.problems) == (1, ())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(folder: Folder, encoding: str) -> None:
    folder.write("alice.yaml", manifest("alice").encode(encoding))
    assert only(load(folder.path)).remedy == "save the file as UTF-8"


def test_invalid_utf8_is_placed(folder: Folder) -> None:
    file = folder.write("alice.yaml", manifest("alice").encode() + "# Zo\u00eb".encode("latin-1"))
    problem = only(load(folder.path))
    assert str(problem) == f"{file}:7:5: byte 0xeb is not UTF-8; save the file as UTF-8"


def test_one_name_twice(folder: Folder) -> None:
    one = folder.write("a.yaml", manifest("alice"))
    two = folder.write("b.yaml", manifest("alice", more="  docker: maybe\n"))
    folder.add("bob")
    read = load(folder.path)
    assert [m.name for m in read.manifests] == ["bob"]
    told = [problem for problem in read.problems if problem.reason == "DuplicateName"]
    assert [str(problem) for problem in told] == [
        f"{one}:4:9: metadata.name: the name alice is taken: alice at {two}:4:9; keep one of them, or rename one",
        f"{two}:4:9: metadata.name: the name alice is taken: alice at {one}:4:9; keep one of them, or rename one",
    ]


def test_a_foreign_object_of_the_same_name_takes_nothing(folder: Folder) -> None:
    folder.add("alice")
    folder.write("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: alice}\n")
    read = load(folder.path)
    assert [m.name for m in read.manifests] == ["alice"]
    assert (only(read).field, only(read).environment) == ("kind", "")


def test_one_key_for_two_people(folder: Folder) -> None:
    folder.write("keys/bob.pub", f"# old\n{public_key(7)}\n{public_key(1)} another comment\n")
    folder.add("alice", "bob", "carol")
    read = load(folder.path)
    assert [m.name for m in read.manifests] == ["carol"]
    assert [(problem.environment, problem.field, problem.reason) for problem in read.problems] == [
        ("alice", "spec.sshKeys[0]", "SharedKey"),
        ("bob", "spec.sshKeys[0]", "SharedKey"),
    ]
    assert "the key SHA256:" in read.problems[0].message
    assert f"bob at {folder.path}/bob.yaml:6:13" in read.problems[0].message


def test_one_address_twice(folder: Folder) -> None:
    for name in ("alice", "bob"):
        folder.write(f"{name}.yaml", manifest(name, more="  network: {ipv4: 10.0.3.7}\n"))
    read = load(folder.path)
    assert read.manifests == ()
    assert [(p.location.line, p.location.column, p.reason) for p in read.problems] == [(7, 19, "DuplicateAddress")] * 2


def test_many_claimants_are_told_briefly(folder: Folder) -> None:
    for number in range(50):
        folder.write(f"{number:02}.yaml", manifest("alice"))
    read = load(folder.path)
    assert len(read.problems) == 50
    assert all(problem.message.endswith(" and 46 more") for problem in read.problems)


def test_a_key_file_may_hold_several_keys(folder: Folder) -> None:
    folder.write("keys/alice.pub", f"# laptop\n{public_key(4)}\n\n  {public_key(5)}  \r\n{public_key(4)}\n")
    folder.add("alice")
    assert [key.line for key in load(folder.path).manifests[0].keys] == [public_key(4), public_key(5)]


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (f"{public_key(4)}\nssh-rsa AAAA\n", ":2:1", "cut short"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", ":1:1", "this is a private key"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\n", ":1:1", "PuTTY's format"),
        ("\n\nssh-ed25519 \x01\n", ":3:13", "an invisible character"),
        (b"\xff\xfe\x00", ":1:1", "UTF-16"),
    ],
)
def test_mistakes_in_key_files_are_placed_there(folder: Folder, content: str | bytes, place: str, message: str) -> None:
    file = folder.write("keys/alice.pub", content)
    folder.add("alice")
    problem = only(load(folder.path))
    assert str(problem.location) == f"{file}{place}"
    assert message in problem.message
    assert (problem.environment, problem.field) == ("alice", "spec.sshKeys[0]")


@pytest.mark.parametrize(("content", "message"), [("", "has no key in it"), ("x" * 70_000, "larger than 64 KiB")])
def test_key_files_without_use(folder: Folder, content: str, message: str) -> None:
    folder.write("keys/alice.pub", content)
    folder.add("alice")
    assert message in only(load(folder.path)).message


def test_a_file_alone(folder: Folder) -> None:
    file = folder.write("alice.yaml", manifest("alice"))
    folder.write("bob.yaml", "broken: [")
    read = load_file(file)
    assert [m.name for m in read.manifests] == ["alice"]
    assert (read.problems, read.complete) == ((), False)
    assert only(load_file(folder.path / "nobody.yaml")).message == "it is not there"
    assert only(load_file(folder.path)).message == "this is not a regular file"
    assert only(load_file(folder.path / "no" / "such.yaml")).message == "the folder does not exist"


def test_a_file_in_the_working_directory(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("alice.yaml", manifest("alice", more="  docker: 5\n"))
    monkeypatch.chdir(folder.path)
    assert str(only(load_file(Path("alice.yaml"))).location) == "alice.yaml:7:11"
    assert str(only(load(Path())).location) == "alice.yaml:7:11"


def test_examples() -> None:
    read = load(EXAMPLES)
    assert (read.problems, read.complete) == ((), True)
    assert [m.name for m in read.manifests] == ["alice", "bob", "carol"]
    assert all(m.keys[0].comment == f"{m.name}@example" for m in read.manifests)
    for file in EXAMPLES.glob("*.yaml"):
        first = file.read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=../../schemas/environment.schema.json"
        assert (file.parent / first.partition("=")[2]).is_file()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("4", 4),
        ("-4", -4),
        ("0", 0),
        ("010", "010"),
        ("0o10", 8),
        ("0x10", 16),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("9" * 30, "9" * 30),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.2.3", "1.2.3"),
        (".nan", ".nan"),
        ("-", "-"),
        ("2026-12-31", "2026-12-31"),
        ("10.0.3.100", "10.0.3.100"),
        ("0-3", "0-3"),
        ("1,3", "1,3"),
        ("=", "="),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)
