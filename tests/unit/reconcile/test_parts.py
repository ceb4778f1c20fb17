"""The small parts of the loop: waking, waiting, turns, clocks, edits, recovery, preemption, probing."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from containarium.model.host import RetryableError, TerminalError, WaitingError
from containarium.model.observed import InstanceStatus
from containarium.reconcile.chores import Chore, Chores
from containarium.reconcile.clockwatch import HOLD, JUMP, ClockWatch
from containarium.reconcile.edits import Edits
from containarium.reconcile.execute import Failure
from containarium.reconcile.preemption import stop_everybody
from containarium.reconcile.probing import Probing
from containarium.reconcile.recovery import RECENT, Recovery
from containarium.reconcile.retries import FIRST, LONGEST, Retries
from containarium.reconcile.rhythm import Turns
from containarium.reconcile.wakeup import WakeUp
from containarium.reconcile.workers import thread_pool
from containarium.simulate.somebody import Somebody
from tests.builders import NOW, Site, manifest
from tests.living import Living, OnDemand

BOX = "alice-container"


def test_reasons_gather_and_are_forgotten_once_taken() -> None:
    wakeup = WakeUp()
    for reason in ("incus", "manifests", "incus"):
        wakeup.wake(reason)
    assert wakeup.wait(0) == {"incus", "manifests"}
    assert wakeup.wait(0) == frozenset()
    threading.Timer(0.05, wakeup.wake, ["late"]).start()
    assert wakeup.wait(30) == {"late"}


def test_pauses_double_up_to_five_minutes_and_waiting_does_not() -> None:
    retries = Retries(lambda: 0.5)
    pauses = []
    clock = 0.0
    for _ in range(12):
        retries.failed(Failure("alice", "StartInstance", RetryableError("no")), "r1", clock, NOW)
        due = retries.next_due(frozenset())
        assert due is not None
        pauses.append(due - clock)
        clock = due
    assert pauses[:4] == [FIRST, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST
    retries.failed(Failure("alice", "StartInstance", WaitingError("early", retry_after=3.0)), "r1", clock, NOW)
    assert retries.next_due(frozenset()) == clock + 3.0
    retries.failed(Failure("alice", "StartInstance", TerminalError("never")), "r1", clock, NOW)
    assert retries.next_due(frozenset()) == clock + LONGEST


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_pauses_have_a_tenth_of_jitter(chance: float, factor: float) -> None:
    retries = Retries(lambda: chance)
    retries.failed(Failure("alice", "StartInstance", RetryableError("no")), "r1", 100.0, NOW)
    assert retries.next_due(frozenset()) == pytest.approx(100.0 + FIRST * factor)


def test_a_new_manifest_or_an_admin_ends_the_wait() -> None:
    retries = Retries(lambda: 0.5)
    retries.failed(Failure("alice", "StartInstance", TerminalError("no such image")), "r1", 0.0, NOW)
    assert not retries.may_try("alice", "r1", 1.0)
    assert retries.may_try("alice", "r2", 1.0)
    retries.hurry()
    assert retries.may_try("alice", "r1", 1.0)


def test_everybody_has_a_turn_of_their_own_in_every_period() -> None:
    turns = Turns(300.0)
    names = {f"user{number}" for number in range(200)}
    turns.done(names, 0.0)
    seen: dict[str, int] = dict.fromkeys(names, 0)
    most = 0
    for minute in range(1, 11):
        due = turns.due(names, minute * 60.0)
        most = max(most, len(due))
        for name in due:
            seen[name] += 1
        turns.done(due, minute * 60.0)
    assert set(seen.values()) <= {1, 2}
    assert most < 70
    turns.ask(["user7"])
    assert "user7" in turns.due(names, 600.0)


def test_a_clock_that_goes_as_time_goes_is_believed() -> None:
    watch = ClockWatch()
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert watch.check(0.0, now) == ""
    assert watch.check(60.0, now + timedelta(seconds=60 + JUMP - 1)) == ""
    assert "forward" in watch.check(120.0, now + timedelta(days=1))
    assert "forward" in watch.check(121.0, now + timedelta(days=1, seconds=1))
    assert watch.check(121.0 + HOLD, now + timedelta(days=1, seconds=1 + HOLD)) == ""
    assert "back" in watch.check(122.0 + HOLD, now)


def test_an_edit_is_timed_once() -> None:
    edits = Edits()
    assert edits.changed({"alice": "1"}, 0.0) == frozenset(), "what was there before is no edit"
    assert edits.changed({"alice": "2", "bob": "1"}, 5.0) == {"alice", "bob"}
    assert edits.reached("alice", 7.5) == 2.5
    assert edits.reached("alice", 8.0) is None


def settled(*names: str) -> Living:
    life = Living(Site(*(manifest(name) for name in names)))
    life.live()
    return life


def test_recovery_is_over_when_the_last_one_answers() -> None:
    life = settled("alice", "bob")
    age = 20.0
    recovery = Recovery(life.site.host, lambda: age, lambda: None, lambda _size, _name: OnDemand())
    assert recovery.under_way
    assert recovery.check(life.make_pass())
    assert recovery.seconds == 20.0
    assert not recovery.under_way


def test_recovery_waits_for_whoever_is_not_back() -> None:
    life = settled("alice", "bob")
    Somebody(life.site.world).stop(BOX)
    recovery = Recovery(life.site.host, lambda: 20.0, lambda: None, lambda _size, _name: OnDemand())
    life.controller.halted = True
    assert not recovery.check(life.make_pass())
    assert recovery.under_way
    life.controller.halted = False
    life.live(5)
    assert recovery.check(life.make_pass())


def test_a_recovery_is_over_once_also_for_the_next_controller_of_this_boot() -> None:
    life = settled("alice")
    recovery = Recovery(life.site.host, lambda: 300.0, lambda: None, lambda _size, _name: OnDemand(), known=20.0)
    assert not recovery.under_way
    assert not recovery.check(life.make_pass())
    assert recovery.seconds == 20.0


def test_on_a_new_machine_there_is_nobody_to_recover() -> None:
    life = Living(Site(manifest("alice")), at_once=False)
    recovery = Recovery(life.site.host, lambda: 400.0, lambda: None, lambda _size, _name: OnDemand())
    assert not recovery.check(life.make_pass())
    assert not recovery.under_way
    life.live()
    assert not recovery.check(life.make_pass())
    assert recovery.seconds is None


def test_who_was_made_since_the_boot_has_nothing_to_recover_from() -> None:
    """A controller that is first started some minutes after a boot, beside what ``apply`` has made in the meantime."""
    life = settled("alice")
    life.site.world.change_instance(BOX, created_at=(life.site.now - timedelta(seconds=10)).isoformat())
    recovery = Recovery(life.site.host, lambda: 400.0, lambda: None, lambda _size, _name: OnDemand())
    assert not recovery.check(life.make_pass())
    assert not recovery.under_way
    assert recovery.seconds is None


def test_a_recovery_does_not_wait_for_somebody_new() -> None:
    life = settled("alice")
    life.site.declare(manifest("alice"), manifest("bob"))
    recovery = Recovery(life.site.host, lambda: 20.0, lambda: None, lambda _size, _name: OnDemand())
    life.controller.halted = True
    shown = life.make_pass()
    assert "bob-container" not in life.site.world.instances
    assert recovery.check(shown)


def test_long_after_a_boot_there_is_no_recovery_to_follow() -> None:
    life = settled("alice")
    recovery = Recovery(life.site.host, lambda: RECENT + 1, lambda: None, lambda _size, _name: OnDemand())
    assert not recovery.under_way
    assert not recovery.check(life.make_pass())


def test_before_the_machine_goes_every_guest_of_ours_is_stopped_and_no_other() -> None:
    life = settled("alice", "bob")
    Somebody(life.site.world).foreign_instance("gitlab", running=True)
    life.site.host.cancel()
    stopped = stop_everybody(life.site.host, life.site.host.observe(), frozenset(), thread_pool)
    assert stopped == (("alice", "bob"), ())
    states = {name: instance.status for name, instance in life.site.world.instances.items()}
    assert states == {
        BOX: InstanceStatus.STOPPED,
        "bob-container": InstanceStatus.STOPPED,
        "gitlab": InstanceStatus.RUNNING,
    }


class Door:
    """Answers probes as it is told."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.shut: set[str] = set()

    def __call__(self, name: str, _instance: str, _address: str) -> tuple[float, str]:
        self.tried.append(name)
        return 0.1, "no answer" if name in self.shut else ""


