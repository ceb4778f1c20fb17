"""Editing commands while a controller runs: it does the work, and the command waits for exactly that."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from containarium.host.control import ControlServer
from containarium.host.lock import only_controller
from containarium.model.host import RetryableError
from containarium.plan.planner import make_plan
from containarium.reconcile.cycle import Settings, converge
from containarium.report.process import this_process
from containarium.report.snapshot import Probe, Snapshot, Trouble, Work
from containarium.report.status import build
from containarium.report.statusfile import write
from containarium.simulate.host import SimulatedHost
from containarium.sources.directory import load
from tests.builders import public_key
from tests.unit.cli.conftest import Shell


def tell(shell: Shell, late: float = 0.0, **known: Any) -> None:
    """Write the status of a pass that began so many seconds after the clock of the commands."""
    manifests, observed = load(shell.folder), SimulatedHost(shell.world).observe()
    started = shell.now + timedelta(seconds=late)
    plan = make_plan(manifests, observed, shell.now)
    seen = Snapshot("1", ("request",), started, 0.1, manifests, observed, plan, **known)
    shell.settings.runtime.mkdir(exist_ok=True)
    write(build(seen, None, this_process(started)), shell.settings.status)


def does_it(shell: Shell) -> None:
    """What a controller does."""
    converge(load(shell.folder), SimulatedHost(shell.world), lambda: shell.now, Settings())
    tell(shell)


@contextmanager
def controller(shell: Shell, act: Callable[[Shell], None]) -> Iterator[list[Mapping[str, Any]]]:
    """One that has the lock, and acts when it is asked to. Gives the requests."""
    asked: list[Mapping[str, Any]] = []
    ended = threading.Event()

    def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(request)
        act(shell)
        ended.wait(5)
        return {"pass": "1", "settled": True, "error": ""}

    with ExitStack() as stack:
        stack.enter_context(only_controller(shell.settings.runtime))
        server = ControlServer(shell.settings.control, answer)
        stack.callback(server.close)
        stack.callback(ended.set)
        yield asked


def create(shell: Shell, *flags: str) -> Any:
    return shell("create", "alice", "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12", *flags)


def test_the_controller_makes_it_and_the_command_ends_with_the_connection(shell: Shell) -> None:
    with controller(shell, does_it) as asked:
        ended = create(shell)
    assert ended.code == 0, ended.err
    assert asked == [{"do": "reconcile", "settle": 600.0}]
    assert "[7/7] alice: SSH: ready" in ended.out
    assert "Host alice\n" in ended.out


def test_its_steps_are_told_as_its_status_has_them(shell: Shell) -> None:
    steps = [("CreateInstance", ""), ("InstallPackages", "installing git"), ("AwaitLogin", "")]

    def works(shell: Shell) -> None:
        for action, step in steps:
            tell(shell, working={"alice": Work("create", action, shell.now, step)})
            threading.Event().wait(0.5)
        does_it(shell)

    with controller(shell, works):
        ended = create(shell)
    assert ended.code == 0, ended.err
    told = [line for line in ended.out.splitlines() if line.startswith(("[", "      "))]
    assert told[1:] == [
        "[2/7] alice: container: making the container",
        "[3/7] alice: start: nothing to do",
        "[4/7] alice: packages: installing packages",
        "      alice: installing git",
        "[5/7] alice: user and keys: nothing to do",
        "[6/7] alice: jump account: nothing to do",
        "[7/7] alice: SSH: waiting for SSH",
    ]


def test_a_pass_from_before_the_edit_says_nothing(shell: Shell) -> None:
    shell.declare("alice")
    does_it(shell)
    tell(shell, late=-1.0)
    with controller(shell, lambda shell: tell(shell, late=-1.0)):
        ended = shell("resize", "alice", "--cpu", "2", "--wait", "0.6")
    assert ended.code == 1
    assert (
        "alice: not there yet after 1 s (the controller has made no pass since: it is busy); the controller goes on"
        in (ended.err)
    )


def test_what_it_still_waits_for_is_said(shell: Shell) -> None:
    def works(shell: Shell) -> None:
        tell(shell, working={"alice": Work("create", "InstallPackages", shell.now, "installing git")})

    with controller(shell, works):
        ended = create(shell, "--wait", "0.6")
    assert ended.code == 1
    assert "not there yet after 1 s (InstallPackages installing git)" in ended.err
    assert (shell.folder / "alice.yaml").exists()


def test_a_failure_that_only_a_person_mends_is_not_waited_for(shell: Shell) -> None:
    def fails(shell: Shell) -> None:
        tell(
            shell, troubles={"alice": Trouble("CreateInstance", "NoImage", "no such image", 1, shell.now, stalled=True)}
        )

    with controller(shell, fails):
        ended = create(shell)
    assert ended.code == 1
    assert "alice: CreateInstance failed: no such image" in ended.err


def test_one_that_it_tries_again_is_waited_for(shell: Shell) -> None:
    def fails_once(shell: Shell) -> None:
        tell(shell, troubles={"alice": Trouble("CreateInstance", "Timeout", "too slow", 1, shell.now, shell.now)})
        threading.Event().wait(0.5)
        does_it(shell)

    with controller(shell, fails_once):
        ended = create(shell)
    assert ended.code == 0, ended.err
    assert "alice: waiting: too slow" in ended.out


def test_a_deletion_is_over_when_nobody_gets_in(shell: Shell) -> None:
    shell.declare("alice", "bob")
    does_it(shell)
    with controller(shell, does_it):
        ended = shell("delete", "bob")
    assert ended.code == 0, ended.err
    assert "bob: nobody gets in any more. The data is kept until 2026-11-29" in ended.out


def test_by_force_it_is_over_when_nothing_is_left(shell: Shell) -> None:
    shell.declare("alice")
    does_it(shell)

    def sleep(seconds: float) -> None:
        shell.now += timedelta(seconds=seconds)
        threading.Event().wait(min(seconds, 0.05))

    shell.sleep = sleep
    with controller(shell, does_it):
        ended = shell("delete", "alice", "--force", "--no-backup")
    assert ended.code == 0, ended.err
    assert "alice: deleted, for good." in ended.out
    assert "alice-container" not in shell.world.instances


def test_a_controller_that_says_no_is_told(shell: Shell) -> None:
    def refuses(_shell: Shell) -> None:
        raise RetryableError("not now")

    with controller(shell, refuses):
        ended = create(shell)
    assert ended.code == 1
    assert "the controller says: not now" in ended.err


def test_somebody_who_does_not_let_us_in_holds_up_no_edit(shell: Shell) -> None:
    """Her own SSH server does not answer, which may never end, and is no part of her limits."""
    probe = {"alice": Probe(shell.now, 2.0, "nobody answers")}

    def does(shell: Shell) -> None:
        converge(load(shell.folder), SimulatedHost(shell.world), lambda: shell.now, Settings())
        tell(shell, probes=probe)

    shell.declare("alice")
    does_it(shell)
    tell(shell, late=-1.0)
    with controller(shell, does):
        ended = shell("resize", "alice", "--memory", "8GiB", "--wait", "5")
    assert ended.code == 0, ended.err
    assert "alice: SSHUnreachable" in ended.err
    assert shell.world.instances["alice-container"].config["limits.memory"] == "8GiB"


def test_info_tells_what_only_the_controller_knows(shell: Shell) -> None:
    shell.declare("alice")
    does_it(shell)
    assert "Ready:" in shell("info", "alice").out
    tell(shell, probes={"alice": Probe(shell.now, 2.0, "nobody answers")})
    shown = shell("info", "alice").out
    assert re.search(r"Ready: +False \(SSHUnreachable\)", shown), shown
    assert re.search(r"SSH: +nobody answers", shown), shown
    tell(shell, troubles={"alice": Trouble("UpdateInstance", "Timeout", "too slow", 1, shell.now, shell.now)})
    assert re.search(r"Trouble: +UpdateInstance: too slow", shell("info", "alice").out)
