"""Status, events, metrics and log stay in step, whatever the loop tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from containarium.model.action import Action, StartInstance
from containarium.model.host import HostError, RetryableError
from containarium.plan.decision import EnvironmentPlan
from containarium.report import statusfile
from containarium.report.events import Event, Reason
from containarium.report.journal import Journal, read
from containarium.report.metrics import Metrics
from containarium.report.reporter import Reporter
from containarium.report.snapshot import Trouble
from containarium.simulate.somebody import Somebody
from tests.builders import NOW, Site, manifest
from tests.unit.report.passes import DAEMON, snapshot, unseen
from tests.unit.report.test_metrics import samples


@dataclass
class Lines:
    """A logger that keeps what it is told."""

    told: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **values: Any) -> None:
        self.told.append(("debug", event, values))

    def info(self, event: str, **values: Any) -> None:
        self.told.append(("info", event, values))

    def warning(self, event: str, **values: Any) -> None:
        self.told.append(("warning", event, values))

    def error(self, event: str, **values: Any) -> None:
        self.told.append(("error", event, values))

    def of(self, event: str) -> list[str]:
        """The levels at which something was said."""
        return [level for level, said, _ in self.told if said == event]


@dataclass
class Failure:
    """Why it is over."""

    action: str
    error: HostError


@dataclass
class Ended:
    """Work that is over."""

    plan: EnvironmentPlan
    seconds: float = 1.5
    surprise: BaseException | None = None
    failure: Failure | None = None


@dataclass
class Desk:
    """A reporter over a simulated host, with a clock that a test sets."""

    folder: Path
    site: Site = field(default_factory=lambda: Site(manifest("alice"), manifest("bob")))
    lines: Lines = field(default_factory=Lines)
    ticks: float = 1000.0

    def __post_init__(self) -> None:
        self.site.run()
        self.reporter = self.open()

    def open(self) -> Reporter:
        """A reporter, as a controller has one when it starts."""
        journal = Journal(self.folder / "events.jsonl", lambda: self.site.now)
        return Reporter(self.folder / "status.json", journal, Metrics(), self.lines, DAEMON, ticks=lambda: self.ticks)

    def passed(self, **known: Any) -> None:
        """One pass."""
        self.reporter.passed(snapshot(self.site, **known))

    def repair(self, name: str, by: str = "") -> None:
        """The loop notices drift of an environment, hands it out, and the host is mended."""
        (plan,) = (e for e in snapshot(self.site).plan.environments if e.name == name)  # type: ignore[union-attr]
        self.reporter.drifted(plan, by)
        self.passed()
        self.site.run()
        self.reporter.ended(Ended(plan), None)
        self.passed()

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """Reason, environment, by."""
        return [(e["reason"], e.get("environment", ""), e.get("by", "")) for e in read(self.folder / "events.jsonl")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give a reporter that has seen one pass with everything as declared."""
    desk = Desk(tmp_path)
    desk.passed()
    return desk


def test_the_first_pass_is_written_and_no_event(desk: Desk) -> None:
    found = statusfile.read(desk.folder / "status.json")
    assert found == desk.reporter.status
    assert found is not None
    assert found.counts == {"Ready=True": 2}
    assert desk.events == []


def test_drift_from_being_found_to_being_repaired(desk: Desk) -> None:
    Somebody(desk.site.world).give_shell("bob")
    desk.repair("bob", by="root over the unix socket")
    assert desk.events == [
        ("DriftFound", "bob", "root over the unix socket"),
        ("DriftRepaired", "bob", "root over the unix socket"),
    ]
    found = samples(desk.reporter.metrics)
    assert found['containarium_drift_found_total{field="account.shell"}'] == 1
    assert found['containarium_drift_repaired_total{field="account.shell"}'] == 1
    # Nobody is blamed for what somebody else did later.
    Somebody(desk.site.world).give_shell("bob")
    desk.repair("bob")
    assert [by for _, _, by in desk.events[2:]] == ["", ""]


def test_drift_that_is_there_for_several_passes_is_found_once(desk: Desk) -> None:
    Somebody(desk.site.world).give_shell("bob")
    desk.passed()
    desk.passed()
    assert desk.events == [("DriftFound", "bob", "")]
    assert samples(desk.reporter.metrics)['containarium_drift_found_total{field="account.shell"}'] == 1


def test_a_failure(desk: Desk) -> None:
    plan = snapshot(Site(manifest("alice"))).plan
    assert plan is not None
    trouble = Trouble("StartInstance", "Timeout", "it does not come up", 1, NOW, NOW)
    desk.reporter.ended(Ended(plan.environments[0]), trouble)
    desk.passed(troubles={"alice": trouble})
    assert desk.events == [("Failed", "alice", "")]
    assert desk.lines.of("failed") == ["warning"]


