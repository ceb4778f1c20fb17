"""Refusals, names and addresses."""

from __future__ import annotations

import pytest

from containarium.model import marks
from containarium.model.observed import InstanceStatus
from containarium.plan.conditions import summarise
from containarium.plan.decision import Verb
from containarium.plan.planner import make_plan
from containarium.simulate.somebody import Somebody
from tests.builders import Site, manifest

BOX = "alice-container"


def test_a_foreign_instance_of_that_name_is_a_conflict_and_stays_as_it_is() -> None:
    site = Site(manifest("alice"))
    Somebody(site.world).foreign_instance(BOX)
    before = site.world.snapshot()
    result = site.run()
    assert [(problem.reason, problem.field) for problem in result.last.problems] == [("Conflict", "metadata.name")]
    assert str(result.last.problems[0]).startswith("alice.yaml:1:1: metadata.name: an Incus instance")
    assert site.world.snapshot() == before


def test_a_foreign_account_of_that_name_is_a_conflict_and_stays_as_it_is() -> None:
    site = Site(manifest("alice"), manifest("bob"))
    Somebody(site.world).add_account("alice")
    before = site.world.account("alice")
    result = site.run()
    assert [problem.environment for problem in result.last.problems] == ["alice"]
    assert site.world.account("alice") == before
    assert BOX not in site.world.instances
    assert "bob-container" in site.world.instances


def test_a_shrinking_disk_is_refused_and_nothing_of_the_edit_is_applied() -> None:
    site = Site(manifest("alice"))
    site.run()
    before = site.world.snapshot()
    site.declare(manifest("alice", resources={"disk": "10GiB", "cpu": "1"}))
    result = site.run()
    assert [problem.reason for problem in result.last.problems] == ["DiskShrinkRefused"]
    assert result.last.problems[0].field == "spec.resources.disk"
    assert site.world.snapshot() == before


def test_addresses_are_distinct_stable_and_never_somebody_elses() -> None:
    site = Site(manifest("bob"), manifest("carol", network={"ipv4": "10.0.3.50"}))
    somebody = Somebody(site.world)
    somebody.foreign_instance("gitlab", address="10.0.3.2")
    somebody.foreign_instance("leased", running=True)
    leased = site.world.lease("leased")
    assert site.run().converged
    address = {name: instance.addresses for name, instance in site.world.instances.items()}
    assert address["carol-container"] == ("10.0.3.50",)
    assert address["bob-container"][0] not in {"10.0.3.1", "10.0.3.2", "10.0.3.50", leased}

    site.declare(*site.load.manifests, manifest("alice"))
    site.run()
    assert site.world.instances["bob-container"].addresses == address["bob-container"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.0.4.7", "AddressInvalid"),
        ("10.0.3.0", "AddressInvalid"),
        ("10.0.3.255", "AddressInvalid"),
        ("10.0.3.1", "AddressInvalid"),
        ("10.0.3.9", "AddressInUse"),
    ],
)
def test_an_impossible_address_is_refused(address: str, reason: str) -> None:
    site = Site(manifest("alice", network={"ipv4": address}))
    Somebody(site.world).foreign_instance("gitlab", address="10.0.3.9")
    result = site.run()
    assert [problem.reason for problem in result.last.problems] == [reason]
    assert BOX not in site.world.instances


def test_a_full_subnet_refuses_one_environment_and_serves_the_others() -> None:
    names = [f"user{number:03}" for number in range(254)]
    site = Site(*(manifest(name, running=False) for name in names))
    plan = make_plan(site.load, site.host.observe(), site.now)
    assert [(problem.environment, problem.reason) for problem in plan.problems] == [("user253", "SubnetFull")]
    assert len(plan.environments) == 253


def test_a_new_address_of_a_running_guest_waits_for_an_allowed_restart() -> None:
    site = Site(manifest("alice"))
    site.run()
    site.declare(manifest("alice", network={"ipv4": "10.0.3.200"}))
    assert not site.run().last.pending
    assert site.world.instances[BOX].addresses == ("10.0.3.2",)
    assert site.run(restart=True).first.pending
    assert site.world.instances[BOX].addresses == ("10.0.3.200",)
    account = site.world.account("alice")
    assert account is not None
    assert account.keys is not None
    assert 'permitopen="10.0.3.200:22"' in account.keys[0]
    assert site.run().converged


def test_a_suspended_environment_is_left_alone_and_not_retired() -> None:
    site = Site(manifest("alice"))
    site.run()
    Somebody(site.world).stop(BOX)
    site.declare(manifest("alice", annotations={"containarium.dev/suspend": "true"}))
    result = site.run()
    assert result.last.suspended == ("alice",)
    assert site.world.instances[BOX].status is InstanceStatus.STOPPED
    assert summarise(result.last, result.observed)["alice"][0].message == "left alone because its manifest says so"


def test_who_was_suspended_on_the_host_is_told_apart_from_whose_manifest_says_so() -> None:
    site = Site(manifest("alice"))
    site.run()
    Somebody(site.world).set_config(BOX, marks.SUSPENDED, "2026-11-22T12:00:00+00:00")
    result = site.run()
    (ready, *_) = summarise(result.last, result.observed)["alice"]
    assert ready.message == "left alone since 2026-11-22T12:00:00+00:00, until containarium resume alice"


