"""What delete says of the data before anybody leaves, and that none of it stays behind where nobody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import yaml

from containarium.host.control import ControlServer
from containarium.host.holds import held
from containarium.host.lock import only_controller
from containarium.model import marks
from containarium.model.action import AwaitLogin, CreateInstance, EnsureAccount, StartInstance, UpdateInstance
from containarium.model.observed import InstanceStatus
from containarium.plan.desired import PROTECTION
from containarium.plan.planner import make_plan
from containarium.reconcile.cycle import Settings, converge
from containarium.report.process import this_process
from containarium.report.snapshot import Snapshot, Trouble
from containarium.report.status import build
from containarium.report.statusfile import write
from containarium.simulate.faults import DONE, Boundary, Fail, Fault, no_faults
from containarium.simulate.host import SimulatedHost
from containarium.sources.directory import load
from tests.unit.cli.conftest import Shell

BOX = "alice-container"
FORCE = ("delete", "alice", "--force", "--no-backup")


@pytest.fixture
def people(shell: Shell) -> Shell:
    """Six people, of whom one may go at once without approval; time goes by while a command sleeps."""
    shell.declare("alice", "bob", "carol", "dave", "eve", "frank")
    assert shell("apply").code == 0

    def sleep(seconds: float) -> None:
        shell.now += timedelta(seconds=seconds)

    shell.sleep = sleep
    return shell


def fails(boundary: Boundary) -> Fault | None:
    """Nothing can be written onto a container."""
    return Fail() if isinstance(boundary.action, UpdateInstance) else None


def interrupts() -> Callable[[Boundary], Fault | None]:
    """The person presses Ctrl-C when the container has just been told."""
    pressed: list[Boundary] = []

    def faults(boundary: Boundary) -> Fault | None:
        if isinstance(boundary.action, UpdateInstance) and boundary.step == DONE and not pressed:
            pressed.append(boundary)
            raise KeyboardInterrupt
        return None

    return faults


def never_ready(boundary: Boundary) -> Fault | None:
    """Nobody will ever log in there."""
    broken = AwaitLogin | CreateInstance | EnsureAccount | StartInstance
    return Fail() if isinstance(boundary.action, broken) and boundary.action.environment == "alice" else None


@pytest.mark.parametrize(("faults", "code"), [(fails, 1), (interrupts(), 130)])
def test_a_force_that_fails_leaves_nothing_behind(
    people: Shell, faults: Callable[[Boundary], Fault | None], code: int
) -> None:
    path = people.folder / "alice.yaml"
    before = path.read_text()
    people.faults = faults
    ended = people(*FORCE)
    assert ended.code == code
    assert "nothing was deleted, and how the data of alice goes is again as it was declared" in ended.err
    assert path.read_text() == before
    people.faults = no_faults
    assert people.world.instances[BOX].config[marks.DELETION] == "Retire;7d"
    ended = people("delete", "alice")
    assert ended.code == 0, ended.err
    assert "kept until 2026-11-29" in ended.out
    people.now += timedelta(days=1)
    people("apply")
    assert BOX in people.world.instances


def test_who_is_protected_meanwhile_stays(people: Shell) -> None:
    before = (people.folder / "alice.yaml").read_text()

    def protects(boundary: Boundary) -> Fault | None:
        if isinstance(boundary.action, UpdateInstance) and boundary.step == DONE:
            people.somebody.set_config(BOX, PROTECTION, "true")
        return None

    people.faults = protects
    ended = people(*FORCE)
    assert ended.code == 1
    assert "is protected on its container itself" in ended.err
    assert (people.folder / "alice.yaml").read_text() == before
    assert people.world.instances[BOX].config[marks.DELETION] == "Retire;7d"


def test_an_edit_of_somebody_else_meanwhile_stays(people: Shell) -> None:
    path = people.folder / "alice.yaml"

    def meddles(boundary: Boundary) -> Fault | None:
        if isinstance(boundary.action, UpdateInstance) and "grace: 1s" in path.read_text():
            path.write_text(f"# mine\n{path.read_text()}")
        return fails(boundary)

    people.faults = meddles
    ended = people(*FORCE)
    assert ended.code == 1
    assert "nothing was deleted" in ended.err
    assert path.read_text().startswith("# mine")
    assert yaml.safe_load(path.read_text())["spec"]["deletion"]["grace"] == "7d"


def test_what_a_killed_force_left_in_a_manifest_is_refused(people: Shell) -> None:
    people.declare("alice", deletion={"grace": "1s"})
    people("apply")
    for flags in ((), ("--backup",)):
        ended = people("delete", "alice", *flags)
        assert ended.code == 1
        assert f"{people.folder}/alice.yaml:" in ended.err
        assert "spec.deletion.grace: the data of alice would be deleted after 1s" in ended.err
        assert "write 7d there" in ended.err
    assert people.world.instances[BOX].status is InstanceStatus.RUNNING
    assert people(*FORCE).code == 0
    assert BOX not in people.world.instances


def test_what_a_killed_force_left_on_a_container_is_put_right_first(people: Shell) -> None:
    people.somebody.set_config(BOX, marks.DELETION, "Retire;1s")
    ended = people("delete", "alice")
    assert ended.code == 0, ended.err
    assert "kept until 2026-11-29" in ended.out
    people.now += timedelta(days=1)
    people("apply")
    assert BOX in people.world.instances


def test_where_that_cannot_be_put_right_nobody_leaves(people: Shell) -> None:
    people.somebody.set_config(BOX, marks.DELETION, "Retire;1s")
    people.faults = fails
    assert people("delete", "alice", "--wait", "0").code == 1
    assert (people.folder / "alice.yaml").exists()


def test_who_never_gets_ready_is_deleted_by_force(people: Shell) -> None:
    people.somebody.stop(BOX)
    people.faults = never_ready
    ended = people("delete", "alice", "--force")
    assert ended.code == 0, ended.err
    assert BOX not in people.world.instances
    assert people.world.backups


def test_who_was_born_by_half_is_deleted_by_force(people: Shell) -> None:
    people.declare("grace")
    people.somebody.half_born("grace-container", "grace")
    people.faults = lambda boundary: Fail() if isinstance(boundary.action, CreateInstance) else None
    ended = people("delete", "grace", "--force", "--no-backup")
    assert ended.code == 0, ended.err
    assert "grace-container" not in people.world.instances


def test_who_is_refused_as_declared_is_deleted_by_force(people: Shell) -> None:
    people.declare("alice", resources={"disk": "1GiB"})
    assert people("apply").code == 1
    assert people(*FORCE).code == 0
    assert BOX not in people.world.instances


@contextmanager
def controller(shell: Shell) -> Iterator[None]:
    """A running one that does all it can for someone who never gets ready."""

    def answer(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        host = SimulatedHost(shell.world, never_ready)
        found = load(shell.folder)
        names = {manifest.name for manifest in found.manifests} | {"alice"}
        free = frozenset(names - held(shell.settings.runtime))
        result = converge(found, host, lambda: shell.now, Settings(only=free))
        observed = host.observe()
        plan = make_plan(found, observed, shell.now)
        troubles = {
            failure.environment: Trouble(failure.action, "Injected", str(failure.error), 9, shell.now, shell.now)
            for failure in result.failures
        }
        seen = Snapshot("1", ("request",), shell.now, 0.1, found, observed, plan, troubles=troubles)
        write(build(seen, None, this_process(shell.now)), shell.settings.status)
        shell.now += timedelta(seconds=0.01)  # what comes next comes later
        return {"pass": "1", "settled": True, "error": ""}

    with ExitStack() as stack:
        stack.enter_context(only_controller(shell.settings.runtime))
        stack.callback(ControlServer(shell.settings.control, answer).close)
        yield


def test_who_never_gets_ready_is_deleted_beside_a_running_controller_too(people: Shell) -> None:
    people.somebody.stop(BOX)
    with controller(people):
        assert people("stop", "bob").code == 0, "it answers"
        assert people("resize", "alice", "--cpu", "2").code == 1, "it does not get there"
        ended = people(*FORCE)
    assert ended.code == 0, ended.err
    assert BOX not in people.world.instances


def test_beside_a_running_controller_a_failure_is_taken_back_too(people: Shell) -> None:
    before = (people.folder / "alice.yaml").read_text()
    people.faults = fails
    with controller(people):
        ended = people(*FORCE)
    assert ended.code == 1
    assert "nothing was deleted" in ended.err
    assert (people.folder / "alice.yaml").read_text() == before
