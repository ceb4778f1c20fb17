"""The controller's passes on a simulated host."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from containarium.model import marks
from containarium.model.observed import InstanceStatus
from containarium.model.problem import Location, Problem
from containarium.plan.decision import Suspicion
from containarium.plan.terms import Approval
from containarium.reconcile.workers import QUICK
from containarium.simulate.faults import Fail, Kill, Scripted, Wait
from containarium.simulate.host import SimulatedHost
from containarium.simulate.somebody import Somebody
from tests.builders import Site, load, manifest, public_key
from tests.living import Living

BOX = "alice-container"


def living(*names: str, at_once: bool = True, **spec: Any) -> Living:
    life = Living(Site(*(manifest(name, **spec) for name in names)), at_once=at_once)
    life.live()
    return life


def status(life: Living, name: str) -> InstanceStatus:
    return life.site.world.instances[f"{name}-container"].status


def test_everybody_is_made_and_then_nothing_is_done_any_more() -> None:
    life = living("alice", "bob")
    assert {name for name, _kind in life.heard.actions} == {"alice", "bob"}
    life.heard.actions.clear()
    shown = life.live(600)
    assert life.heard.actions == []
    assert shown.plan is not None
    assert shown.plan.unchanged == ("alice", "bob")
    assert shown.troubles == {}


def test_drift_is_repaired_and_whoever_did_it_is_named() -> None:
    life = living("alice")
    life.blame = lambda instance, _since: "mallory via unix" if instance == BOX else ""
    Somebody(life.site.world).set_config(BOX, "limits.memory", "1GiB")
    life.make_pass("incus")
    assert life.heard.drift == [("alice", ("spec.resources.memory",), "mallory via unix")]
    assert life.site.world.instances[BOX].config["limits.memory"] != "1GiB"


def test_the_same_drift_is_repaired_as_often_as_it_comes() -> None:
    life = living("alice")
    for _ in range(3):
        Somebody(life.site.world).set_config(BOX, "limits.memory", "1GiB")
        life.live(5)
        assert life.site.world.instances[BOX].config["limits.memory"] != "1GiB"
    assert life.heard.troubles == []


def test_drift_inside_a_guest_is_found_on_the_slower_beat() -> None:
    life = living("alice")
    Somebody(life.site.world).set_root_password(BOX)
    life.live(330)
    inside = life.site.world.inside(BOX)
    assert inside is not None
    assert inside.guest.root_password.value == "*"


def test_deep_looks_are_spread_over_the_period() -> None:
    names = [f"user{number:02d}" for number in range(40)]
    life = living(*names)
    seen: list[int] = []
    observe = life.site.host.observe

    def watched(*args: Any) -> Any:
        found = observe(*args)
        seen.append(len(found.guests))
        return found

    life.site.host.observe = watched  # type: ignore[method-assign, assignment]
    life.live(400)
    assert sum(seen) >= 40
    assert max(seen) <= 20, "never all of them at once"


def test_a_failure_waits_longer_each_time_and_a_new_manifest_ends_the_wait() -> None:
    life = Living(Site(manifest("alice")))
    life.site.world.catalogue.discard("git")
    life.site.declare(manifest("alice", packages=["git"]))
    life.live(100)
    assert life.heard.troubles
    assert all(trouble.stalled for trouble in life.heard.troubles), "no such package: only a person can mend that"
    assert life.controller.last.troubles["alice"].attempts == len(life.heard.troubles)
    before = len(life.heard.troubles)
    life.live(100)
    assert len(life.heard.troubles) == before, "what only a person can mend is tried seldom"
    life.site.declare(manifest("alice", packages=["tmux"]))
    shown = life.live(5)
    assert shown.troubles == {}
    assert shown.plan is not None
    assert shown.plan.unchanged == ("alice",)


def test_passing_faults_are_tried_again_with_growing_pauses() -> None:
    life = Living(Site(manifest("alice")))
    life.site.host = SimulatedHost(life.site.world, Scripted({number: Fail() for number in range(1, 8)}))
    life.born()
    life.live(130)
    pauses = [
        (trouble.retry_at - trouble.since).total_seconds()
        for trouble in life.heard.troubles
        if trouble.retry_at is not None
    ]
    assert len(pauses) == 7
    attempts = [trouble.attempts for trouble in life.heard.troubles]
    assert attempts == sorted(attempts)
    assert pauses == sorted(pauses), "counted from the first failure, each retry is later"
    life.live(300)
    assert status(life, "alice") is InstanceStatus.RUNNING


def test_waiting_is_no_failure_that_grows() -> None:
    life = Living(Site(manifest("alice")))
    life.site.host = SimulatedHost(life.site.world, Scripted({number: Wait(2.0) for number in range(1, 5)}))
    life.born()
    life.live(20)
    assert status(life, "alice") is InstanceStatus.RUNNING


def test_a_slow_environment_delays_nobody() -> None:
    life = living("alice", at_once=False)
    life.site.declare(manifest("alice"), manifest("bob", packages=["git"]))
    shown = life.make_pass("manifests")
    assert list(shown.working) == ["bob"]
    Somebody(life.site.world).stop(BOX)
    life.wait(1)
    shown = life.make_pass("incus")
    assert list(shown.working) == ["alice", "bob"]


def test_whoever_failed_leaves_half_of_the_hands_to_the_others() -> None:
    bad = [f"bad{number:02d}" for number in range(20)]
    life = living(*bad, "zoe", at_once=False)
    for name in bad:
        Somebody(life.site.world).stop(f"{name}-container")
    healthy = life.site.host
    life.site.host = SimulatedHost(life.site.world, lambda boundary: Fail() if boundary.action else None)
    life.born()
    life.live(20)
    assert set(life.controller.last.troubles) == set(bad)
    life.site.host = healthy
    life.wait(400)
    life.make_pass()
    assert len(life.workers.busy) == QUICK // 2
    Somebody(life.site.world).stop("zoe-container")
    life.make_pass("incus")
    assert "zoe" in life.workers.busy


def test_addresses_that_were_promised_are_given_to_nobody_else() -> None:
    life = living("zoe", at_once=False)
    life.site.declare(manifest("zoe"), manifest("mia"))
    life.make_pass("manifests")
    life.site.declare(manifest("zoe"), manifest("mia"), manifest("bea"))
    life.make_pass("manifests")
    life.live(60)
    addresses = [instance.addresses for instance in life.site.world.instances.values()]
    assert len(set(addresses)) == 3
    assert not life.heard.troubles


def test_what_is_still_different_after_it_was_done_is_not_done_over_and_over() -> None:
    life = living("alice")
    host = life.site.host
    execute = host.execute

    def forgetful(action: Any, *rest: Any) -> None:
        execute(action, *rest)
        Somebody(life.site.world).set_config(BOX, "limits.memory", "1GiB")

    host.execute = forgetful  # type: ignore[method-assign, assignment]
    Somebody(life.site.world).set_config(BOX, "limits.memory", "1GiB")
    life.heard.actions.clear()
    life.live(60)
    assert len(life.heard.actions) < 10
    assert life.controller.last.troubles["alice"].reason == "StillDifferent"


def test_a_missing_manifest_cuts_access_only_when_the_folder_has_come_to_rest() -> None:
    life = living("alice", "bob")
    life.site.declare(manifest("bob"))
    life.make_pass("manifests")
    assert status(life, "alice") is InstanceStatus.RUNNING
    assert [i.reason for i in life.controller.last.plan.interlocks] == [Suspicion.SETTLING]  # type: ignore[union-attr]
    assert life.controller.pause()[0] <= 2.0
    life.live(5)
    assert status(life, "alice") is InstanceStatus.STOPPED


def test_files_that_are_deleted_one_by_one_are_no_smaller_a_loss() -> None:
    names = [f"user{number}" for number in range(10)]
    life = living(*names)
    for count in range(1, 7):
        life.site.declare(*(manifest(name) for name in names[count:]))
        life.live(5)
    stopped = [i for i in life.site.world.instances.values() if i.status is InstanceStatus.STOPPED]
    assert len(stopped) == 2
    (interlock,) = life.controller.last.plan.interlocks  # type: ignore[union-attr]
    assert interlock.reason is Suspicion.BUDGET
    assert set(interlock.environments) == set(names[2:6])


def test_an_approved_set_stays_approved_while_it_goes_one_after_the_other() -> None:
    names = [f"user{number}" for number in range(6)]
    life = living(*names, at_once=False)
    life.site.declare(*(manifest(name) for name in names[3:]))
    life.live(5)
    (interlock,) = life.controller.last.plan.interlocks  # type: ignore[union-attr]
    life.approvals = frozenset({Approval("retire", frozenset(interlock.environments))})
    life.make_pass("request")
    life.pool.work(1)
    life.live(20)
    stopped = {name for name in names if status(life, name) is InstanceStatus.STOPPED}
    assert stopped == set(names[:3])


@pytest.mark.parametrize("broken", [True, False], ids=["a broken file", "an unreadable folder"])
def test_nobody_leaves_while_the_manifests_are_not_whole(broken: bool) -> None:
    life = living("alice", "bob")
    problem = Problem(Location("x.yaml", 1, 1), "", "is no YAML", "mend it")
    life.site.load = load(manifest("bob"), problems=[problem]) if broken else load(complete=False)
    life.live(600)
    assert status(life, "alice") is InstanceStatus.RUNNING
    assert status(life, "bob") is InstanceStatus.RUNNING


def test_nobody_leaves_while_the_host_has_doubts() -> None:
    life = living("alice", "bob")
    life.site.world.doubts = ("the storage pool default is unavailable",)
    life.site.declare(manifest("bob"))
    life.live(300)
    assert status(life, "alice") is InstanceStatus.RUNNING
    life.site.world.doubts = ()
    life.live(70)
    assert status(life, "alice") is InstanceStatus.STOPPED


def test_a_clock_that_jumps_deletes_nobody() -> None:
    life = living("alice", "bob")
    life.site.declare(manifest("bob"))
    life.live(10)
    life.site.wait(days=400)  # the clock on the wall alone
    life.live(60)
    assert BOX in life.site.world.instances
    life.live(4000)
    assert BOX not in life.site.world.instances, "after an hour the clock is believed"


def test_a_host_that_cannot_be_looked_at_changes_nothing_and_is_looked_at_again() -> None:
    life = living("alice")
    life.site.host = SimulatedHost(life.site.world, Scripted(looks={1: Fail("Down"), 2: Fail("Down")}))
    life.born()
    shown = life.make_pass()
    assert "injected fault" in shown.error
    assert shown.plan is None
    assert life.controller.pause()[0] == pytest.approx(1.0)
    life.wait(1)
    life.make_pass()
    assert life.controller.pause()[0] == pytest.approx(2.0)
    life.wait(2)
    assert life.make_pass().error == ""


def test_halted_it_begins_nothing() -> None:
    life = living("alice")
    life.controller.halted = True
    Somebody(life.site.world).stop(BOX)
    life.live(120)
    assert status(life, "alice") is InstanceStatus.STOPPED
    life.controller.halted = False
    life.live(70)
    assert status(life, "alice") is InstanceStatus.RUNNING


def test_a_new_manifest_is_timed_until_it_is_reached() -> None:
    life = living("alice")
    life.site.declare(manifest("alice", resources={"memory": "3GiB"}))
    life.live(5)
    ((name, seconds),) = life.heard.edits
    assert name == "alice"
    assert 0.0 <= seconds < 5.0


def test_a_restart_is_made_only_where_somebody_allowed_it() -> None:
    life = living("alice", "bob")
    for name in ("alice", "bob"):
        life.site.declare(
            *(m for m in life.site.load.manifests if m.name != name),
            manifest(name, docker=True, keys=[public_key(name)]),
        )
    life.live(5)
    since = life.site.world.instances[BOX].last_used_at
    life.controller.allow_restart(frozenset({"alice"}))
    life.live(5)
    assert life.site.world.instances[BOX].last_used_at != since
    assert marks.RESTART in life.site.world.instances["bob-container"].config


def test_a_controller_that_dies_is_finished_by_the_next_one() -> None:
    for number in range(1, 12):
        life = Living(Site(manifest("alice")))
        life.site.host = SimulatedHost(life.site.world, Scripted({number: Kill()}))
        life.born()
        with pytest.raises(BaseException, match=r".") as death:
            life.live(30)
        assert type(death.value).__name__ == "Crash"
        life.site.host = SimulatedHost(life.site.world)
        life.born()
        shown = life.live(30)
        assert shown.plan is not None
        assert shown.plan.unchanged == ("alice",)


def test_retries_are_dated() -> None:
    life = Living(Site(manifest("alice")))
    life.site.host = SimulatedHost(life.site.world, Scripted({1: Fail()}))
    life.born()
    life.make_pass()
    shown = life.make_pass()
    retry = shown.troubles["alice"].retry_at
    assert isinstance(retry, datetime)
    assert retry - life.site.now == timedelta(seconds=1)