def test_an_environment_placed_elsewhere_is_neither_made_nor_retired_here() -> None:
    site = Site(manifest("alice"), manifest("bob"))
    site.run()
    site.declare(
        manifest("alice", placement={"host": "other"}), manifest("bob"), manifest("dave", placement={"host": "other"})
    )
    result = site.run()
    assert result.last.elsewhere == ("alice", "dave")
    assert site.world.instances[BOX].status is InstanceStatus.RUNNING
    assert "dave-container" not in site.world.instances


def test_an_environment_that_is_not_to_run_is_made_and_left_stopped_until_it_is() -> None:
    site = Site(manifest("alice", running=False))
    assert site.run().converged
    assert site.world.instances[BOX].status is InstanceStatus.STOPPED
    site.declare(manifest("alice"))
    result = site.run()
    assert result.converged
    assert not any(change.drift for plan in result.done for change in plan.changes)
    inside = site.world.inside(BOX)
    assert inside is not None
    assert inside.guest.user


def test_an_address_that_waits_to_be_given_up_goes_to_nobody_else() -> None:
    site = Site(manifest("alice"))
    site.run()
    site.declare(manifest("alice", network={"ipv4": "10.0.3.100"}), manifest("bob"))
    assert not site.run().failures
    assert site.world.instances[BOX].addresses == ("10.0.3.2",)
    assert site.world.instances["bob-container"].addresses == ("10.0.3.3",)


def test_the_address_that_another_environment_waits_to_give_up_is_refused() -> None:
    site = Site(manifest("bob"))
    site.run()
    site.declare(manifest("alice", network={"ipv4": "10.0.3.2"}), manifest("bob", network={"ipv4": "10.0.3.9"}))
    assert [str(problem.reason) for problem in site.run().last.problems] == ["AddressInUse"]
    assert site.run(restart=True).failures == ()
    assert site.run().converged


@pytest.mark.parametrize("newcomer", ["aaron", "zoe"])
def test_whoever_has_an_address_keeps_it_whatever_the_names_are(newcomer: str) -> None:
    site = Site(manifest("bob"))
    site.run()
    site.declare(manifest("bob"), manifest(newcomer, network={"ipv4": "10.0.3.2"}))
    result = site.run()
    assert [(problem.environment, problem.reason) for problem in result.last.problems] == [(newcomer, "AddressInUse")]
    assert site.world.instances["bob-container"].addresses == ("10.0.3.2",)


def test_an_allocated_address_that_was_changed_on_the_nic_is_put_back_as_drift() -> None:
    site = Site(manifest("alice"))
    site.run()
    nic = dict(site.world.instances[BOX].devices["eth0"])
    Somebody(site.world).set_device(BOX, "eth0", {**nic, "ipv4.address": "10.0.3.77"})
    result = site.run()
    assert [(change.field, change.drift) for change in result.done[0].changes] == [("spec.network.ipv4", True)]
    assert site.world.instances[BOX].addresses == ("10.0.3.2",)
    assert result.converged


ADOPT = {"containarium.dev/adopt": "true"}


def test_a_stopped_instance_is_adopted_with_what_is_in_it() -> None:
    site = Site(manifest("alice", annotations=ADOPT))
    Somebody(site.world).foreign_instance(BOX, address="10.0.3.77")
    made = site.world.instances[BOX].created_at
    result = site.run()
    assert result.converged
    assert result.done[0].verb is Verb.ADOPT
    assert site.world.instances[BOX].created_at == made
    assert site.world.instances[BOX].addresses == ("10.0.3.77",), "an address that was pinned is kept"
    assert site.world.instances[BOX].status == "Running"


def test_a_running_instance_is_not_adopted_where_that_would_need_a_restart() -> None:
    site = Site(manifest("alice", annotations=ADOPT))
    Somebody(site.world).foreign_instance(BOX, running=True)
    before = site.world.instances[BOX]
    (problem,) = site.run().last.problems
    assert problem.reason == "AdoptionRefused"
    assert "isolation.idmap" in problem.message
    assert site.world.instances[BOX] == before


def test_what_carries_another_mark_is_never_adopted() -> None:
    site = Site(manifest("alice", annotations=ADOPT))
    Somebody(site.world).half_born(BOX, "somebody-else")
    (problem,) = site.run().last.problems
    assert problem.reason == "Conflict"


def test_what_an_admin_suspended_on_the_host_is_left_alone_and_stays() -> None:
    site = Site(manifest("alice"), manifest("bob"))
    site.run()
    Somebody(site.world).set_config(BOX, marks.SUSPENDED, "2026-11-22T12:00:00+00:00")
    Somebody(site.world).stop(BOX)
    site.declare(manifest("bob"))
    result = site.run()
    assert result.first.suspended == ("alice",)
    assert not result.first.pending
    Somebody(site.world).unset_config(BOX, marks.SUSPENDED)
    assert [plan.verb for plan in site.run().done] == [Verb.RETIRE]


@pytest.mark.parametrize("changed", [{"group": "users", "home": "/"}, {"comment": "evil"}])
def test_a_jump_account_that_lost_half_of_its_mark_is_refused_with_the_way_to_give_it_back(
    changed: dict[str, str],
) -> None:
    site = Site(manifest("alice"))
    site.run()
    site.world.change_account("alice", **changed)
    (problem,) = site.run().last.problems
    assert problem.reason == "Conflict"
    assert "usermod -" in problem.remedy
    assert "back" in problem.remedy
