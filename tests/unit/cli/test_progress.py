"""Progress: lines anywhere, a table on a terminal."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from containarium.cli.progress import LiveReporter, PlainReporter
from containarium.cli.steps import step
from containarium.model.action import (
    ACTION_KINDS,
    Action,
    Change,
    InstallPackages,
    StartInstance,
    UpdateInstance,
)
from containarium.model.host import RetryableError
from containarium.plan.decision import Plan
from containarium.reconcile.execute import Failure

BOX = "alice-container"
INSTALL = InstallPackages(environment="alice", instance=BOX, packages=("git", "tmux"))
START = StartInstance(environment="alice", instance=BOX)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (INSTALL, "installing git, tmux"),
        (START, "starting the container"),
        (UpdateInstance(environment="alice", instance=BOX), "recording what was reached"),
        (
            UpdateInstance(environment="alice", instance=BOX, changes=(Change("spec.resources.cpu", "2", "4"),)),
            "setting spec.resources.cpu",
        ),
    ],
)
def test_a_step_in_words(action: Action, text: str) -> None:
    assert step(action) == text


def test_every_kind_of_action_has_words() -> None:
    fields = {"environment": "a", "instance": "a", "account": "a", "image": "i", "packages": (), "service": "ssh"}
    for kind in ACTION_KINDS:
        action = object.__new__(kind)
        for name in (field.name for field in dataclasses.fields(kind)):
            object.__setattr__(action, name, fields.get(name, ()))
        assert step(action) != kind.kind


def test_lines_that_only_count_up_are_told_once() -> None:
    lines: list[str] = []
    reporter = PlainReporter(lines.append, lambda _plan: None)
    reporter.started("alice", INSTALL)
    for percent in range(3):
        reporter.progress("alice", f"fetching the image: {percent}% (1.{percent} MB/s)")
    reporter.progress("bob", "fetching the image: 3% (1.0 MB/s)")
    reporter.finished("alice", Failure("alice", "InstallPackages", RetryableError("no network")))
    reporter.finished("bob", None)
    assert lines == [
        "alice: installing git, tmux",
        "alice: fetching the image: 0% (1.0 MB/s)",
        "bob: fetching the image: 3% (1.0 MB/s)",
        "alice: failed",
        "bob: done",
    ]


class _Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _shown(console: Console, reporter: LiveReporter) -> list[list[str]]:
    with console.capture() as capture:
        console.print(reporter.table())
    return [line.split() for line in capture.get().splitlines() if line.strip()]


def test_the_table_has_a_row_for_whoever_is_worked_on() -> None:
    clock = _Clock()
    console = Console(file=io.StringIO(), width=70, force_terminal=True, color_system=None, legacy_windows=False)
    shown: list[Plan] = []
    reporter = LiveReporter(console, shown.append, clock)
    reporter.planned(Plan())
    assert shown == [Plan()]
    reporter.started("alice", INSTALL)
    clock.seconds = 75
    reporter.started("bob", START)
    reporter.progress("bob", "waiting for\n\x1b[31man address")
    reporter.progress("carol", "not begun")
    rows = _shown(console, reporter)
    assert [row[1:] for row in rows] == [
        ["alice", "installing", "git,", "tmux", "1", "min", "15", "s"],
        ["bob", "waiting", "for", "\\x1b[31man", "address", "0", "s"],
    ]
    clock.seconds = 80
    with console.capture() as capture:
        reporter.finished("alice", Failure("alice", "InstallPackages", RetryableError("no network")))
        reporter.finished("bob", None)
    assert capture.get() == "x alice: failed after 1 min 20 s\n✓ bob: done after 5 s\n"
    assert _shown(console, reporter) == []


def test_a_long_step_does_not_break_the_table() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None, legacy_windows=False)
    reporter = LiveReporter(console, lambda _plan: None, _Clock())
    many = tuple(f"package-{number}" for number in range(50))
    reporter.started("alice", InstallPackages(environment="alice", instance=BOX, packages=many))
    (row,) = _shown(console, reporter)
    assert row[1] == "alice"
    assert row[-2:] == ["0", "s"]


def test_the_table_is_gone_when_the_work_is_over() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=60, force_terminal=True, color_system=None, legacy_windows=False)
    reporter = LiveReporter(console, lambda _plan: None)
    with reporter.running():
        reporter.started("alice", INSTALL)
        reporter.finished("alice", None)
    assert "✓ alice: done after 0 s" in screen.getvalue()
