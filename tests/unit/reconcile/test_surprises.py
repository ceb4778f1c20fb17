"""What nobody thought of: bugs, threads that die, work that ends at the wrong moment, and circles without an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import pytest

from containarium.model import marks
from containarium.model.host import TerminalError
from containarium.model.observed import InstanceStatus
from containarium.plan.terms import Approval
from containarium.reconcile.chores import Chore, Chores
from containarium.reconcile.preemption import stop_everybody
from containarium.reconcile.probing import Probing
from containarium.reconcile.recovery import Recovery
from containarium.reconcile.workers import SLOW, thread_pool
from containarium.simulate.somebody import Somebody
from tests.builders import Site, manifest
from tests.living import Living, OnDemand

BOX = "alice-container"


def living(*names: str, at_once: bool = True, **spec: Any) -> Living:
    life = Living(Site(*(manifest(name, **spec) for name in names)), at_once=at_once)
    life.live()
    return life


def without(life: Living, *names: str) -> None:
    life.site.declare(*(m for m in life.site.load.manifests if m.name not in names))


def on_action(life: Living, kind: str, act: Callable[[], object]) -> list[str]:
    """Let something happen right after every action of a kind; returns the kinds of what is done from now on."""
    host, done = life.site.host, []
    execute = host.execute

    def watched(action: Any, *rest: Any) -> None:
        execute(action, *rest)
        done.append(action.kind)
        if action.kind == kind:
            act()

    host.execute = watched  # type: ignore[method-assign, assignment]
    return done


# Errors of our own


def test_a_bug_in_a_look_is_told_and_the_loop_goes_on_with_pauses() -> None:
    life = living("alice")
    observe = life.site.host.observe

    def broken(*_args: Any) -> Any:
        raise KeyError("devices")

    life.site.host.observe = broken  # type: ignore[method-assign, assignment]
    pauses = []
    for _ in range(4):
        shown = life.make_pass("incus")
        assert "internal error (KeyError)" in shown.error
        assert shown.plan is not None, "what was known before is known still"
        pauses.append(life.controller.pause()[0])
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    assert [type(error) for error in life.heard.surprises] == [KeyError] * 4
    life.site.host.observe = observe  # type: ignore[method-assign]
    Somebody(life.site.world).stop(BOX)
    assert life.live(5).error == ""
    assert life.site.world.instances[BOX].status is InstanceStatus.RUNNING


def test_a_host_that_is_away_for_days_is_still_looked_at_twice_a_minute() -> None:
    life = living("alice")
    life.site.host.observe = _raise  # type: ignore[method-assign, assignment]
    for _ in range(2000):
        life.make_pass("retry")
    assert life.controller.pause() == (30.0, "retry")


def _raise(*_args: Any) -> Any:
    raise TerminalError("away")


def test_work_whose_listener_fails_has_failed() -> None:
    life = living("alice", at_once=False)
    life.heard.started = _raise_bug  # type: ignore[method-assign, assignment]
    Somebody(life.site.world).stop(BOX)
    life.make_pass("incus")
    life.pool.work()
    shown = life.make_pass("finished")
    assert shown.troubles["alice"].reason == "InternalError"


def _raise_bug(*_args: Any) -> Any:
    raise ValueError("a bug")


def test_an_environment_for_which_there_is_no_thread_is_tried_again() -> None:
    life = living("alice")
    submit = life.pool.submit

    def none_left(*_args: Any, **_named: Any) -> Any:
        raise RuntimeError("can't start new thread")

    life.pool.submit = none_left  # type: ignore[method-assign]
    Somebody(life.site.world).stop(BOX)
    life.make_pass("incus")
    assert life.make_pass("finished").troubles["alice"].reason == "InternalError"
    assert life.workers.busy == frozenset()
    life.pool.submit = submit  # type: ignore[method-assign]
    life.live(5)
    assert life.site.world.instances[BOX].status is InstanceStatus.RUNNING


# Wrong moments


@pytest.mark.parametrize("how", ["declared again", "suspended", "a broken file", "a doubt"])
def test_a_deletion_is_called_off_when_it_becomes_uncertain_while_the_backup_is_made(how: str) -> None:
    life = living("alice", "bob", at_once=False, deletion={"backup": True, "grace": "1h"})
    everybody = life.site.load
    without(life, "alice")
    life.live(30)
    life.wait(3700)

    def meanwhile() -> None:
        if done.count("BackupInstance") > 1:
            return
        if how == "declared again":
            life.site.load = everybody
        elif how == "suspended":
            Somebody(life.site.world).set_config(BOX, marks.SUSPENDED, life.site.now.isoformat())
        elif how == "a broken file":
            life.site.load = replace(life.site.load, complete=False)
        else:
            life.site.world.doubts = ("the storage pool default is unavailable",)
        life.make_pass("manifests")

    done = on_action(life, "BackupInstance", meanwhile)
    life.make_pass()
    life.pool.work()
    assert "BackupInstance" in done
    assert "DeleteInstance" not in done
    assert BOX in life.site.world.instances
    life.live(30)
    if how == "declared again":
        assert life.site.world.instances[BOX].status is InstanceStatus.RUNNING
    elif how == "a doubt":
        life.site.world.doubts = ()
        life.live(400)
        assert BOX not in life.site.world.instances


def test_an_address_is_given_to_nobody_else_when_its_work_ends_during_the_look() -> None:
    life = living("zoe", at_once=False)
    life.site.declare(manifest("zoe"), manifest("mia"))
    life.make_pass("manifests")
    host, observe = life.site.host, life.site.host.observe

    def slow(*args: Any) -> Any:
        seen = observe(*args)
        life.pool.work()  # mia is complete before the look is over, and not in it
        return seen

    host.observe = slow  # type: ignore[method-assign, assignment]
    life.site.declare(manifest("zoe"), manifest("mia"), manifest("bea"))
    life.make_pass("manifests")
    host.observe = observe  # type: ignore[method-assign]
    life.live(60)
    addresses = [instance.addresses for instance in life.site.world.instances.values()]
    assert len(set(addresses)) == 3
    assert not life.heard.troubles


def test_the_word_to_restart_is_kept_for_one_who_is_busy() -> None:
    life = living("alice", at_once=False)
    life.site.declare(manifest("alice", resources={"cpu": "3"}))
    life.make_pass("manifests")
    assert life.workers.busy == {"alice"}
    life.site.declare(manifest("alice", docker=True))
    since = life.site.world.instances[BOX].last_used_at
    life.controller.allow_restart(frozenset({"*"}))
    life.make_pass("request")
    life.live(30)
    restarted = life.site.world.instances[BOX].last_used_at
    assert restarted != since
    life.site.declare(manifest("alice"))
    life.live(30)
    assert life.site.world.instances[BOX].last_used_at == restarted, "one word, one restart"


def test_deletions_with_long_backups_leave_hands_to_whoever_is_new() -> None:
    gone = [f"user{number:02d}" for number in range(2 * SLOW)]
    life = Living(Site(*(manifest(name, deletion={"backup": True, "grace": "1h"}) for name in gone), manifest("zoe")))
    life.live(100)
    life.approvals = frozenset(Approval(verb, frozenset(gone)) for verb in ("retire", "prune"))
    life.site.declare(manifest("zoe"))
    life.live(100)
    life.wait(7200)
    life.pool.at_once = False
    life.make_pass()
    assert len(life.workers.busy) == SLOW // 2
    life.site.declare(manifest("zoe"), manifest("mia"))
    life.make_pass("manifests")
    assert "mia" in life.workers.busy


# Circles


def test_whoever_undoes_it_in_ever_new_ways_is_not_followed_for_ever() -> None:
    life = living("alice")
    somebody, sizes = Somebody(life.site.world), iter(range(1, 100_000))
    on_action(life, "UpdateInstance", lambda: somebody.set_config(BOX, "limits.memory", f"{next(sizes)}MiB"))
    somebody.set_config(BOX, "limits.memory", "1GiB")
    life.heard.actions.clear()
    life.live(120)
    assert len(life.heard.actions) < 20
    assert life.controller.last.troubles["alice"].reason == "StillDifferent"


def test_a_guest_that_nobody_can_look_into_is_no_hot_loop() -> None:
    life = living("alice", "bob")
    host, observe, looks = life.site.host, life.site.host.observe, []

    def blind(*args: Any) -> Any:
        found = observe(*args)
        looks.append(found)
        return replace(found, guests={name: guest for name, guest in found.guests.items() if name != BOX})

    host.observe = blind  # type: ignore[method-assign, assignment]
    life.site.declare(manifest("alice", packages=["git"]), manifest("bob"))
    shown = life.live(120)
    assert len(looks) < 40
    assert shown.troubles["alice"].reason == "GuestUnreadable"
    host.observe = observe  # type: ignore[method-assign]
    life.live(300)
    assert life.controller.last.plan.unchanged == ("alice", "bob")  # type: ignore[union-attr]


# Threads that must not die


def test_a_prober_that_fails_in_a_new_way_has_found_something_and_goes_on() -> None:
    life = living("alice", "bob")

    def attempt(name: str, _instance: str, _address: str) -> tuple[float, str]:
        if name == "alice":
            raise OSError(24, "Too many open files")
        return 0.1, ""

    probing = Probing(attempt, lambda: None, lambda: life.site.now)
    probing.check(life.make_pass())
    probing.start()
    try:
        _until(lambda: len(probing.results) == 2)
        assert "Too many open files" in probing.results["alice"].error
        assert probing.results["bob"].error == ""
    finally:
        probing.stop()


def test_a_chore_that_fails_in_a_new_way_is_told_and_the_others_are_done() -> None:
    told: list[tuple[str, str, bool]] = []
    chores = Chores(
        [Chore("vault", 1.0, _raise_bug), Chore("firewall", 1.0, lambda: "back")], lambda *w: told.append(w)
    )
    chores.do(0.0)
    assert told == [("vault", "internal error (ValueError); please report it", False), ("firewall", "back", True)]


def test_a_guest_whose_end_fails_in_a_new_way_holds_up_nobody_elses() -> None:
    life = living("alice", "bob")
    execute = life.site.host.execute

    def broken(action: Any, *rest: Any) -> None:
        if action.environment == "alice":
            raise ValueError("a bug")
        execute(action, *rest)

    life.site.host.execute = broken  # type: ignore[method-assign, assignment]
    _asked, late = stop_everybody(life.site.host, life.site.host.observe(), frozenset(), thread_pool)
    assert late == ("alice",)
    assert life.site.world.instances["bob-container"].status is InstanceStatus.STOPPED


def test_a_login_that_fails_in_a_new_way_is_awaited_again() -> None:
    life = living("alice")
    pool: list[Executor] = []

    def pools(_size: int, _name: str) -> Executor:
        pool.append(OnDemand())
        return pool[-1]

    execute = life.site.host.execute
    life.site.host.execute = _raise_bug  # type: ignore[method-assign, assignment]
    recovery = Recovery(life.site.host, lambda: 20.0, lambda: None, pools)
    assert not recovery.check(life.make_pass())
    life.site.host.execute = execute  # type: ignore[method-assign]
    assert recovery.check(life.make_pass())


def _until(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline, waiting = time.monotonic() + seconds, threading.Event()
    while not true():
        assert time.monotonic() < deadline
        waiting.wait(0.01)