def test_what_was_ended_early_is_neither_done_nor_trouble(desk: Desk) -> None:
    """As the machine is about to go away: nobody is told that it was mended."""
    Somebody(desk.site.world).give_shell("bob")
    desk.passed()
    plan = snapshot(desk.site).plan
    assert plan is not None
    cut_short = Failure("EnsureAccount", RetryableError("it was ended early", reason="Cancelled"))
    desk.reporter.ended(Ended(plan.environments[0], failure=cut_short), None)
    assert desk.events == [("DriftFound", "bob", "")]
    assert (desk.lines.of("done"), desk.lines.of("failed"), desk.lines.of("ended early")) == ([], [], ["info"])
    assert samples(desk.reporter.metrics)['containarium_drift_repaired_total{field="account.shell"}'] == 0


def test_a_controller_that_starts_again_tells_what_changed_meanwhile(desk: Desk) -> None:
    began = desk.reporter.status.environments[0].ready.last_transition  # type: ignore[union-attr]
    Somebody(desk.site.world).give_shell("bob")
    desk.site.wait(minutes=10)
    desk.reporter = desk.open()
    desk.passed()
    assert desk.events == [("DriftFound", "bob", "")]
    assert desk.reporter.status.environments[0].ready.last_transition == began  # type: ignore[union-attr]


def test_actions_are_timed_one_by_one(desk: Desk) -> None:
    def action(name: str) -> Action:
        return StartInstance(environment=name, instance=f"{name}-container")

    told = desk.reporter
    told.started("alice", action("alice"))
    told.started("bob", action("bob"))
    desk.ticks += 2
    told.started("alice", action("alice"))
    desk.ticks += 1
    told.finished("alice", object())
    told.finished("bob", None)
    told.finished("carol", None)
    found = samples(told.metrics)
    assert found['containarium_actions_total{kind="StartInstance",result="success"}'] == 2
    assert found['containarium_actions_total{kind="StartInstance",result="error"}'] == 1
    assert found["containarium_action_time_seconds_sum"] == 2 + 1 + 3


def test_every_pass_ends_in_one_sentence_in_the_log(desk: Desk) -> None:
    desk.lines.told.clear()
    desk.passed()
    desk.passed(error="Incus does not answer")
    assert [(level, event, values["sentence"]) for level, event, values in desk.lines.told] == [
        ("info", "pass", "2 as declared; 61 ms"),
        ("warning", "pass", "the host could not be looked at: Incus does not answer; 61 ms"),
    ]


def test_the_sentence_tells_once_what_was_repaired(desk: Desk) -> None:
    Somebody(desk.site.world).give_shell("bob")
    desk.repair("bob")
    desk.passed()
    sentences = [values["sentence"] for _, event, values in desk.lines.told if event == "pass"]
    assert sentences[-2:] == ["2 as declared, 1 repaired (bob: account.shell); 61 ms", "2 as declared; 61 ms"]


def test_a_pass_that_is_told_twice_is_counted_once(desk: Desk) -> None:
    desk.passed(id="8")
    desk.passed(id="8", preempted="GCE takes it away")
    found = samples(desk.reporter.metrics)
    assert found['containarium_reconcile_total{result="success"}'] == 2
    assert found["containarium_preempted"] == 1
    assert desk.events == [("Preempted", "", "")]


def test_a_status_that_cannot_be_written_is_said_once_and_stops_nobody(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.reporter.path = tmp_path / "absent" / "status.json"
    desk.passed()
    desk.passed()
    assert desk.lines.of("status not written") == ["error"]
    (tmp_path / "absent").mkdir()
    desk.passed()
    assert statusfile.read(desk.reporter.path) is not None
    (tmp_path / "absent" / "status.json").unlink()
    (tmp_path / "absent").rmdir()
    desk.passed()
    assert desk.lines.of("status not written") == ["error", "error"]


def test_events_that_are_lost_are_counted_in_the_log(desk: Desk) -> None:
    desk.reporter.journal.path = Path("/dev/full")
    desk.reporter.record([Event(Reason.STARTED)])
    assert desk.lines.of("events lost") == ["warning"]


def test_health_follows_the_passes(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    reporter = desk.reporter
    assert reporter.unready()
    assert not reporter.stale()
    reporter.passed(unseen(desk.site))
    assert reporter.unready()
    desk.passed()
    assert not reporter.unready()
    desk.ticks += 179
    assert not reporter.stale()
    desk.ticks += 2
    assert reporter.stale() == "no pass has ended for 181 s"
    desk.passed(error="Incus does not answer")
    assert not reporter.stale()
    assert not reporter.unready()


def test_a_first_pass_that_never_ends_is_stale_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ticks += 181
    assert desk.reporter.stale()


def test_an_edit_that_was_reached(desk: Desk) -> None:
    desk.reporter.edited("alice", 1.25)
    assert samples(desk.reporter.metrics)["containarium_convergence_time_seconds_sum"] == 1.25
    assert desk.lines.of("converged") == ["info"]
