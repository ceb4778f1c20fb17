"""Approvals hold for a while, for exactly their set, and nothing unreadable approves anything."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from containarium.host import approvals
from containarium.plan.decision import Interlock, Suspicion
from containarium.plan.terms import Approval
from tests.builders import NOW

HELD = Interlock(Suspicion.BUDGET, "too many", "approve", ("alice", "bob"), "abc")


def test_an_approval_holds_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    approvals.approve(tmp_path, HELD, "retire", NOW)
    wanted = {Approval("retire", frozenset({"alice", "bob"}))}
    assert approvals.read(tmp_path, NOW) == wanted
    assert approvals.read(tmp_path, NOW + approvals.VALID) == wanted
    assert approvals.read(tmp_path, NOW + approvals.VALID + timedelta(seconds=1)) == frozenset()
    assert approvals.read(tmp_path, NOW - timedelta(seconds=1)) == frozenset(), "a clock that went back"


def test_one_does_not_displace_the_other(tmp_path: Path) -> None:
    approvals.approve(tmp_path, HELD, "retire", NOW)
    approvals.approve(tmp_path, HELD, "prune", NOW + timedelta(minutes=1))
    assert {approval.verb for approval in approvals.read(tmp_path, NOW + timedelta(minutes=2))} == {"retire", "prune"}
    assert (tmp_path / "approvals.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "{}",
        "[1]",
        '[{"verb": "retire"}]',
        '[{"verb": "retire", "environments": ["a"], "at": "2026-11-22"}]',
    ],
)
def test_what_cannot_be_read_approves_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "approvals.json").write_text(text)
    assert approvals.read(tmp_path, NOW) == frozenset()
