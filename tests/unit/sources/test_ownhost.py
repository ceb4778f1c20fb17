"""Which Host manifest is this machine's own, and when that cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from containarium.model.manifest import Load
from containarium.sources.directory import load
from containarium.sources.ownhost import RefusedError, declaration, declared_by, only_host

EXAMPLES = Path(__file__).parents[3] / "examples" / "hosts"
HEAD = "apiVersion: containarium.dev/v1\nkind: Host\n"
ALICE = "apiVersion: containarium.dev/v1\nkind: Environment\nmetadata: {name: alice}\nspec: {sshKeys: [x]}\n"


def _host(name: str, subnet: str = "10.0.3.1/24", **more: str) -> str:
    lines = "".join(f"  {key}: {value}\n" for key, value in more.items())
    return f"{HEAD}metadata: {{name: {name}}}\nspec:\n  network: {{subnet: {subnet}}}\n{lines}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give an empty folder of manifests."""
    made = tmp_path / "environments"
    made.mkdir()
    return made


def test_nothing_is_declared_where_nothing_is_written(folder: Path) -> None:
    found = declaration(load(folder), folder / "host.yaml", "jump-1")
    assert (found.own, found.hosts, found.whole) == (None, (), True)


def test_the_one_of_its_name_among_the_manifests_counts_before_the_start_up_script_s(folder: Path) -> None:
    (folder / "one.yaml").write_text(_host("jump-1", "10.0.4.1/24"))
    (folder / "two.yaml").write_text(_host("jump-2", "10.0.5.1/24"))
    fallback = folder.parent / "host.yaml"
    fallback.write_text(_host("jump-1"))
    found = declaration(load(folder), fallback, "jump-1")
    assert found.own is not None
    assert str(found.own.manifest.network) == "10.0.4.0/24"
    assert [host.name for host in found.hosts] == ["jump-1", "jump-2"]


def test_the_start_up_script_s_counts_where_the_folder_has_none_of_its_name(folder: Path) -> None:
    (folder / "two.yaml").write_text(_host("jump-2", "10.0.5.1/24"))
    (folder / "alice.yaml").write_text(ALICE)
    fallback = folder.parent / "host.yaml"
    fallback.write_text(_host("jump-1"))
    found = declaration(load(folder), fallback, "jump-1")
    assert found.own is not None
    assert found.own.origin.file == str(fallback)
    assert [host.name for host in found.hosts] == ["jump-2"], "and it is no member of the fleet by that"


def test_a_broken_environment_is_no_reason_to_stop(folder: Path) -> None:
    (folder / "alice.yaml").write_text(ALICE)
    (folder / "one.yaml").write_text(_host("jump-1"))
    assert declaration(load(folder), folder / "none", "jump-1").own is not None


def test_a_broken_host_that_may_be_this_one_is(folder: Path) -> None:
    """The start-up script's is not taken instead: it may say something else."""
    (folder / "one.yaml").write_text(_host("jump-1", "nowhere"))
    fallback = folder.parent / "host.yaml"
    fallback.write_text(_host("jump-1"))
    with pytest.raises(RefusedError) as refused:
        declaration(load(folder), fallback, "jump-1")
    (problem,) = refused.value.problems
    assert str(problem).startswith(f"{folder / 'one.yaml'}:5:")
    assert problem.field == "spec.network.subnet"


def test_another_host_s_mistake_does_not_hold_up_this_one(folder: Path) -> None:
    (folder / "one.yaml").write_text(_host("jump-1"))
    (folder / "two.yaml").write_text(_host("jump-2", "nowhere"))
    found = declaration(load(folder), folder / "none", "jump-1")
    assert found.own is not None
    assert not found.whole


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_host("jump-2"), "this machine is jump-1"),
        (_host("jump-1") + "---\n" + _host("jump-3", "10.0.9.1/24"), "there are 2 Host manifests"),
        (ALICE.replace("[x]", "[]"), "sshKeys"),
        (_host("jump-1", disk="x"), "disk"),
    ],
)
def test_a_file_that_is_not_this_machine_s_is_refused(folder: Path, text: str, words: str) -> None:
    file = folder.parent / "host.yaml"
    file.write_text(text)
    with pytest.raises(RefusedError, match=words):
        declaration(load(folder), file, "jump-1")


def test_a_file_that_is_named_counts_before_all(folder: Path) -> None:
    (folder / "one.yaml").write_text(_host("jump-1", "10.0.4.1/24"))
    file = folder.parent / "try.yaml"
    file.write_text(_host("jump-1", "10.0.6.1/24"))
    found = declared_by(file, load(folder), "jump-1")
    assert [str(host.manifest.network) for host in found.hosts] == ["10.0.6.0/24"]


def test_the_digest_is_of_what_is_meant(folder: Path) -> None:
    file = folder.parent / "host.yaml"
    file.write_text(_host("jump-1"))
    before = declaration(Load(complete=True), file, "jump-1").digest
    file.write_text("# the same\n\n" + _host("jump-1"))
    assert declaration(Load(complete=True), file, "jump-1").digest == before
    file.write_text(_host("jump-1", logs="{retention: 30d}"))
    assert declaration(Load(complete=True), file, "jump-1").digest != before


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_examples(file: Path) -> None:
    """Each is the manifest of the machine that its file is named after, and names its schema for editors."""
    assert only_host(file, file.stem).name == file.stem
    first = file.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../schemas/host.schema.json"
    assert (file.parent / first.partition("=")[2]).is_file()


def test_there_are_examples() -> None:
    assert list(EXAMPLES.glob("*.yaml"))
