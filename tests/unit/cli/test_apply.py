"""apply: what it does, tells and returns."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from containarium.model.action import SetUpUser, WriteAccountKeys
from containarium.simulate.faults import Boundary, Fail, Fault
from tests.unit.cli.conftest import Shell


def _user_fails_for(name: str) -> object:
    def faults(boundary: Boundary) -> Fault | None:
        action = boundary.action
        return Fail("Mirror") if isinstance(action, SetUpUser) and action.environment == name else None

    return faults


def test_first_run_then_nothing_to_do(shell: Shell) -> None:
    shell.declare("alice", "bob", "carol")
    first = shell("apply")
    assert first.code == 0
    assert first.out.endswith("Done: 3 created.\n")
    assert first.err == ""
    again = shell("apply")
    assert (again.code, again.out) == (0, "Nothing to do: 3 environments are as declared.\n")


def test_without_a_terminal_progress_is_plain_lines(shell: Shell) -> None:
    shell.declare("alice", packages=["git", "tmux"])
    lines = shell("apply").out.splitlines()
    assert "  + alice will be created" in lines
    assert "alice: creating the container from bootstrap:debian/12" in lines
    assert "alice: setting up the user" in lines
    assert lines.index("alice: starting the container") < lines.index("alice: setting up the jump account")
    assert lines[-2:] == ["alice: done", "Done: 1 created."]
    assert not any("\x1b" in line for line in lines)


def test_drift_is_repaired_and_told(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    shell.somebody.give_shell("alice")
    done = shell("apply")
    assert done.code == 0
    assert "alice: repaired drift: account.shell\n" in done.out
    assert done.out.endswith("Done: 1 repaired, 1 as declared.\n")
    assert shell("apply").out == "Nothing to do: 2 environments are as declared.\n"


def test_an_edit_is_no_drift(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.declare("alice", resources={"memory": "8GiB"})
    done = shell("apply")
    assert "drift" not in done.out
    assert done.out.endswith("Done: 1 updated.\n")


def test_a_failure_is_one_line_and_does_not_hold_up_the_others(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell.faults = _user_fails_for("alice")  # type: ignore[assignment]
    done = shell("apply")
    assert done.code == 1
    (line,) = [line for line in done.out.splitlines() if line.startswith("alice: SetUpUser failed: ")]
    assert line
    assert done.out.endswith("Not all done: 1 created, 1 failed.\n")
    assert "alice: failed\n" in done.out
    assert "bob: done\n" in done.out


def test_a_refused_manifest_turns_the_code_and_leaves_its_environment_alone(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    before = shell.world.instances["bob-container"]
    shell.declare("bob", resources={"disk": "1GiB"})
    done = shell("apply")
    assert done.code == 1
    assert "Refused: " in done.out
    assert "cannot shrink" in done.out
    assert done.out.endswith("Not all done: 1 refused, 1 as declared.\n")
    assert shell.world.instances["bob-container"] == before


def test_an_unsafe_apply_retires_nothing_and_still_does_the_rest(shell: Shell) -> None:
    shell.declare("alice", "bob", "carol")
    shell("apply")
    (shell.folder / "alice.yaml").unlink()
    (shell.folder / "bob.yaml").unlink()
    shell.declare("dave")
    unsafe = shell("apply", "-o", "json")
    assert unsafe.code == 3
    assert {account.name for account in shell.world.accounts.values() if account.expired} == set()
    assert "dave-container" in shell.world.instances
    digest = unsafe.json["remaining"]["interlocks"][0]["digest"]
    approved = shell("apply", "--approve", digest)
    assert approved.code == 0
    assert approved.out.endswith("Done: 2 retired, 2 as declared.\n")
    assert shell.world.accounts["alice"].expired


def test_only_acts_on_the_named_and_is_judged_by_them(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell.declare("carol", image="nowhere")
    done = shell("apply", "--only", "alice", "--only", "bob")
    assert done.code == 0
    assert "carol" not in done.out
    assert done.out.endswith("Done: 2 created.\n")
    assert set(shell.world.instances) == {"alice-container", "bob-container"}


def test_only_of_an_unknown_name_is_an_error(shell: Shell) -> None:
    shell.declare("alice")
    done = shell("apply", "--only", "alcie")
    assert done.code == 1
    assert done.err == (
        "containarium: error: there is no environment alcie; see containarium list, or leave --only out\n"
    )
    assert shell.world.instances == {}


def test_json_keeps_standard_output_to_itself(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply", "--only", "bob")
    shell.somebody.give_shell("bob")
    done = shell("apply", "-o", "json")
    assert done.code == 0
    assert done.json["converged"] is True
    assert done.json["done"] == [
        {"name": "alice", "verb": "create", "repaired_drift": []},
        {"name": "bob", "verb": "repair", "repaired_drift": ["account.shell"]},
    ]
    assert done.json["failures"] == []
    assert done.json["remaining"]["environments"] == []
    assert "alice: done\n" in done.err


def test_a_failure_in_json(shell: Shell) -> None:
    shell.declare("alice")
    shell.faults = _user_fails_for("alice")  # type: ignore[assignment]
    done = shell("apply", "-o", "json")
    (failure,) = done.json["failures"]
    assert (done.code, done.json["converged"]) == (1, False)
    assert (failure["environment"], failure["action"], failure["reason"]) == ("alice", "SetUpUser", "Mirror")


def test_what_does_not_stay_put_right_is_told(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.somebody.give_shell("alice")

    def meddle(boundary: Boundary) -> Fault | None:
        if boundary.action is None and shell.world.accounts["alice"].shell != "/bin/bash":
            shell.somebody.give_shell("alice")
        return None

    shell.faults = meddle
    done = shell("apply")
    assert done.code == 1
    assert "alice: still different after it was applied: account.shell; see containarium plan\n" in done.out
    assert done.out.endswith("Not all done: 1 still different.\n")


def test_only_root_may(shell: Shell) -> None:
    shell.declare("alice")
    shell.root = False
    done = shell("apply")
    assert (done.code, done.out) == (1, "")
    assert done.err == "containarium: error: needs root: sudo containarium apply\n"
    assert shell("plan").code == 0


def test_restart_is_asked_for(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.declare("alice", docker=True)
    assert "restarting" not in shell("apply").out
    assert "alice: restarting the container\n" in shell("apply", "--restart").out


@contextmanager
def _held_lock(shell: Shell, pid: str) -> Iterator[None]:
    shell.settings.runtime.mkdir(exist_ok=True)
    with (shell.settings.runtime / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(pid)
        file.flush()
        yield


@pytest.mark.parametrize(("content", "who"), [("4711\n", " (pid 4711)"), ("", ""), ("\x1b[2J", "")])
def test_one_controller_at_a_time(shell: Shell, content: str, who: str) -> None:
    shell.declare("alice")
    with _held_lock(shell, content):
        done = shell("apply")
        assert shell("apply", "--wait", "0.05").code == 1
        assert shell("plan").code == 0
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"containarium: error: another containarium{who} is working on this host; wait for it or stop it\n"
    )
    assert shell.world.instances == {}
    assert shell("apply").code == 0


def test_the_lock_names_its_holder(shell: Shell) -> None:
    seen: list[str] = []

    def note(boundary: Boundary) -> None:
        if isinstance(boundary.action, WriteAccountKeys):
            seen.append((shell.settings.runtime / "lock").read_text())

    shell.declare("alice")
    shell.faults = note
    shell("apply")
    assert set(seen) == {f"{os.getpid()}\n"}


def test_only_with_an_unknown_name_changes_nothing(shell: Shell) -> None:
    shell.declare("alice", "bob")
    done = shell("apply", "--only", "alice", "--only", "typo")
    assert (done.code, done.out) == (1, "")
    assert "there is no environment typo" in done.err
    assert not shell.world.instances


def test_what_nobody_expected_fails_one_environment_alone(shell: Shell) -> None:
    def faults(boundary: Boundary) -> Fault | None:
        if isinstance(boundary.action, WriteAccountKeys) and boundary.action.environment == "alice":
            raise OSError(errno.ENOSPC, "No space left on device", "/etc/ssh/containarium/keys/alice")
        if isinstance(boundary.action, SetUpUser) and boundary.action.environment == "carol":
            raise KeyError("surprise")
        return None

    shell.declare("alice", "bob", "carol")
    shell.faults = faults
    done = shell("apply")
    assert done.code == 1
    expected = "WriteAccountKeys failed: /etc/ssh/containarium/keys/alice: No space left on device; "
    assert f"alice: {expected}" in done.out
    assert "carol: SetUpUser failed: internal error (KeyError); please report it\n" in done.out
    assert "carol: details of the internal error: " in done.err
    assert done.out.endswith("Not all done: 1 created, 2 failed.\n")


def test_what_waits_for_a_restart_is_told_with_the_way_out(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.declare("alice", docker=True)
    assert "(containarium apply --restart)\n" in shell("apply").out
    assert shell("apply").out.endswith("Nothing to do: 1 waiting for an admin.\n")
    assert shell("apply", "--restart").out.endswith("Done: 1 updated.\n")
