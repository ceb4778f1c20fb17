"""Events: what changed between two passes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from containarium.model.problem import Location, Problem
from containarium.report.events import LONGEST, Event, Reason, changes, finished
from containarium.report.snapshot import Probe, Revision, Trouble, Work
from containarium.report.status import build
from containarium.report.statusfile import Status
from containarium.simulate.somebody import Somebody
from tests.builders import NOW, Site, load, manifest
from tests.unit.report.passes import DAEMON, status, unseen

TROUBLE = Trouble("InstallPackages", "AptFailed", "no such package", 1, NOW, NOW + timedelta(seconds=8))


@pytest.fixture
def site() -> Site:
    """Give a host with alice and bob, as declared."""
    site = Site(manifest("alice"), manifest("bob"))
    site.run()
    return site


def told(before: Status | None, now: Status) -> list[tuple[str, str]]:
    return [(event.reason.value, event.environment) for event in changes(before, now)]


def test_nothing_changed_nothing_happened(site: Site) -> None:
    assert told(status(site), status(site)) == []


def test_without_a_status_before_there_is_nothing_to_compare_with(site: Site) -> None:
    Somebody(site.world).give_shell("bob")
    assert told(None, status(site)) == []


HAPPENINGS: list[tuple[str, dict[str, Any], tuple[str, str], tuple[str, str]]] = [
    ("trouble", {"troubles": {"alice": TROUBLE}}, ("Failed", "alice"), ("Recovered", "alice")),
    ("probe", {"probes": {"alice": Probe(NOW, 1, "refused")}}, ("SSHUnreachable", "alice"), ("SSHReachable", "alice")),
    ("error", {"error": "Incus does not answer"}, ("HostUnseen", ""), ("HostSeen", "")),
    ("preemption", {"preempted": "GCE takes it away"}, ("Preempted", ""), ("PreemptionOver", "")),
]


@pytest.mark.parametrize(("known", "begins", "ends"), [h[1:] for h in HAPPENINGS], ids=[h[0] for h in HAPPENINGS])
def test_it_is_told_once_when_it_begins_and_once_when_it_ends(
    site: Site, known: dict[str, Any], begins: tuple[str, str], ends: tuple[str, str]
) -> None:
    fine: dict[str, Any] = {"probes": {"alice": Probe(NOW, 0.1)}}
    before = status(site, **fine)
    during = status(site, before, **{**fine, **known})
    assert told(before, during) == [begins]
    assert told(during, status(site, during, **{**fine, **known})) == []
    assert told(during, status(site, during, **fine)) == [ends]


def test_another_failure_is_another_event_and_the_same_one_is_none(site: Site) -> None:
    again = Trouble("InstallPackages", "AptFailed", "no such package", 2, NOW, NOW)
    other = Trouble("StartInstance", "Timeout", "it does not come up", 3, NOW, NOW)
    first = status(site, troubles={"alice": TROUBLE})
    assert told(first, status(site, troubles={"alice": again})) == []
    assert told(first, status(site, troubles={"alice": other})) == [("Failed", "alice")]


def test_a_trouble_that_went_away_otherwise_is_no_recovery(site: Site) -> None:
    during = status(site, troubles={"bob": TROUBLE})
    site.declare(manifest("alice"), manifest("bob", annotations={"containarium.dev/suspend": "true"}))
    assert told(during, status(site, during)) == [("Suspended", "bob")]


def test_drift_says_which_fields_and_who_did_it(site: Site) -> None:
    before = status(site)
    Somebody(site.world).give_shell("bob")
    during = status(site, before)
    (event,) = changes(before, during, {"bob": "root over the unix socket"})
    assert event == Event(Reason.DRIFT_FOUND, "bob", fields=("account.shell",), by="root over the unix socket")
    Somebody(site.world).add_to_group("bob", "sudo")
    (more,) = changes(during, status(site, during))
    assert more.fields == ("account.groups",)


def test_retire_and_restore(site: Site) -> None:
    before = status(site)
    site.declare(manifest("alice"))
    site.run()
    retired = status(site, before)
    assert told(before, retired) == [("Retired", "bob")]
    site.declare(manifest("alice"), manifest("bob"))
    site.run()
    assert told(retired, status(site, retired)) == [("Restored", "bob")]


def test_who_is_deleted_for_good_is_not_restored(site: Site) -> None:
    """As the only one: the manifest stays, with a date in the past, since an empty folder would say nothing."""
    site.declare(manifest("alice"), manifest("bob", expires="2026-01-01"))
    before = status(site)
    site.run()
    retired = status(site, before)
    assert told(before, retired) == [("Retired", "bob")]
    Somebody(site.world).remove_instance("bob-container")
    assert told(retired, status(site, retired)) == []


def test_what_is_done_to_a_retired_environment_does_not_restore_it(site: Site) -> None:
    site.declare(manifest("alice"))
    site.run()
    retired = status(site)
    Somebody(site.world).start("bob-container")
    meddled = status(site, retired)
    assert "Restored" not in {reason for reason, _ in told(retired, meddled)}
    site.run()
    site.wait(days=8)
    pruned = status(site, meddled, troubles={"bob": TROUBLE})
    assert told(status(site, retired), pruned) == [("Failed", "bob")]
    bob = pruned.environment("bob")
    assert bob is not None
    assert not bob.expected
    site.run()
    assert told(pruned, status(site, pruned)) == []


def test_suspend_and_resume(site: Site) -> None:
    before = status(site)
    site.declare(manifest("alice"), manifest("bob", annotations={"containarium.dev/suspend": "true"}))
    held = status(site, before)
    assert told(before, held) == [("Suspended", "bob")]
    site.declare(manifest("alice"), manifest("bob"))
    assert told(held, status(site, held)) == [("Resumed", "bob")]


def test_what_is_blocked_is_told_once_with_the_way_out() -> None:
    site = Site(*(manifest(f"p{number}") for number in range(6)))
    site.run()
    before = status(site)
    site.declare(manifest("p0"))
    blocked = status(site, before)
    (event,) = changes(before, blocked)
    assert event.reason is Reason.PRUNE_BLOCKED
    assert "containarium approve " in event.message
    assert told(blocked, status(site, blocked)) == []
    site.declare(*(manifest(f"p{number}") for number in range(6)))
    assert told(blocked, status(site, blocked)) == [("PruneUnblocked", "")]


def test_a_refused_manifest(site: Site) -> None:
    before = status(site)
    problem = Problem(Location("bob.yaml", 3, 1), "spec", "no such field", "leave it out", environment="bob")
    site.load = load(manifest("alice"), problems=[problem])
    refused = status(site, before)
    assert told(before, refused) == [("ManifestRefused", "bob")]
    assert told(refused, status(site, refused)) == []
    site.declare(manifest("alice"), manifest("bob"))
    assert told(refused, status(site, refused)) == [("ManifestAccepted", "bob")]


def test_revisions(site: Site) -> None:
    before = status(site, revision=Revision("aaa", "aaa"))
    assert told(before, status(site, revision=Revision("bbb", "bbb"))) == [("RevisionApplied", "")]
    refused = status(site, revision=Revision("aaa", "bbb", "alice.yaml: no such field"))
    assert told(before, refused) == [("RevisionRefused", "")]
    assert told(refused, refused) == []


def test_what_cannot_be_seen_did_not_change(site: Site) -> None:
    Somebody(site.world).give_shell("bob")
    before = status(site)
    dark = build(unseen(site), before, DAEMON)
    assert told(before, dark) == [("HostUnseen", "")]
    assert told(dark, build(unseen(site), dark, DAEMON)) == []


def test_somebody_new_is_told_of_by_what_is_wrong_with_them(site: Site) -> None:
    before = status(site)
    site.declare(manifest("alice"), manifest("bob"), manifest("carol"))
    assert told(before, status(site, working={"carol": Work("create", "CreateInstance", NOW)})) == []
    assert told(before, status(site, troubles={"carol": TROUBLE})) == [("Failed", "carol")]


@pytest.mark.parametrize(
    ("verb", "actions", "reasons"),
    [
        ("create", ["CreateInstance"], ["Created"]),
        ("adopt", ["AdoptInstance"], ["Adopted"]),
        ("update", ["UpdateInstance"], ["Updated"]),
        ("repair", ["EnsureAccount"], ["DriftRepaired"]),
        ("retire", ["LockAccount"], []),
        ("prune", ["BackupInstance", "DeleteInstance"], ["BackedUp", "Pruned"]),
    ],
)
def test_finished_work(verb: str, actions: list[str], reasons: list[str]) -> None:
    assert [event.reason.value for event in finished("alice", verb, actions=actions)] == reasons


@pytest.mark.parametrize("give", [str, lambda text: f"{text}\x1b[2J", lambda text: f"{text}\n{{}}"])
def test_an_event_is_one_printable_line_of_bounded_length(give: Callable[[str], str]) -> None:
    text = give("x" * (LONGEST // 2)) + "y" * LONGEST
    plain = Event(Reason.FAILED, "alice", text, fields=(text,) * 99, by=text).to_json(NOW, text)
    assert len(plain["message"]) == LONGEST
    assert all(value.isprintable() for value in (plain["message"], plain["by"], plain["pass"], *plain["fields"]))
    assert len(str(plain)) < 4000


def test_what_is_empty_is_left_out() -> None:
    assert Event(Reason.PREEMPTION_OVER).to_json(NOW, "") == {
        "time": "2026-11-22T12:00:00.000+00:00",
        "reason": "PreemptionOver",
    }
