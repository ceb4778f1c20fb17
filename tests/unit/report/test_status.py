"""What is told of every environment, and since when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from containarium.model.status import Condition, ConditionStatus
from containarium.report.snapshot import Done, Probe, Revision, Snapshot, Trouble, Work
from containarium.report.status import build, sentence
from containarium.report.statusfile import Status
from containarium.simulate.somebody import Somebody
from tests.builders import NOW, Site, manifest
from tests.unit.report.passes import DAEMON, snapshot, status, unseen

TROUBLE = Trouble("InstallPackages", "AptFailed", "no such package: gti", 3, NOW, NOW + timedelta(seconds=8))
STUCK = Trouble("InstallPackages", "AptFailed", "no such package: gti", 3, NOW, NOW + timedelta(seconds=300), True)


@pytest.fixture
def site() -> Site:
    """Give a host with alice and bob, as declared."""
    site = Site(manifest("alice"), manifest("bob"))
    site.run()
    return site


def conditions(found: Status, name: str) -> dict[str, Condition]:
    environment = found.environment(name)
    assert environment is not None
    return {condition.type: condition for condition in environment.conditions}


def test_as_declared(site: Site) -> None:
    found = status(site)
    assert [(e.name, e.status, e.ip, e.quota, e.autostart, e.drift) for e in found.environments] == [
        ("alice", "Running", "10.0.3.2", "50GiB", True, ()),
        ("bob", "Running", "10.0.3.3", "50GiB", True, ()),
    ]
    assert found.counts == {"Ready=True": 2}
    assert found.well
    assert found.last_pass.sentence == "2 as declared; 61 ms"


def test_drift_is_told_by_field(site: Site) -> None:
    Somebody(site.world).give_shell("bob")
    found = status(site)
    bob = found.environment("bob")
    assert bob is not None
    assert bob.drift == ("account.shell",)
    assert found.counts == {"Drifted": 1, "Ready=False": 1, "Ready=True": 1, "Reconciling": 1}
    assert not found.well


def test_a_condition_keeps_its_time_until_its_status_changes(site: Site) -> None:
    first = status(site)
    began = conditions(first, "alice")["Ready"].last_transition
    site.wait(minutes=5)
    second = status(site, first)
    assert conditions(second, "alice")["Ready"].last_transition == began
    site.wait(minutes=5)
    third = status(site, second, troubles={"alice": TROUBLE})
    failed = conditions(third, "alice")["Ready"]
    assert (failed.status, failed.reason) == (ConditionStatus.FALSE, "AptFailed")
    assert failed.last_transition == "2026-11-22T12:10:00+00:00"
    site.wait(minutes=5)
    fourth = status(site, third, probes={"alice": Probe(NOW, 0.1, "refused")})
    # Another reason is no transition: it is as little ready as before.
    still = conditions(fourth, "alice")["Ready"]
    assert (still.reason, still.last_transition) == ("SSHUnreachable", failed.last_transition)


@pytest.mark.parametrize(
    ("trouble", "kind", "other"), [(TROUBLE, "Reconciling", "Stalled"), (STUCK, "Stalled", "Reconciling")]
)
def test_trouble(site: Site, trouble: Trouble, kind: str, other: str) -> None:
    found = conditions(status(site, troubles={"alice": trouble}), "alice")
    assert found["Ready"].status is ConditionStatus.FALSE
    assert found[kind].message == "InstallPackages: no such package: gti"
    assert other not in found


def test_whoever_is_worked_on_is_not_stalled(site: Site) -> None:
    work = Work("update", "InstallPackages", NOW, "installing git")
    found = conditions(status(site, troubles={"alice": STUCK}, working={"alice": work}), "alice")
    assert "Stalled" not in found
    assert found["Reconciling"].message == "InstallPackages: installing git"


def test_a_failing_probe_makes_unready_only_what_seemed_ready(site: Site) -> None:
    probes = {name: Probe(NOW, 2.0, "nobody answers") for name in ("alice", "bob")}
    found = status(site, probes=probes, troubles={"bob": TROUBLE})
    assert conditions(found, "alice")["Ready"].reason == "SSHUnreachable"
    assert conditions(found, "bob")["Ready"].reason == "AptFailed"


def test_a_working_probe_changes_nothing(site: Site) -> None:
    found = status(site, probes={"alice": Probe(NOW, 0.1)})
    assert conditions(found, "alice")["Ready"].status is ConditionStatus.TRUE


def test_nothing_seen_yet_keeps_what_an_earlier_controller_knew(site: Site) -> None:
    before = status(site)
    found = build(unseen(site), before, DAEMON)
    assert [(e.name, e.ip) for e in found.environments] == [("alice", "10.0.3.2"), ("bob", "10.0.3.3")]
    assert {e.ready.status for e in found.environments} == {ConditionStatus.UNKNOWN}
    assert {e.ready.reason for e in found.environments} == {"HostNotSeen"}
    assert not found.seen
    assert not found.well


def test_nothing_seen_and_nothing_known(site: Site) -> None:
    found = build(unseen(site), None, DAEMON)
    assert found.environments == ()
    assert not found.well


def test_a_look_that_fails_once_keeps_the_last_one(site: Site) -> None:
    found = status(site, error="Incus does not answer")
    assert found.counts == {"Ready=True": 2}
    assert not found.well


def test_interlocks_are_told_with_what_to_approve() -> None:
    site = Site(*(manifest(f"p{number}") for number in range(6)))
    site.run()
    site.declare(manifest("p0"))
    (interlock,) = status(site).interlocks
    assert interlock.reason == "Budget"
    assert interlock.environments == ("p1", "p2", "p3", "p4", "p5")
    assert interlock.digest
    assert interlock.digest in interlock.remedy


def test_retired_and_suspended_are_not_expected_to_be_ready(site: Site) -> None:
    site.declare(manifest("alice", annotations={"containarium.dev/suspend": "true"}))
    site.run()
    found = status(site)
    assert {e.name: (e.ready.reason, e.expected) for e in found.environments} == {
        "alice": ("Suspended", False),
        "bob": ("Retired", False),
    }
    assert found.well


def test_who_has_expired_and_left_no_trace_is_told_and_expected_by_nobody(site: Site) -> None:
    site.declare(manifest("alice"), manifest("bob"), manifest("dave", expires="2026-01-01"))
    site.run()
    found = status(site)
    assert {e.name: (e.ready.reason, e.expected) for e in found.environments if not e.expected} == {
        "dave": ("Expired", False)
    }
    assert found.well


def told(site: Site, **known: object) -> str:
    return sentence(snapshot(site, **known))


def test_the_sentence_names_what_was_repaired(site: Site) -> None:
    done = {"alice": Done("repair", ("spec.resources.memory",)), "bob": Done("create")}
    said = told(site, done=done)
    assert said == "2 as declared, 1 created (bob), 1 repaired (alice: spec.resources.memory); 61 ms"


def test_the_sentence_says_who_waits_for_what(site: Site) -> None:
    assert told(site, troubles={"alice": TROUBLE}) == "1 as declared, 1 waits for retry in 8 s; 61 ms"
    assert told(site, troubles={"alice": STUCK}) == "1 as declared, 1 waits for a person (alice); 61 ms"
    working = {"alice": Work("update", "InstallPackages", NOW)}
    assert told(site, troubles={"alice": STUCK}, working=working) == "1 as declared, 1 working; 61 ms"


def test_the_sentence_says_what_is_out_of_the_ordinary(site: Site) -> None:
    site.declare(manifest("alice"), manifest("carol"))
    said = told(site, preempted="GCE takes it away at 12:00", probes={"alice": Probe(NOW, 2.0, "refused")})
    assert said == "1 as declared, 2 to do, 1 unreachable, this host is to go away: GCE takes it away at 12:00; 61 ms"
    assert told(site, error="Incus does not answer") == "the host could not be looked at: Incus does not answer; 61 ms"


def test_the_sentence_stays_short() -> None:
    done = {f"p{number}": Done("create") for number in range(9)}
    site = Site(manifest("alice"))
    assert "9 created (p0; p1; p2; p3; p4; 4 more)" in told(site, done=done)


def test_before_the_first_pass_there_is_little_to_say() -> None:
    assert sentence(Snapshot("1", (), NOW, 1.5)) == "nothing seen yet; 1.5 s"


def test_a_refused_revision_is_not_well(site: Site) -> None:
    assert not status(site, revision=Revision("abc", "def", "alice.yaml:3:1: no such field", NOW.isoformat())).well
    assert status(site, revision=Revision("abc", "abc", "", NOW.isoformat())).well