def test_news_are_probed_at_once_and_what_changes_wakes_the_loop() -> None:
    life = settled("alice", "bob")
    door, woken = Door(), threading.Event()
    probing = Probing(door, woken.set, lambda: life.site.now)
    probing.check(life.make_pass())
    probing.start()
    try:
        assert _eventually(lambda: sorted(door.tried) == ["alice", "bob"])
        assert woken.is_set()
        assert _eventually(
            lambda: {name: probe.error for name, probe in probing.results.items()} == {"alice": "", "bob": ""}
        )
        woken.clear()
        door.shut = {"bob"}
        probing.ask("bob")
        assert woken.wait(10)
        assert probing.results["bob"].error == "no answer"
        life.site.declare(manifest("alice"))
        life.live(10)
        probing.check(life.make_pass())
        assert set(probing.results) == {"alice"}
    finally:
        probing.stop()


def _eventually(true: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_pass_that_comes_a_little_early_puts_no_chore_off_to_the_next() -> None:
    """Passes are a minute apart, give or take a tenth, and a firewall that is gone lets guests reach the host."""
    found: list[str] = []
    chores = Chores([Chore("firewall", 60.0, lambda: "put back")], lambda name, *_what: found.append(name))
    seen = []
    for clock in (0.0, 56.0, 110.0, 176.0, 200.0):
        chores.do(clock)
        seen.append(len(found))
    assert seen == [1, 2, 3, 4, 4]


def test_chores_are_done_when_due_and_what_fails_is_told_once() -> None:
    told: list[tuple[str, str, bool]] = []
    state = {"gone": True, "broken": False}

    def mend() -> str:
        if state["broken"]:
            raise TerminalError("no nft")
        gone, state["gone"] = state["gone"], False
        return "put back" if gone else ""

    chores = Chores([Chore("firewall", 60.0, mend)], lambda *what: told.append(what))
    chores.do(0.0)
    state["gone"] = True
    chores.do(30.0)
    assert told == [("firewall", "put back", True)], "not due"
    chores.do(60.0)
    state["broken"] = True
    for clock in (120.0, 180.0, 240.0):
        chores.do(clock)
    assert told[1:] == [("firewall", "put back", True), ("firewall", "no nft", False)]
