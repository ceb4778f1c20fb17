"""Where an environment of a fleet runs, and how it gets there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from containarium.model import marks
from containarium.model.fleet import Box, Peer, Presence
from containarium.model.manifest import Manifest
from containarium.model.observed import InstanceStatus
from containarium.model.problem import Location, Problem
from containarium.model.status import ConditionStatus
from containarium.plan import render
from containarium.plan.conditions import summarise
from containarium.plan.decision import Stand, Suspicion, Verb
from containarium.plan.fleet import rendezvous
from containarium.plan.planner import make_plan
from containarium.plan.terms import Approval
from containarium.reconcile.workers import kind_of
from tests.builders import manifest, public_key
from tests.fleet import Fleet

BOX = "alice-container"


def on(host: str, name: str = "alice", **spec: Any) -> Manifest:
    """A manifest that places somebody on that host."""
    return manifest(name, placement={"host": host}, **spec)


@pytest.fixture
def fleet() -> Fleet:
    """Three hosts, and alice on the first."""
    made = Fleet("jump-1", "jump-2", "jump-3")
    made.declare(on("jump-1"))
    made.settle()
    made.sim.work()
    return made


def moved(fleet: Fleet, to: str = "jump-2") -> Fleet:
    fleet.declare(on(to))
    fleet.settle()
    return fleet


def test_it_runs_where_it_is_placed_and_every_door_leads_there(fleet: Fleet) -> None:
    assert fleet.running("alice") == ["jump-1"]
    address = fleet.world("jump-1").instances[BOX].addresses[0]
    assert [fleet.door(host, "alice") for host in fleet.sim.members] == [address] * 3
    assert fleet.plan("jump-2").elsewhere == ("alice",)
    place = fleet.plan("jump-2").places["alice"]
    assert (place.stand, place.host, place.address) == (Stand.ELSEWHERE, "jump-1", address)


def test_a_door_on_another_host_opens_nothing_but_the_box() -> None:
    fleet = Fleet("jump-1", "jump-2")
    fleet.declare(on("jump-1"))
    fleet.settle()
    keys = fleet.world("jump-2").account("alice").keys
    assert keys == (f'restrict,port-forwarding,permitopen="10.0.3.2:22" {public_key("alice")}',)


def test_rendezvous_is_the_same_everywhere_and_stays_when_others_come() -> None:
    names = [f"user{number}" for number in range(300)]
    before = {name: rendezvous(name, ["jump-1", "jump-2", "jump-3"]) for name in names}
    after = {name: rendezvous(name, ["jump-4", "jump-3", "jump-2", "jump-1"]) for name in names}
    assert all(after[name] in (before[name], "jump-4") for name in names)
    assert set(before.values()) == {"jump-1", "jump-2", "jump-3"}
    assert 30 < sum(host == "jump-4" for host in after.values()) < 120


def test_without_a_placement_one_host_makes_it_and_keeps_it() -> None:
    fleet = Fleet("jump-1", "jump-2", "jump-3")
    people = [f"user{number}" for number in range(12)]
    fleet.declare(*(manifest(name) for name in people))
    fleet.settle()
    hosts = {name: fleet.running(name) for name in people}
    assert all(len(where) == 1 for where in hosts.values())
    assert len({where[0] for where in hosts.values()}) > 1
    fleet.sim.add("jump-4")
    fleet.declare(*(manifest(name) for name in people))
    fleet.settle()
    assert {name: fleet.running(name) for name in people} == hosts


def test_a_move_carries_the_data_and_leaves_a_copy_for_the_grace_period(fleet: Fleet) -> None:
    made = fleet.content("jump-1", "alice")
    plan_before = fleet.manifests(on("jump-2"))
    fleet.deliver(plan_before)
    plan = fleet.plan("jump-2")
    assert [(e.name, e.verb) for e in plan.environments] == [("alice", Verb.MOVE)]
    assert "> alice will be moved here (from jump-1, which stops it meanwhile)" in render.text(plan)
    assert "jump-1 -> jump-2  [restart: made now]" in render.text(plan)
    fleet.settle()
    assert fleet.running("alice") == ["jump-2"]
    assert fleet.content("jump-2", "alice") == made > 0
    left = fleet.instance("jump-1", "alice")
    assert left is not None
    assert left.config[marks.MOVED] == "jump-2"
    assert left.config[marks.PRUNE_AFTER] == "2026-11-29T12:00:00+00:00"
    assert left.config["boot.autostart"] == "false"
    assert {fleet.door(host, "alice") for host in fleet.sim.members} == {"10.0.4.2"}
    assert fleet.plan("jump-1").places["alice"].stand is Stand.LEFT_BEHIND


def test_what_was_left_behind_goes_when_its_time_has_come_and_the_other_has_it(fleet: Fleet) -> None:
    moved(fleet).wait(days=8)
    fleet.sim.members["jump-2"].up = False
    fleet.pass_of("jump-1")
    assert fleet.instance("jump-1", "alice") is not None
    fleet.sim.members["jump-2"].up = True
    fleet.settle()
    assert fleet.instance("jump-1", "alice") is None
    assert fleet.running("alice") == ["jump-2"]
    assert fleet.door("jump-1", "alice") == "10.0.4.2"


def test_it_comes_back_with_what_was_made_there(fleet: Fleet) -> None:
    moved(fleet).sim.work()
    made = fleet.content("jump-2", "alice")
    moved(fleet, "jump-1")
    assert fleet.running("alice") == ["jump-1"]
    assert fleet.content("jump-1", "alice") == made


@pytest.mark.parametrize("protect", [False, True])
def test_what_was_left_behind_stays_until_the_other_host_has_offered_the_newer_one(protect: bool) -> None:
    fleet = Fleet("jump-1", "jump-2")
    for host in ("jump-1", "jump-2"):
        fleet.declare(on(host, deletion={"protect": protect}))
        fleet.settle()
    left = fleet.content("jump-1", "alice")
    fleet.sim.work()
    fleet.deliver(fleet.manifests(on("jump-1", deletion={"protect": protect})), "jump-1")  # jump-2 does not offer it
    (plan,) = fleet.plan("jump-1").environments
    assert [action.kind for action in plan.actions if action.kind != "WriteAccountKeys"] == ["FetchInstance"]
    assert "an older copy (moved)" in render.text(fleet.plan("jump-1"))
    assert [failure.error.reason for failure in fleet.pass_of("jump-1")] == ["NotOffered"]
    assert fleet.instance("jump-1", "alice") is not None
    assert fleet.content("jump-1", "alice") == left
    fleet.declare(on("jump-1", deletion={"protect": protect}))
    fleet.settle()
    assert fleet.running("alice") == ["jump-1"]
    assert fleet.content("jump-1", "alice") > left


def test_a_host_is_declared_by_its_name_in_small_letters(fleet: Fleet) -> None:
    seen = fleet.world("jump-1").snapshot()
    observed = replace(seen, host=replace(seen.host, name="Jump-1.example.org"), peers=fleet.peers("jump-1"))
    plan = make_plan(fleet.sim.members["jump-1"].load, observed, fleet.now)
    assert not plan.interlocks
    assert (plan.places["alice"].stand, plan.places["alice"].host) == (Stand.HERE, "jump-1")


def test_a_protected_one_moves_and_stays_protected() -> None:
    fleet = Fleet("jump-1", "jump-2")
    fleet.declare(on("jump-1", deletion={"protect": True}))
    fleet.settle()
    for host in ("jump-2", "jump-1", "jump-2"):
        fleet.declare(on(host, deletion={"protect": True}))
        fleet.settle()
        assert fleet.running("alice") == [host]
        assert fleet.world(host).instances[BOX].config["security.protection.delete"] == "true"


def test_nothing_is_made_while_a_host_is_silent_that_may_have_it(fleet: Fleet) -> None:
    fleet.sim.members["jump-3"].up = False
    fleet.declare(on("jump-1"), on("jump-2", "bob"))
    fleet.pass_of("jump-2")
    plan = fleet.plan("jump-2")
    (held,) = plan.interlocks
    assert held.reason is Suspicion.PEER_SILENT
    assert held.environments == ("bob",)
    assert "jump-3 (no answer) does not answer and may have bob" in held.message
    assert held.digest in held.remedy
    assert fleet.running("bob") == []
    fleet.approvals = frozenset({Approval("create", frozenset({"bob"}))})
    fleet.pass_of("jump-2")
    assert fleet.running("bob") == ["jump-2"]


def test_nothing_is_made_past_a_host_that_got_it_since_it_was_asked() -> None:
    fleet = Fleet("jump-1", "jump-2")
    fleet.declare()
    fleet.settle()
    fleet.declare(on("jump-1"))
    fleet.pass_of("jump-1")
    fleet.somebody("jump-2").remove_host_keys("alice")
    fleet.deliver(fleet.manifests(on("jump-2")), "jump-2")
    fleet.sim.stale |= {("jump-2", "jump-1")}
    assert [failure.error.reason for failure in fleet.pass_of("jump-2")] == ["LivesElsewhere"]
    assert fleet.instance("jump-2", "alice") is None


def test_nothing_is_taken_back_from_a_host_that_got_it_since_it_was_asked(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.plan("jump-1")  # it asks jump-2, which has nothing
    fleet.pass_of("jump-2")
    fleet.pass_of("jump-2")
    fleet.declare(on("jump-1"))
    fleet.sim.stale |= {("jump-1", "jump-2")}
    assert [failure.error.reason for failure in fleet.pass_of("jump-1")] == ["LivesElsewhere"]
    assert fleet.running("alice") == ["jump-2"]


def test_nothing_arrives_from_a_host_that_took_it_back_since_it_was_asked(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.plan("jump-1")  # it asks jump-2, which has nothing
    fleet.pass_of("jump-2")
    fleet.plan("jump-2")  # it asks jump-1, which lets it go
    arriving = fleet.instance("jump-2", "alice")
    assert arriving is not None
    assert arriving.config[marks.ARRIVING] == "jump-1;whole"
    fleet.sim.stale |= {("jump-1", "jump-2"), ("jump-2", "jump-1")}
    fleet.deliver(fleet.manifests(on("jump-1")), "jump-1")
    assert fleet.pass_of("jump-1") == []
    assert fleet.running("alice") == ["jump-1"]
    assert [failure.error.reason for failure in fleet.pass_of("jump-2")] == ["LivesElsewhere"]
    assert fleet.running("alice") == ["jump-1"]


def test_a_host_that_takes_no_part_makes_who_is_placed_on_it_without_asking() -> None:
    fleet = Fleet("jump-1", "jump-2")
    fleet.sim.cut.add(frozenset(("jump-1", "jump-2")))
    fleet.deliver(fleet.manifests(on("jump-1"), manifest("bob"), apart=["jump-1", "jump-2"]))
    fleet.pass_of("jump-1")
    assert fleet.running("alice") == ["jump-1"]
    assert fleet.instance("jump-1", "bob") is None


def test_a_host_that_takes_no_part_does_not_make_who_lives_elsewhere(fleet: Fleet) -> None:
    fleet.sim.members["jump-1"].up = False
    fleet.sim.forget("jump-2")
    fleet.deliver(fleet.manifests(on("jump-2"), apart=["jump-2"]), "jump-2")
    fleet.pass_of("jump-2")
    assert fleet.instance("jump-2", "alice") is None
    assert [held.reason for held in fleet.plan("jump-2").interlocks] == [Suspicion.PEER_SILENT]


@pytest.mark.parametrize("person", [on("jump-2"), manifest("alice")], ids=["placed", "unplaced"])
def test_who_was_on_a_host_before_there_was_a_fleet_is_not_made_anew(person: Manifest) -> None:
    fleet = Fleet("jump-1", "jump-2")
    fleet.declare(manifest("alice"), hosts=["jump-1"])
    fleet.pass_of("jump-1")
    fleet.sim.cut.add(frozenset(("jump-1", "jump-2")))
    fleet.declare()
    fleet.deliver(fleet.manifests(person, apart=["jump-1"]))
    fleet.pass_of("jump-2")
    assert fleet.running("alice") == ["jump-1"]
    (held,) = fleet.plan("jump-2").interlocks
    assert "write network.address and identity of jump-1" in held.remedy
    assert held.digest in held.remedy


def test_a_silent_host_that_has_it_is_waited_for(fleet: Fleet) -> None:
    fleet.sim.members["jump-1"].up = False
    fleet.declare(on("jump-2"))
    fleet.pass_of("jump-2")
    (held,) = fleet.plan("jump-2").interlocks
    assert "jump-1 (no answer) has alice and does not answer" in held.message
    assert fleet.instance("jump-2", "alice") is None
    fleet.sim.members["jump-1"].up = True
    fleet.settle()
    assert fleet.running("alice") == ["jump-2"]
    assert fleet.content("jump-2", "alice") > 0


def test_who_was_not_asked_yet_is_no_interlock(fleet: Fleet) -> None:
    content = fleet.manifests(on("jump-1"), on("jump-2", "bob"))
    observed = replace(fleet.world("jump-2").snapshot(), peers={"jump-1": Peer("jump-1"), "jump-3": Peer("jump-3")})
    plan = make_plan(content, observed, fleet.now)
    assert not plan.interlocks
    assert plan.places["bob"].stand is Stand.WAITING
    assert not plan.environments


def test_after_a_restart_the_door_tells_where_it_was(fleet: Fleet) -> None:
    fleet.declare(manifest("alice"))
    fleet.sim.members["jump-1"].up = False
    fleet.sim.forget("jump-2")
    plan = fleet.plan("jump-2")
    assert plan.places["alice"].host == "jump-1"
    assert not plan.environments
    assert fleet.door("jump-2", "alice") == "10.0.3.2"


def test_a_placement_on_a_host_that_nobody_declared_changes_nothing(fleet: Fleet) -> None:
    before = fleet.world("jump-1").snapshot()
    fleet.declare(on("jump-9"))
    for host in fleet.sim.members:
        plan = fleet.plan(host)
        assert [(p.reason, p.field) for p in plan.problems] == [("HostUnknown", "spec.placement.host")]
        assert not plan.environments
    assert fleet.world("jump-1").snapshot() == before


def test_two_hosts_that_have_it_are_told_and_nothing_changes_until_one_is_named(fleet: Fleet) -> None:
    fleet.declare(manifest("alice"))
    fleet.deliver(replace(fleet.manifests(on("jump-2")), hosts=()), "jump-2")
    fleet.somebody("jump-2").remove_host_keys("alice")
    fleet.deliver(fleet.manifests(on("jump-2"), hosts=["jump-2"]), "jump-2")
    fleet.pass_of("jump-2")  # it was alone, as far as it knew
    fleet.declare(manifest("alice"))
    for host in fleet.sim.members:
        plan = fleet.plan(host)
        assert [problem.reason for problem in plan.problems] == ["PlacedTwice"]
        assert "jump-1 (here) and jump-2 (here) have it" in plan.problems[0].message
        assert not plan.environments
    fleet.declare(on("jump-1"))
    fleet.settle()
    assert fleet.running("alice") == ["jump-1"]
    superseded = fleet.instance("jump-2", "alice")
    assert superseded is not None
    assert superseded.config[marks.MOVED] == "jump-1"


@pytest.mark.parametrize("reason", ["PlacedTwice", "HostUnknown"])
def test_a_withdrawn_key_goes_from_every_door_of_one_that_is_refused(fleet: Fleet, reason: str) -> None:
    keys = [public_key("new")]
    if reason == "PlacedTwice":
        fleet.somebody("jump-2").remove_host_keys("alice")
        fleet.deliver(fleet.manifests(on("jump-2"), hosts=["jump-2"]), "jump-2")
        fleet.pass_of("jump-2")  # it was alone, as far as it knew
        fleet.declare(manifest("alice", keys=keys))
    else:
        fleet.declare(on("jump-9", keys=keys))
    for host in fleet.sim.members:
        before = fleet.door(host, "alice"), fleet.instance(host, "alice")
        assert [problem.reason for problem in fleet.plan(host).problems] == [reason]
        fleet.pass_of(host)
        account = fleet.world(host).account("alice")
        assert [line.split('" ')[1] for line in account.keys if "from=" not in line] == keys
        assert (fleet.door(host, "alice"), fleet.instance(host, "alice")) == before
        assert not fleet.plan(host).environments


def test_a_host_that_left_the_list_changes_nothing_by_itself(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"), on("jump-2", "bob"), hosts=["jump-2", "jump-3"])
    before = fleet.world("jump-1").snapshot()
    fleet.pass_of("jump-1")
    plan = fleet.plan("jump-1")
    assert [held.reason for held in plan.interlocks] == [Suspicion.NOT_DECLARED]
    assert "this host, jump-1, is not declared, and others are (jump-2, jump-3)" in plan.interlocks[0].message
    assert fleet.world("jump-1").snapshot() == before


def test_without_the_hosts_manifests_nobody_makes_anew_what_lives_elsewhere(fleet: Fleet) -> None:
    fleet.declare(manifest("alice"), hosts=[])
    fleet.pass_of("jump-2")
    assert fleet.instance("jump-2", "alice") is None
    (held,) = fleet.plan("jump-2").interlocks
    assert held.reason is Suspicion.NOT_DECLARED
    assert held.digest


@pytest.mark.parametrize("people", [[on("jump-2")], [manifest("alice")]], ids=["placed", "unplaced"])
def test_a_host_that_is_struck_off_keeps_its_people_and_nobody_makes_them_anew(
    fleet: Fleet, people: list[Manifest]
) -> None:
    fleet.declare(*people, hosts=["jump-2"])
    fleet.pass_of("jump-2")
    assert fleet.instance("jump-2", "alice") is None
    (held,) = fleet.plan("jump-2").interlocks
    assert held.reason is Suspicion.NOT_DECLARED
    assert "may have the data" in held.message
    assert held.digest in held.remedy
    assert fleet.door("jump-2", "alice") == "10.0.3.2", "what is open stays"
    fleet.declare(*people)
    fleet.settle()
    (host,) = fleet.running("alice")
    assert fleet.content(host, "alice") > 0, "the host came back, and the data with it"


def test_an_admin_may_have_them_made_anew_when_their_host_is_gone_for_good(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"), hosts=["jump-2", "jump-3"])
    fleet.approvals = frozenset({Approval("create", frozenset({"alice"}))})
    fleet.pass_of("jump-2")
    assert fleet.instance("jump-2", "alice") is not None


def test_what_left_for_a_host_that_is_struck_off_is_not_taken_back_by_itself(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.pass_of("jump-2")
    fleet.pass_of("jump-2")  # committed, and jump-1 has not heard of it
    fleet.declare(on("jump-1"), hosts=["jump-1", "jump-3"])
    fleet.pass_of("jump-1")
    assert fleet.running("alice") == ["jump-2"]
    assert [held.reason for held in fleet.plan("jump-1").interlocks] == [Suspicion.NOT_DECLARED]


def test_with_a_manifest_that_may_be_a_hosts_nothing_is_made_that_it_may_have() -> None:
    fleet = Fleet("jump-1", "jump-2", "jump-3")
    content = fleet.manifests(on("jump-2"), hosts=["jump-2", "jump-3"])
    broken = Problem(Location("jump-1.yaml", 1, 1), "", "is no YAML", "mend it")
    fleet.declare(hosts=["jump-2", "jump-3"])
    fleet.deliver(replace(content, problems=(broken,), hosts_unsure=True), "jump-2")
    fleet.pass_of("jump-2")
    assert fleet.instance("jump-2", "alice") is None
    (held,) = fleet.plan("jump-2").interlocks
    assert held.reason is Suspicion.MANIFEST_ERRORS
    assert held.digest in held.remedy
    fleet.approvals = frozenset({Approval("create", frozenset({"alice"}))})
    fleet.pass_of("jump-2")
    assert fleet.running("alice") == ["jump-2"]


@pytest.mark.parametrize("hosts", [["jump-2"], ["jump-2", "jump-3"]])
def test_a_broken_file_that_is_no_hosts_holds_up_nobody_else(hosts: list[str]) -> None:
    fleet = Fleet("jump-2", "jump-3")
    content = fleet.manifests(on("jump-2"), hosts=hosts)
    broken = Problem(Location("bob.yaml", 1, 1), "", "is no YAML", "mend it")
    alone = len(hosts) == 1  # then not even a broken Host manifest does
    fleet.declare(hosts=hosts)
    fleet.deliver(replace(content, problems=(broken,), hosts_unsure=alone), "jump-2")
    fleet.pass_of("jump-2")
    assert fleet.running("alice") == ["jump-2"]


@pytest.mark.parametrize("address", ["10.0.4.9", "169.254.169.254", "127.0.0.1", "10.0.3.1", "10.0.3.255", "", "x"])
def test_an_address_that_no_guest_of_that_host_can_have_is_not_opened(fleet: Fleet, address: str) -> None:
    told = {"alice": Box("alice", Presence.HERE, address)}
    peers = {"jump-1": Peer("jump-1", told), "jump-3": Peer("jump-3", {})}
    observed = replace(fleet.world("jump-2").snapshot(), peers=peers)
    plan = make_plan(fleet.sim.members["jump-2"].load, observed, fleet.now)
    assert not plan.environments, "what is open stays"
    bare = replace(observed, accounts={})
    assert not make_plan(fleet.sim.members["jump-2"].load, bare, fleet.now).environments


def test_a_withdrawn_key_goes_from_every_door_even_while_its_host_is_silent(fleet: Fleet) -> None:
    fleet.sim.members["jump-1"].up = False
    fleet.sim.forget("jump-2")
    fleet.declare(on("jump-1", keys=[public_key("new")]))
    fleet.pass_of("jump-2")
    account = fleet.world("jump-2").account("alice")
    assert account.keys == (f'restrict,port-forwarding,permitopen="10.0.3.2:22" {public_key("new")}',)


def test_a_departure_closes_every_door_and_retires_on_the_host_that_has_it(fleet: Fleet) -> None:
    people = [on("jump-1", f"user{number}") for number in range(4)]
    fleet.declare(on("jump-1"), *people)
    fleet.settle()
    fleet.declare(*people)
    fleet.settle()
    assert [fleet.door(host, "alice") for host in fleet.sim.members] == [""] * 3
    assert fleet.world("jump-2").account("alice") is None
    retired = fleet.instance("jump-1", "alice")
    assert retired is not None
    assert retired.status is InstanceStatus.STOPPED
    fleet.declare(on("jump-3"), *people)
    fleet.settle()
    assert fleet.running("alice") == ["jump-3"]
    assert fleet.content("jump-3", "alice") > 0


def test_manifests_that_vanish_trip_every_host_and_few_of_many_trip_none() -> None:
    fleet = Fleet("jump-1", "jump-2")
    people = [on("jump-1" if number else "jump-2", f"user{number}") for number in range(10)]
    fleet.declare(*people)
    fleet.settle()
    fleet.declare(*people[:7])
    held = [fleet.plan(host).interlocks for host in fleet.sim.members]
    assert [[lock.reason for lock in locks] for locks in held] == [[Suspicion.BUDGET]] * 2
    assert held[0][0].digest == held[1][0].digest, "one word of an admin fits them all"
    fleet.declare(*people[:8])
    fleet.settle()
    assert [fleet.door("jump-2", name) for name in ("user8", "user9")] == ["", ""]


def test_a_move_that_is_called_off_goes_back_when_the_other_host_agrees(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.pass_of("jump-2")  # fetched, and not committed
    fleet.deliver(fleet.manifests(on("jump-1")), "jump-1")
    fleet.pass_of("jump-1")
    assert fleet.running("alice") == [], "jump-2 may still commit"
    assert "jump-2 still has a part of it" in fleet.plan("jump-1").places["alice"].message
    fleet.declare(on("jump-1"))
    fleet.settle()
    assert fleet.running("alice") == ["jump-1"]
    assert fleet.instance("jump-2", "alice") is None


def test_a_third_host_waits_until_the_second_has_let_go(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.pass_of("jump-2")
    fleet.deliver(fleet.manifests(on("jump-3")), "jump-1", "jump-3")
    fleet.pass_of("jump-3")
    assert fleet.plan("jump-3").places["alice"].stand is Stand.WAITING
    fleet.declare(on("jump-3"))
    fleet.settle()
    assert fleet.running("alice") == ["jump-3"]
    assert fleet.instance("jump-2", "alice") is None


def test_a_leaving_one_that_somebody_starts_is_stopped_again(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.pass_of("jump-2")
    fleet.somebody("jump-1").start(BOX)
    fleet.pass_of("jump-1")
    assert fleet.running("alice") == []


def test_what_only_was_left_behind_comes_back_only_with_an_admins_word(fleet: Fleet) -> None:
    moved(fleet)
    fleet.somebody("jump-2").remove_instance(BOX)
    for host in fleet.sim.members:
        fleet.pass_of(host)
    assert fleet.running("alice") == []
    (held,) = fleet.plan("jump-2").interlocks
    assert held.reason is Suspicion.LEFT_BEHIND
    assert "placement.host" not in held.remedy
    fleet.declare(manifest("alice"))
    assert "placement.host" in fleet.plan("jump-1").interlocks[0].remedy
    fleet.declare(on("jump-2"))
    fleet.approvals = frozenset({Approval("move", frozenset({"alice"}))})
    fleet.settle()
    assert fleet.running("alice") == ["jump-2"]
    assert fleet.content("jump-2", "alice") > 0


def test_one_that_left_for_a_host_which_died_comes_back_only_with_an_admins_word(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.pass_of("jump-2")
    fleet.sim.members["jump-2"].up = False
    fleet.declare(on("jump-1"))
    fleet.pass_of("jump-1")
    assert [held.reason for held in fleet.plan("jump-1").interlocks] == [Suspicion.PEER_SILENT]
    assert fleet.running("alice") == []
    fleet.approvals = frozenset({Approval("move", frozenset({"alice"}))})
    fleet.pass_of("jump-1")
    assert fleet.running("alice") == ["jump-1"]


def test_a_single_declared_host_goes_on_as_without_a_fleet() -> None:
    fleet = Fleet("jump-1")
    fleet.declare(manifest("alice"), on("jump-1", "bob"))
    fleet.settle()
    assert fleet.running("alice") == fleet.running("bob") == ["jump-1"]


def test_what_is_told_of_those_that_live_elsewhere(fleet: Fleet) -> None:
    moved(fleet)
    for host, reason, more in (("jump-1", "Elsewhere", ["LeftBehind"]), ("jump-3", "Elsewhere", [])):
        look = fleet.world(host).snapshot()
        told = summarise(fleet.plan(host), look)["alice"]
        assert (told[0].status, told[0].reason) == (ConditionStatus.UNKNOWN, reason)
        assert told[0].message == "it lives on jump-2"
        assert [condition.type for condition in told[1:]] == more
    fleet.declare(on("jump-3"))
    leaving, *_ = summarise(fleet.plan("jump-2"), fleet.world("jump-2").snapshot())["alice"]
    assert (leaving.reason, leaving.message) == ("Leaving", "it stays as it is until jump-3 has fetched it")
    assert fleet.plan("jump-2").awaits_peers


def test_a_fetch_holds_up_nobody_else(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    (plan,) = fleet.plan("jump-2").environments
    assert kind_of(plan) == "fetch"
    fleet.pass_of("jump-2")
    (commit,) = fleet.plan("jump-2").environments
    assert kind_of(commit) == "quick"


def test_after_three_hosts_in_turn_one_that_slept_through_it_knows_that_it_is_over(fleet: Fleet) -> None:
    fleet.declare(on("jump-2"))
    fleet.pass_of("jump-2")
    fleet.pass_of("jump-2")  # committed, and jump-1 has not heard of it
    fleet.sim.members["jump-1"].up = False
    fleet.declare(on("jump-3"))
    for host in ("jump-3", "jump-2") * 3:
        fleet.pass_of(host)
    assert fleet.running("alice") == ["jump-3"]
    fleet.sim.work()
    made = fleet.content("jump-3", "alice")
    fleet.sim.members["jump-1"].up = True
    fleet.declare(on("jump-1"))
    fleet.settle()
    assert fleet.running("alice") == ["jump-1"]
    assert fleet.content("jump-1", "alice") == made


def test_a_row_that_a_killed_creation_left_is_nothing_to_fetch() -> None:
    fleet = Fleet("jump-1", "jump-2")
    fleet.somebody("jump-1").half_born(BOX, "alice")
    fleet.declare(on("jump-2"))
    fleet.settle()
    assert fleet.running("alice") == ["jump-2"]
    assert fleet.instance("jump-1", "alice") is None
