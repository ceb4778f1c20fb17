"""plan: what it prints, and above all how it exits."""

from __future__ import annotations

from pathlib import Path

import pytest

from containarium.model.observed import Look
from containarium.simulate.faults import Boundary, Fail, Fault
from containarium.simulate.world import World
from tests.unit.cli.conftest import Shell


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--detailed-exitcode",), 2)])
def test_changes(shell: Shell, flags: tuple[str, ...], code: int) -> None:
    shell.declare("alice")
    done = shell("plan", *flags)
    assert done.code == code
    assert "  + alice will be created\n" in done.out
    assert done.out.endswith("Plan: 1 to create, 0 unchanged.\n")


@pytest.mark.parametrize("flags", [(), ("--detailed-exitcode",), ("--shallow", "--detailed-exitcode")])
def test_no_changes(shell: Shell, flags: tuple[str, ...]) -> None:
    shell.declare("alice")
    shell("apply")
    done = shell("plan", *flags)
    assert (done.code, done.out) == (0, "Plan: nothing to do, 1 unchanged.\n")


def test_it_changes_nothing(shell: Shell) -> None:
    shell.declare("alice")
    before = shell.world.snapshot()
    shell("plan")
    assert shell.world.snapshot() == before


def test_shallow_does_not_look_inside(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.somebody.set_root_password("alice-container")
    assert shell("plan", "--shallow", "--detailed-exitcode").code == 0
    assert shell("plan", "--detailed-exitcode").code == 2
    assert shell.world.snapshot(Look.SHALLOW).guests == {}


@pytest.mark.parametrize("flags", [(), ("--detailed-exitcode",)])
def test_a_refused_manifest_is_an_error_and_the_others_are_planned(shell: Shell, flags: tuple[str, ...]) -> None:
    shell.declare("alice", "bob")
    shell.somebody.add_account("bob")
    done = shell("plan", *flags)
    assert done.code == 1
    assert "alice will be created" in done.out
    assert f"Refused: {shell.folder / 'bob.yaml'}:" in done.out


def test_a_manifest_that_does_not_load_is_an_error(shell: Shell) -> None:
    shell.declare("alice")
    shell.write("bob.yaml", "metadata: {name: bob\n")
    done = shell("plan", "--detailed-exitcode")
    assert done.code == 1
    assert "bob.yaml" in done.out


@pytest.mark.parametrize("flags", [(), ("--detailed-exitcode",)])
def test_too_much_going_away_is_unsafe_until_exactly_that_is_approved(shell: Shell, flags: tuple[str, ...]) -> None:
    shell.declare("alice", "bob", "carol")
    shell("apply")
    (shell.folder / "alice.yaml").unlink()
    (shell.folder / "bob.yaml").unlink()
    unsafe = shell("plan", "-o", "json", *flags)
    assert unsafe.code == 3
    (interlock,) = unsafe.json["interlocks"]
    assert interlock["environments"] == ["alice", "bob"]
    assert shell("plan", *flags, "--approve", "0" * 12).code == 3
    approved = shell("plan", *flags, "--approve", "0" * 12, "--approve", interlock["digest"])
    assert approved.code == (2 if flags else 0)
    assert "2 to retire" in approved.out


def test_json_is_stable(shell: Shell) -> None:
    shell.declare("alice", "bob", packages=["tmux", "git"])
    first, second = shell("plan", "-o", "json"), shell("plan", "-o", "json")
    assert first.out == second.out
    assert [environment["name"] for environment in first.json["environments"]] == ["alice", "bob"]
    assert first.json["summary"] == "Plan: 2 to create, 0 unchanged."
    assert first.err == ""


def test_restart_is_asked_for(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.declare("alice", docker=True)
    assert "RestartInstance" not in shell("plan", "-o", "json").out
    assert "RestartInstance" in shell("plan", "-o", "json", "--restart").out


def test_the_folder_by_argument_and_by_option(shell: Shell, tmp_path: Path) -> None:
    shell.declare("alice")
    other = tmp_path / "other"
    shell.folder.rename(other)
    for arguments in ((str(other),), ("-f", str(other)), ("--manifests", str(other)), (str(other), "-f", str(other))):
        assert "alice will be created" in shell("plan", *arguments).out
    both = shell("plan", str(other), "-f", str(tmp_path))
    assert both.code == 1
    assert both.err == "containarium: error: there are two folders of manifests; give PATH or --manifests, not both\n"


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_missing_folder_is_one_line(shell: Shell, command: str) -> None:
    shell.folder.rmdir()
    done = shell(command)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"containarium: error: there is no folder {shell.folder} with manifests; "
        "make it, or name another with --manifests\n"
    )


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_single_file_is_never_taken_for_everything(shell: Shell, command: str) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    done = shell(command, str(shell.folder / "bob.yaml"))
    assert (done.code, done.out) == (1, "")
    assert "name the whole folder" in done.err


def test_an_empty_folder_takes_nothing_away(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    (shell.folder / "alice.yaml").unlink()
    done = shell("plan", "--detailed-exitcode")
    assert done.code == 1
    assert "alice may still be wanted" in done.out


def test_a_host_that_cannot_be_looked_at_is_one_line(shell: Shell) -> None:
    def down(_boundary: Boundary) -> Fault:
        return Fail("IncusUnreachable")

    shell.declare("alice")
    shell.faults = down
    done = shell("plan")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("containarium: error: ")
    assert done.err.count("\n") == 1


def test_what_somebody_else_wrote_cannot_steer_the_terminal(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.somebody.set_config("alice-container", "limits.cpu", "1\x1b]0;owned\x07")
    done = shell("plan")
    assert "\x1b" not in done.out
    assert "\x07" not in done.out
    assert "\\x1b]0;owned" in done.out


def test_worlds_of_tests_are_apart(shell: Shell) -> None:
    assert shell.world.instances == World().instances
