"""What host prepare does for a fleet: the list counts, and who is not on it joins nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from containarium.host.firewall import fleet_file
from containarium.host.peering.membership import LISTEN
from containarium.host.prepare.fleet import membership, peers
from containarium.host.prepare.receipt import Receipt
from containarium.host.prepare.steps import Context
from containarium.model.host import silent
from containarium.model.manifest import Declaration
from tests.unit.host.etcfiles import FakeRun, write_etc
from tests.unit.host.peering.hosts import declared, host
from tests.unit.host.peering.memory import MemoryIncus

OWN, *OTHERS = declared(host(1), host(2), host(3))


class Stage:
    """jump-1, prepared by its start-up script's manifest; ``settle`` is what one preparation does for a fleet."""

    def __init__(self, tmp_path: Path) -> None:
        self.settings = write_etc(tmp_path)
        self.incus = MemoryIncus(self.settings)
        receipt = Receipt(tmp_path / "state" / "prepared.json")
        self.context = Context(self.settings, FakeRun(), self.incus, receipt, silent, False)

    def settle(self, declaration: Declaration) -> str:
        return membership(replace(self.context, declaration=declaration)).detail

    @property
    def joined(self) -> bool:
        keys = self.settings.peer_keys / "containarium-peer"
        return LISTEN in self.incus.config or fleet_file(self.settings).exists() or bool(keys.exists())


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_who_is_on_the_list_joins(stage: Stage) -> None:
    assert stage.settle(Declaration(OWN, (OWN, *OTHERS), whole=True)).startswith("10.128.0.1, with 2 others")
    assert stage.joined


@pytest.mark.parametrize("others", [tuple(OTHERS), ()])
def test_who_is_not_on_the_list_joins_nobody(stage: Stage, others: tuple[object, ...]) -> None:
    assert stage.settle(Declaration(OWN, others, whole=True)) == "in none"  # type: ignore[arg-type]
    assert not stage.joined


def test_who_left_the_list_gets_no_account(stage: Stage) -> None:
    done = peers(replace(stage.context, declaration=Declaration(OWN, tuple(OTHERS), whole=True)))
    assert (done.changed, done.detail) == (False, "other hosts are declared, and this one is not: it is in no fleet")
