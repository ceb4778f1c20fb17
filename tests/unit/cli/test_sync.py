"""The command sync: what it says, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gitrepo import Repository
from tests.unit.cli.conftest import Ended, Shell


class Sync:
    """The command with a configuration that names a repository with alice on it."""

    def __init__(self, shell: Shell, tmp_path: Path) -> None:
        self.shell = shell
        self.repository = Repository(tmp_path / "repository")
        self.repository.declare("alice")
        self.config = tmp_path / "sync.yaml"
        self.config.write_text(f"repository: {self.repository.path}\ntimeout: 30s\n")

    def __call__(self, *arguments: str) -> Ended:
        """Run it."""
        return self.shell("sync", "--config", str(self.config), *arguments)


@pytest.fixture
def sync(shell: Shell, tmp_path: Path) -> Sync:
    """Give the command."""
    return Sync(shell, tmp_path)


def test_applied_and_unchanged(sync: Sync) -> None:
    short = sync.repository.head[:12]
    done = sync()
    assert (done.code, done.err) == (0, "")
    assert done.out == f"branch main of {sync.repository.path} is in use now: commit {short}, 1 environment\n"
    assert sync().out == f"commit {short} of branch main is in use already, 1 environment\n"
    assert sync.shell("validate").out == "1 environment is valid\n"


def test_refused(sync: Sync) -> None:
    sync()
    good = sync.repository.head[:12]
    sync.repository.write("environments/bob.yaml", "kind: Environment\n")
    bad = sync.repository.commit()[:12]
    done = sync()
    assert done.code == 1
    assert all(line.startswith("environments/bob.yaml:") and "; " in line for line in done.out.splitlines())
    assert done.err.endswith(f" in commit {bad} of branch main: {good} stays in use\n")
    told = sync("--output", "json")
    assert told.code == 1
    assert (told.json["result"], told.json["commit"][:12], told.json["applied"][:12]) == ("refused", bad, good)
    assert told.json["problems"]


def test_check(sync: Sync) -> None:
    done = sync("--check")
    assert done.code == 0
    assert done.out.endswith("is valid, 1 environment; it was not swapped in\n")
    assert list(sync.shell.folder.iterdir()) == []


def test_a_branch_taken_back_is_told(sync: Sync) -> None:
    first = sync.repository.head
    second = sync.repository.declare("bob")
    sync()
    sync.repository.git("reset", "--quiet", "--hard", first)
    assert f"was taken back to an earlier commit: {second[:12]} was in use before" in sync().out


def test_options_override(sync: Sync) -> None:
    sync.repository.git("tag", "v1")
    sync.repository.git("branch", "next")
    assert "tag v1 of" in sync("--tag", "v1").out
    assert "of branch next is in use already" in sync("--branch", "next").out
    assert "is in use now" in sync("--path", ".").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--repository", "ext::sh -c id"),
            "--repository: 'ext::sh -c id' would run a command; write https://HOST/PATH",
        ),
        (("--branch=-x",), "--branch: '-x' cannot be the name of a branch or tag; write it like main or v1.2"),
        (("--tag", "absent"), "there is no tag absent in "),
        (("--repository", "/nowhere/at-all"), "there is no repository at /nowhere/at-all; mend the address"),
        (("--path", "absent"), "there is no folder absent in commit "),
    ],
)
def test_errors_are_one_line_with_a_remedy(sync: Sync, arguments: tuple[str, ...], said: str) -> None:
    done = sync(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"containarium: error: {said}")
    assert done.err.count("\n") == 1
    assert "; " in done.err


def test_a_mistake_in_the_file(sync: Sync) -> None:
    sync.config.write_text("repository: /x\nbrunch: main\ntimout: 2m\n")
    done = sync()
    assert (done.code, done.out) == (1, "")
    assert f"{sync.config}:2:1: brunch: there is no field 'brunch'; did you mean branch?" in done.err
    assert f"{sync.config}:3:1: timout: there is no field 'timout'; did you mean timeout?" in done.err


def test_a_file_that_is_not_there(sync: Sync) -> None:
    sync.config.unlink()
    assert "sync.yaml: No such file or directory" in sync().err


def test_a_folder_with_files_is_left_alone(sync: Sync) -> None:
    sync.shell.declare("carol")
    done = sync()
    assert done.code == 1
    assert "is a folder with files of its own; commit what is needed of it to the repository, then: mv " in done.err
    assert (sync.shell.folder / "carol.yaml").exists()


def test_it_needs_root(sync: Sync) -> None:
    sync.shell.root = False
    assert sync().err == "containarium: error: needs root: sudo containarium sync\n"
