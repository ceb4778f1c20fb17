"""The last look at the others: nothing is made anew, or taken back, that lives elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from containarium.host.machine import Machine
from containarium.host.peering.elsewhere import Elsewhere
from containarium.model import marks
from containarium.model.action import CreateInstance, UpdateInstance
from containarium.model.host import Progress, RetryableError
from tests.unit.host.etcfiles import settings
from tests.unit.host.peering.hosts import declared, host
from tests.unit.host.peering.test_neighbours import FakeLine, neighbours
from tests.unit.host.test_cancel import NoAccounts

HOSTS = declared(host(1), host(2), host(3))


class Stage:
    """jump-1, which heard last that nobody has anything; now the others say something else."""

    def __init__(self, **now: str) -> None:
        self.line = FakeLine({})
        self.refreshed: list[str] = []
        self.others = neighbours(self.line)
        self.others.peers(HOSTS)
        self.line.said = {name.replace("_", "-"): presence for name, presence in now.items()}
        self.line.asked.clear()
        self.elsewhere = Elsewhere(self.others, self.refreshed.append)

    def update(self, config: Mapping[str, str]) -> None:
        self.elsewhere.check_update(UpdateInstance(environment="alice", instance="alice-container", config=config))


@pytest.mark.parametrize("presence", ["here", "retired", "leaving"])
def test_what_another_has_by_now_is_not_made_anew(presence: str) -> None:
    stage = Stage(jump_2=presence)
    with pytest.raises(RetryableError, match="jump-2 has alice: it is not made anew") as raised:
        stage.elsewhere.check_creation("alice")
    assert raised.value.reason == "LivesElsewhere"
    assert stage.refreshed == ["jump-2"]


def test_what_nobody_else_has_is_made() -> None:
    stage = Stage(jump_2="moved", jump_3="arriving")
    stage.elsewhere.check_creation("alice")
    stage.elsewhere.check_creation("bob")
    assert stage.refreshed == []


def test_who_is_silent_hinders_nothing() -> None:
    Stage().elsewhere.check_creation("alice")


def test_a_host_alone_asks_nobody() -> None:
    line = FakeLine()
    Elsewhere(neighbours(line), lambda _host: None).check_creation("alice")
    assert line.asked == []


@pytest.mark.parametrize("mark", [marks.ARRIVING, marks.LEAVING, marks.MOVED])
def test_no_way_ends_here_for_one_that_lives_elsewhere(mark: str) -> None:
    with pytest.raises(RetryableError, match="jump-2 and jump-3 have alice: what is here of it stays as it is"):
        Stage(jump_2="here", jump_3="here").update({mark: ""})
    Stage(jump_2="leaving").update({mark: ""})


@pytest.mark.parametrize(
    "config", [{}, {marks.ARRIVING: "jump-2;whole"}, {"limits.memory": ""}, {marks.LEAVING: "", marks.MOVED: "jump-2"}]
)
def test_any_other_change_asks_nobody(config: dict[str, str]) -> None:
    stage = Stage(jump_2="here")
    stage.update(config)
    assert stage.line.asked == []


class Prepared(Machine):
    """One whose image is there. Its Incus is not: whatever is asked of it fails."""

    sources = 0

    def _source(self, action: CreateInstance, progress: Progress) -> Mapping[str, Any]:
        self.sources += 1
        return {}


def test_the_machine_looks_when_the_image_is_there_and_before_it_makes_anything(tmp_path: Path) -> None:
    stage = Stage(jump_2="here")
    machine = Prepared(settings(tmp_path), NoAccounts(), neighbours=stage.others)
    create = CreateInstance(environment="alice", instance="alice-container", image="x", config={}, devices={})
    unmark = UpdateInstance(environment="alice", instance="alice-container", config={marks.LEAVING: ""})
    for action in (create, unmark):
        with pytest.raises(RetryableError) as raised:
            machine.execute(action)
        assert raised.value.reason == "LivesElsewhere"
    assert machine.sources == 1
