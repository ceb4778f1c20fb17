"""Environments that wait for an image which somebody else builds: no failure, and nobody's hands are bound by it."""

from __future__ import annotations

from typing import Any

from containarium.cli.progress import PlainReporter
from containarium.model.action import Action, CreateInstance
from containarium.model.host import BuildingError, Progress, silent
from containarium.reconcile.cycle import Result, Settings, converge
from containarium.reconcile.workers import SLOW
from containarium.report import events
from containarium.report.process import Daemon
from containarium.report.snapshot import Snapshot
from containarium.report.status import build
from containarium.simulate.host import SimulatedHost
from tests.builders import NOW, Site, manifest
from tests.living import Living

WAIT = "the image of guest with git is being built"


class Elsewhere(SimulatedHost):
    """A host on which another process builds the image of everybody who asks for git, until ``built``."""

    built = False
    asked = 0

    def execute(self, action: Action, progress: Progress = silent) -> None:
        """As usual, but for those."""
        if isinstance(action, CreateInstance) and "git" in action.packages:
            self.asked += 1
            if not self.built:
                raise BuildingError(WAIT)
        super().execute(action, progress)


def site(*waiting: str, others: tuple[str, ...] = ()) -> Site:
    found = Site(*(manifest(name, packages=["git"]) for name in waiting), *(manifest(name) for name in others))
    found.host = Elsewhere(found.world)
    return found


def elsewhere(found: Site) -> Elsewhere:
    assert isinstance(found.host, Elsewhere)
    return found.host


class TestDaemon:
    def test_waiting_is_no_failure_and_ends_when_the_image_is_there(self) -> None:
        here = site("alice")
        life = Living(here)
        before = life.live(30)
        trouble = before.troubles["alice"]
        assert (trouble.reason, trouble.message, trouble.attempts) == ("ImageBuilding", WAIT, 0)
        assert not trouble.stalled
        elsewhere(here).built = True
        after = life.live(3)
        assert after.troubles == {}
        assert "alice-container" in here.world.instances

    def test_many_who_wait_take_no_hands_from_the_others(self) -> None:
        waiting = [f"waits{number:02}" for number in range(3 * SLOW)]
        here = site(*waiting, others=("zoe",))
        Living(here).live(3)
        assert list(here.world.instances) == ["zoe-container"]

    def test_when_the_image_is_there_all_of_them_may_begin(self) -> None:
        names = [f"waits{number:02}" for number in range(SLOW)]
        here = site(*names)
        life = Living(here, at_once=False)
        life.live(5)
        elsewhere(here).built = True
        life.wait(2)
        life.make_pass()
        assert life.workers.busy == frozenset(names)  # failures would get half of the hands

    def test_the_status_says_what_it_waits_for_and_no_event_tells_of_a_failure(self) -> None:
        here = site("alice")
        life = Living(here)
        shown = life.live(10)
        now = status(shown)
        (alice,) = now.environments
        assert (alice.ready.reason, alice.ready.message) == ("ImageBuilding", f"CreateInstance: {WAIT}")
        assert list(events.changes(status(Snapshot("", (), NOW, 0.0)), now, {})) == [] or not any(
            event.reason is events.Reason.FAILED for event in events.changes(None, now, {})
        )


def status(shown: Snapshot) -> Any:
    return build(shown, None, Daemon(1, NOW, "0"))


class Pauses:
    """Counts them; the image is there after so many."""

    def __init__(self, host: Elsewhere, until: int) -> None:
        self.count = 0
        self._host = host
        self._until = until

    def __call__(self, _seconds: float) -> None:
        self.count += 1
        self._host.built = self.count >= self._until


def applied(here: Site, pauses: Pauses, said: list[str] | None = None) -> Result:
    reporter = PlainReporter((said if said is not None else []).append, lambda _plan: None)
    return converge(here.load, here.host, lambda: here.now, Settings(), reporter, pauses)


class TestApply:
    def test_it_waits_for_as_long_as_it_takes_and_then_goes_on(self) -> None:
        here = site("alice", others=("bob",))
        pauses = Pauses(elsewhere(here), until=20)
        assert applied(here, pauses).converged
        assert pauses.count == 20

    def test_the_others_are_made_first(self) -> None:
        here = site("alice", others=("bob",))
        host = elsewhere(here)
        made: list[list[str]] = []

        def pause(_seconds: float) -> None:
            made.append(list(here.world.instances))
            host.built = True

        assert converge(here.load, host, lambda: here.now, Settings(), None, pause).converged
        assert made == [["bob-container"]]

    def test_it_says_once_what_it_waits_for(self) -> None:
        here = site("alice")
        said: list[str] = []
        applied(here, Pauses(elsewhere(here), until=20), said)
        assert [line for line in said if "waiting: " in line] == [f"alice: waiting: {WAIT}"]
        assert said[-1] == "alice: done"

    def test_its_patience_has_an_end(self) -> None:
        here = site("alice")
        result = applied(here, Pauses(elsewhere(here), until=10**9))
        (failure,) = result.failures
        assert isinstance(failure.error, BuildingError)
