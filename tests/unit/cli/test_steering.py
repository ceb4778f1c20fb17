"""approve, suspend, resume, and apply where a controller runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from containarium.host.control import ControlServer
from containarium.model.observed import InstanceStatus
from tests.unit.cli.conftest import Shell
from tests.unit.cli.test_status import controller

SIX = ("alice", "bob", "carol", "dave", "erin", "frank")


def withdraw(shell: Shell, *names: str) -> None:
    for name in names:
        (shell.folder / f"{name}.yaml").unlink()


@pytest.fixture
def blocked(shell: Shell) -> tuple[Shell, str]:
    """Give a host where three of six are about to go, and the digest of that."""
    shell.declare(*SIX)
    assert shell("apply").code == 0
    withdraw(shell, "alice", "bob", "carol")
    held = shell("apply")
    assert held.code == 3
    (interlock,) = shell("plan", "-o", "json").json["interlocks"]
    return shell, interlock["digest"]


def test_approving_lets_exactly_this_set_go(blocked: tuple[Shell, str]) -> None:
    shell, digest = blocked
    said = shell("approve", digest)
    assert said.code == 0
    assert "alice, bob, carol may retire" in said.out
    assert "run containarium apply" in said.out
    assert shell("apply").code == 0
    assert shell.world.instances["bob-container"].status is InstanceStatus.STOPPED


def test_another_set_needs_another_approval(blocked: tuple[Shell, str]) -> None:
    shell, digest = blocked
    shell("approve", digest)
    withdraw(shell, "dave")
    assert shell("apply").code == 3
    assert shell.world.instances["bob-container"].status is InstanceStatus.RUNNING


def test_a_digest_that_fits_nothing_approves_nothing(blocked: tuple[Shell, str]) -> None:
    shell, digest = blocked
    said = shell("approve", "0123456789ab")
    assert said.code == 1
    assert f"{digest} stands for alice, bob, carol" in said.err
    assert shell("apply").code == 3


def test_an_approval_runs_out(blocked: tuple[Shell, str]) -> None:
    from datetime import timedelta

    shell, digest = blocked
    shell("approve", digest)
    shell.now += timedelta(minutes=16)
    assert shell("apply").code == 3


@pytest.mark.parametrize("command", [("approve", "x"), ("suspend", "alice"), ("resume", "alice"), ("daemon",)])
def test_only_root_may(shell: Shell, command: tuple[str, ...]) -> None:
    shell.declare("alice")
    shell.root = False
    said = shell(*command)
    assert said.code == 1
    assert f"sudo containarium {command[0]}" in said.err


@dataclass
class Controller:
    """A controller as the command line sees it: a lock that is held, and a socket that answers."""

    asked: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(request)
        return {"pass": "1", "settled": True}


@pytest.fixture
def running(shell: Shell) -> Iterator[tuple[Shell, Controller]]:
    """Give a host whose lock a controller holds."""
    from containarium.host.lock import only_controller

    shell.declare("alice", "bob")
    assert shell("apply").code == 0
    found = Controller()
    with only_controller(shell.settings.runtime):
        server = ControlServer(shell.settings.control, found)
        controller(shell)
        yield shell, found
        server.close()


def test_apply_lets_the_controller_do_it_and_tells_how_it_went(running: tuple[Shell, Controller]) -> None:
    shell, found = running
    said = shell("apply", "--restart", "--only", "alice")
    assert said.code == 0, said.err
    assert "The controller of this host does it" in said.out
    assert found.asked == [{"do": "reconcile", "restart": ["alice"], "settle": 900.0}]
    assert shell("apply", "-o", "json").json["converged"] is True


def test_apply_from_another_folder_is_refused_while_a_controller_keeps_to_its_own(
    running: tuple[Shell, Controller], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shell, found = running
    said = shell("apply", str(tmp_path_factory.mktemp("other")))
    assert said.code == 1
    assert "keeps to" in said.err
    assert found.asked == []


def test_without_a_controller_a_held_lock_is_somebody_elses(running: tuple[Shell, Controller]) -> None:
    shell, _found = running
    shell.settings.control.unlink()
    said = shell("apply")
    assert said.code == 1
    assert "another containarium" in said.err
