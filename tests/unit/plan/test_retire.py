"""What goes away, when, and what keeps it here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from containarium.model import marks
from containarium.model.observed import InstanceStatus
from containarium.model.problem import Location, Problem
from containarium.model.status import ConditionStatus
from containarium.plan.conditions import summarise
from containarium.plan.decision import Suspicion, Verb
from containarium.plan.planner import make_plan
from containarium.plan.render import summary
from containarium.plan.retire import policy
from containarium.reconcile.cycle import Settings, converge
from containarium.simulate.faults import Fail, Scripted
from containarium.simulate.host import SimulatedHost, boundaries
from containarium.simulate.somebody import Somebody
from tests.builders import Site, load, manifest

BOX = "alice-container"


def settled(*names: str, **spec: Any) -> Site:
    site = Site(*(manifest(name, **spec) for name in names))
    assert site.run().converged
    return site


def without(site: Site, *names: str) -> None:
    site.declare(*(m for m in site.load.manifests if m.name not in names))


def test_a_missing_manifest_cuts_access_and_keeps_the_data() -> None:
    site = settled("alice", "bob", "carol")
    without(site, "alice")
    result = site.run()
    assert [(plan.name, plan.verb) for plan in result.done] == [("alice", Verb.RETIRE)]
    account = site.world.account("alice")
    instance = site.world.instances[BOX]
    assert account is not None
    assert account.expired
    assert account.keys is None
    assert instance.status is InstanceStatus.STOPPED
    assert instance.config["boot.autostart"] == "false"
    assert instance.config[marks.PRUNE_AFTER] == "2026-11-29T12:00:00+00:00"
    assert not site.run().first.pending


def test_access_is_cut_before_anything_else() -> None:
    site = settled("alice", "bob", "carol")
    without(site, "alice")
    plan = make_plan(site.load, site.host.observe(), site.now)
    kinds = [action.kind for action in plan.environments[0].actions]
    assert kinds == ["WriteAccountKeys", "LockAccount", "UpdateInstance", "StopInstance"]


def test_bringing_the_manifest_back_brings_everything_back() -> None:
    site = settled("alice", "bob")
    everything = site.load
    without(site, "alice")
    site.run()
    site.wait(days=3)
    site.load = everything
    assert site.run().converged
    account = site.world.account("alice")
    assert account is not None
    assert not account.expired
    assert account.keys
    assert site.world.instances[BOX].status is InstanceStatus.RUNNING
    assert marks.RETIRED not in site.world.instances[BOX].config


def test_data_goes_only_after_the_grace_period() -> None:
    site = settled("alice", "bob", deletion={"grace": "7d"})
    without(site, "alice")
    site.run()
    site.wait(days=6, hours=23)
    site.run()
    assert BOX in site.world.instances
    site.wait(hours=1)
    assert [plan.verb for plan in site.run().done] == [Verb.PRUNE]
    assert BOX not in site.world.instances
    assert site.world.account("alice") is None
    assert site.run().converged


@pytest.mark.parametrize("backup", [False, True])
def test_what_is_protected_is_held_back_and_said(backup: bool) -> None:
    site = settled("alice", "bob", deletion={"protect": True, "backup": backup})
    without(site, "alice")
    site.run()
    site.wait(days=365)
    result = site.run()
    assert [interlock.reason for interlock in result.last.interlocks] == [Suspicion.PROTECTED]
    assert BOX in site.world.instances
    assert not site.world.backups


def test_a_backup_that_is_asked_for_comes_before_the_deletion() -> None:
    site = settled("alice", "bob", deletion={"backup": True})
    without(site, "alice")
    site.run()
    site.wait(days=7)
    kept = site.world.instances[BOX]
    (plan,) = make_plan(site.load, site.host.observe(), site.now).environments
    assert [action.kind for action in plan.actions] == ["BackupInstance", "DeleteInstance", "DeleteAccount"]
    assert site.run().converged
    assert BOX not in site.world.instances
    assert site.world.backups == {BOX: (kept,)}


def test_one_that_somebody_started_is_stopped_before_it_is_backed_up() -> None:
    site = settled("alice", "bob", deletion={"backup": True})
    without(site, "alice")
    site.run()
    Somebody(site.world).start(BOX)
    site.wait(days=7)
    (plan,) = make_plan(site.load, site.host.observe(), site.now).environments
    assert [action.kind for action in plan.actions][:3] == ["StopInstance", "BackupInstance", "DeleteInstance"]
    assert site.run().converged
    assert BOX in site.world.backups


def test_nothing_is_deleted_where_the_backup_fails() -> None:
    site = settled("alice", "bob", deletion={"backup": True})
    without(site, "alice")
    site.run()
    site.wait(days=7)
    (plan,) = make_plan(site.load, site.host.observe(), site.now).environments
    for number, boundary in enumerate(boundaries(site.world, plan.actions[:1]), start=1):
        failing = SimulatedHost(site.world, Scripted({number: Fail()}))
        result = converge(site.load, failing, lambda: site.now, Settings())
        assert [failure.action for failure in result.failures] == ["BackupInstance"], boundary
        assert BOX in site.world.instances


@pytest.mark.parametrize("mark", ["Retire;7d;bakcup", "Retire;soon;backup", "nonsense", ""])
def test_a_deletion_mark_that_nobody_can_read_never_means_without_a_backup(mark: str) -> None:
    assert policy(mark).backup


def test_a_plain_deletion_mark_asks_for_no_backup() -> None:
    assert policy("Retire;7d") == (False, timedelta(days=7), False)


def test_the_policy_retain_never_prunes() -> None:
    site = settled("alice", "bob", deletion={"policy": "Retain"})
    without(site, "alice")
    site.run()
    site.wait(days=3650)
    assert site.run().converged
    assert BOX in site.world.instances


def test_an_expired_environment_retires_on_the_day_after() -> None:
    site = settled("alice", "bob", expires="2026-11-22")
    site.wait(hours=13)
    # Both expire at once, which is more than may go in one pass.
    assert site.run().first.unsafe
    site.declare(manifest("alice", expires="2026-11-22"), manifest("bob"))
    assert site.run().done[0].reason == "expired on 2026-11-22"
    assert site.world.instances[BOX].status is InstanceStatus.STOPPED


def expired_and_retired(**deletion: Any) -> Site:
    site = settled("bob", "carol")
    site.declare(*site.load.manifests, manifest("alice", expires="2026-11-22", deletion=deletion))
    assert site.run().converged
    site.wait(days=1)
    assert site.run().converged
    assert site.world.instances[BOX].config[marks.RETIRED]
    return site


def reworded(site: Site, **deletion: Any) -> None:
    without(site, "alice")
    site.declare(*site.load.manifests, manifest("alice", expires="2026-11-22", deletion=deletion))


def test_a_longer_grace_in_an_expired_manifest_counts_even_on_the_last_day() -> None:
    site = expired_and_retired(grace="7d")
    site.wait(days=8)
    reworded(site, grace="30d", backup=True)
    (plan,) = site.run().done
    assert plan.verb is Verb.UPDATE
    config = site.world.instances[BOX].config
    assert config[marks.RETIRED] == "2026-11-23T12:00:00+00:00"
    assert config[marks.PRUNE_AFTER] == "2026-12-23T12:00:00+00:00"
    assert config[marks.DELETION] == "Retire;30d;backup"
    site.wait(days=30)
    site.run()
    assert BOX in site.world.backups


def test_an_expired_manifest_that_says_retain_by_now_keeps_the_data() -> None:
    site = expired_and_retired(grace="7d")
    site.wait(days=8)
    reworded(site, policy="Retain")
    site.wait(days=3650)
    assert site.run().converged
    assert BOX in site.world.instances


def test_protection_that_an_expired_manifest_asks_for_is_put_on_the_live_object_first() -> None:
    site = expired_and_retired(grace="7d")
    site.wait(days=8)
    reworded(site, grace="7d", protect=True)
    site.run()
    assert site.world.instances[BOX].config["security.protection.delete"] == "true"
    result = site.run()
    assert [interlock.reason for interlock in result.last.interlocks] == [Suspicion.PROTECTED]
    assert BOX in site.world.instances


def test_a_mark_that_somebody_took_off_a_retained_instance_deletes_nothing() -> None:
    site = settled("alice", "bob", deletion={"policy": "Retain"})
    without(site, "alice")
    site.run()
    Somebody(site.world).unset_config(BOX, marks.DELETION)
    site.wait(days=3650)
    site.run()
    assert BOX in site.world.instances


def test_an_expired_manifest_of_which_nothing_is_here_is_said_to_be_expired() -> None:
    site = settled("bob")
    site.declare(*site.load.manifests, manifest("alice", expires="2026-11-01"))
    result = site.run()
    assert result.last.expired == ("alice",)
    (ready,) = summarise(result.last, result.observed)["alice"]
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, "Expired")
    assert "1 expired" in summary(result.last)


def test_those_who_went_long_ago_make_the_share_that_may_go_no_larger() -> None:
    names = [f"user{number}" for number in range(12)]
    site = settled(*names)
    without(site, *names[4:])
    digest = site.run().first.interlocks[0].digest
    site.run(approved=frozenset({digest}))
    site.wait(days=1)
    without(site, *names[2:])
    plan = site.run().first
    assert plan.unsafe, "two of the four that are still here, not of twelve"
    assert site.world.instances["user2-container"].status is InstanceStatus.RUNNING


@pytest.mark.parametrize("held", ["protected", "too many"])
def test_whose_deletion_is_held_back_is_still_kept_out(held: str) -> None:
    site = settled("alice", "bob", "carol", deletion={"protect": held == "protected"})
    without(site, "alice")
    site.run()
    if held == "too many":
        site.wait(days=1)
        without(site, "bob")
        site.run()
    site.wait(days=30)
    Somebody(site.world).start(BOX)
    result = site.run()
    assert result.last.interlocks
    assert site.world.instances[BOX].status is InstanceStatus.STOPPED


@pytest.mark.parametrize(
    ("total", "leaving", "blocked"), [(1, 1, False), (3, 2, True), (9, 2, True), (10, 2, False), (10, 3, True)]
)
def test_more_than_a_fifth_needs_approval_of_exactly_that_set(total: int, leaving: int, blocked: bool) -> None:
    names = [f"user{number}" for number in range(total)]
    site = settled(*names)
    without(site, *names[:leaving])
    if not site.load.manifests:
        site.load = load(complete=True)
    plan = site.run().first
    assert plan.unsafe is blocked
    stopped = [i for i in site.world.instances.values() if i.status is InstanceStatus.STOPPED]
    assert len(stopped) == (0 if blocked else leaving)
    if blocked:
        digest = plan.interlocks[0].digest
        without(site, names[-1])
        assert site.run(approved=frozenset({digest})).first.unsafe, "approved for another set"
        site.declare(*(manifest(name) for name in names[leaving:]))
        assert not site.run(approved=frozenset({digest})).last.pending
        assert len(site.run().last.retired) == leaving


def test_nothing_goes_while_the_source_was_not_read_whole() -> None:
    site = settled("alice", "bob")
    site.load = load(manifest("bob"), complete=False)
    result = site.run()
    assert [interlock.reason for interlock in result.first.interlocks] == [Suspicion.SOURCE_INCOMPLETE]
    assert site.world.instances[BOX].status is InstanceStatus.RUNNING


def test_nothing_goes_while_any_manifest_is_broken_and_the_others_are_still_worked_on() -> None:
    site = settled("alice", "bob")
    broken = Problem(Location("alice.yaml", 3, 1), "spec", "is no mapping", "write one")
    site.load = load(manifest("bob", packages=["git"]), problems=[broken])
    result = site.run()
    assert [interlock.reason for interlock in result.first.interlocks] == [Suspicion.MANIFEST_ERRORS]
    assert [plan.name for plan in result.done] == ["bob"]
    assert site.world.instances[BOX].status is InstanceStatus.RUNNING
    account = site.world.account("alice")
    assert account is not None
    assert account.keys


def test_what_was_undone_on_a_retired_environment_is_done_again() -> None:
    site = settled("alice", "bob")
    without(site, "alice")
    site.run()
    somebody = Somebody(site.world)
    somebody.start(BOX)
    somebody.put_host_keys("alice", ["ssh-ed25519 AAAA mallory"])
    result = site.run()
    assert result.converged
    assert site.world.instances[BOX].status is InstanceStatus.STOPPED
    account = site.world.account("alice")
    assert account is not None
    assert account.keys is None


def test_an_unreadable_date_on_an_instance_keeps_the_data() -> None:
    site = settled("alice", "bob")
    without(site, "alice")
    site.run()
    Somebody(site.world).set_config(BOX, marks.PRUNE_AFTER, "soon")
    site.wait(days=3650)
    site.run()
    assert BOX in site.world.instances


def test_a_foreign_instance_and_account_never_retire() -> None:
    site = settled("alice", "bob")
    somebody = Somebody(site.world)
    somebody.foreign_instance("gitlab-container", running=True)
    somebody.add_account("gitlab")
    assert site.run().converged
    assert site.world.instances["gitlab-container"].status is InstanceStatus.RUNNING
    account = site.world.account("gitlab")
    assert account is not None
    assert not account.expired


def test_what_was_retired_half_born_starts_over_when_it_comes_back() -> None:
    site = settled("bob", "carol")
    Somebody(site.world).half_born(BOX, "alice")
    site.run()
    assert site.world.instances[BOX].config[marks.RETIRED]
    site.declare(*site.load.manifests, manifest("alice"))
    assert site.run().converged
    assert site.world.instances[BOX].status is InstanceStatus.RUNNING


def test_dates_of_a_clock_that_was_not_set_yet_give_the_whole_grace_period_again() -> None:
    site = settled("alice", "bob")
    without(site, "alice")
    right = site.now
    site.now = right.replace(year=1970)
    site.run()
    assert site.world.instances[BOX].config[marks.PRUNE_AFTER].startswith("1970")
    site.now = right
    site.run()
    assert site.world.instances[BOX].config[marks.PRUNE_AFTER] == "2026-11-29T12:00:00+00:00"
    assert site.world.instances[BOX].status is InstanceStatus.STOPPED


@pytest.mark.parametrize("date", ["2026-01-01", "2026-01-01T00:00:00", "soon"])
def test_a_date_without_its_zone_deletes_nothing_and_stops_nobody(date: str) -> None:
    site = settled("alice", "bob")
    without(site, "alice")
    site.run()
    Somebody(site.world).set_config(BOX, marks.PRUNE_AFTER, date)
    assert site.run().converged
    assert BOX in site.world.instances


def test_a_restored_backup_of_a_retired_environment_gets_a_grace_period_of_its_own() -> None:
    """An import brings the old dates back with it; what tells them from ours is the locked account that is missing."""
    site = settled("alice", "bob")
    without(site, "alice")
    site.run()
    kept = site.world.instances[BOX]
    site.wait(days=8)
    site.run()
    assert BOX not in site.world.instances
    site.world.put_instance(kept)
    site.wait(days=30)
    site.run()
    assert site.world.instances[BOX].config[marks.PRUNE_AFTER] > kept.config[marks.PRUNE_AFTER]
    assert not site.run().last.pending
    site.wait(days=8)
    site.run()
    assert BOX not in site.world.instances


def test_a_name_that_somebody_else_has_taken_holds_up_no_retirement() -> None:
    site = settled("alice", "bob")
    without(site, "alice")
    site.run()
    somebody = Somebody(site.world)
    somebody.remove_account("alice")
    somebody.add_account("alice")
    before = site.world.account("alice")
    assert not site.run().last.pending
    site.wait(days=8)
    site.run()
    assert BOX not in site.world.instances
    assert site.world.account("alice") == before
