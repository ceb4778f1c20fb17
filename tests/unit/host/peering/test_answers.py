"""What a host tells the others, and what it hands over: only what its own manifests place there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from containarium.host.holds import held, hold
from containarium.host.instances import parse
from containarium.host.peering.answers import Answers
from containarium.host.peering.wire import Request
from containarium.host.power import Power
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.fleet import Peer
from containarium.model.host import HostError
from containarium.model.manifest import DeclaredHost, Load
from containarium.model.observed import HostFacts, Observed
from containarium.model.problem import Location, Problem
from tests.builders import load, manifest
from tests.unit.host.etcfiles import settings
from tests.unit.host.peering.hosts import declared, host
from tests.unit.host.peering.memory import BOX, MemoryIncus, instance

OFFER = Request("jump-2", "offer", "alice")


class Stage:
    """jump-1, which has alice; its manifests place her on jump-2."""

    def __init__(self, tmp_path: Path) -> None:
        self.settings: HostSettings = settings(tmp_path)
        self.settings.runtime.mkdir(parents=True)
        self.incus = MemoryIncus(self.settings, instance(status="Running"))
        self.load: Load | None = replace(
            load(manifest("alice", placement={"host": "jump-2"})), hosts=declared(host(1), host(2), host(3))
        )
        self.busy: frozenset[str] = frozenset()
        self.asked: list[tuple[str, ...]] = []
        hands = self.incus.hands(self.settings)
        power = Power(self.incus, hands, grace=0)
        self.answers = Answers(
            self.settings,
            "jump-1",
            self.observe,
            self.incus,
            hands,
            power,
            lambda: self.load,
            lambda: self.busy,
            self.peers,
            lambda host: self.incus.done.append(f"tell {host}"),
        )

    def observe(self) -> Observed:
        facts = HostFacts("jump-1", "incusbr0", IPv4Interface("10.0.11.1/24"), "default")
        return Observed(facts, {name: parse(raw) for name, raw in self.incus.instances.items()})

    def peers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        self.asked.append(tuple(host.name for host in hosts))
        return {}

    def ask(self, request: Request) -> Mapping[str, Any]:
        with self.answers.answered(request) as answer:
            return answer

    @property
    def box(self) -> dict[str, Any]:
        return self.incus.instances[BOX]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_the_list_tells_names_presence_and_addresses_of_ours_alone(stage: Stage) -> None:
    foreign, builder = instance("somebodys-container"), instance("builder")
    foreign["config"] = {}
    stage.incus.instances |= {"somebodys-container": foreign, "builder": builder}
    stage.box["config"][marks.LEAVING] = "jump-2"
    answer = stage.ask(Request("jump-2", "list"))
    assert set(answer) == {"version", "clock", "boxes"}
    assert answer["boxes"] == [{"name": "alice", "presence": "leaving", "address": "10.0.11.2", "other": "jump-2"}]


def test_the_others_are_asked_before_an_offer_and_for_nothing_else(stage: Stage) -> None:
    stage.ask(Request("jump-2", "list"))
    assert stage.asked == []
    stage.ask(OFFER)
    assert stage.asked == [("jump-1", "jump-2", "jump-3")]


def test_an_address_outside_of_the_declared_subnet_is_not_told(stage: Stage) -> None:
    stage.box["devices"]["eth0"]["ipv4.address"] = "192.168.1.2"
    assert stage.ask(Request("jump-2", "list"))["boxes"][0]["address"] == ""


@pytest.mark.parametrize("ask", ["list", "keys", "offer"])
@pytest.mark.parametrize("caller", ["jump-9", "jump-1"])
def test_only_another_declared_host_is_answered(stage: Stage, ask: str, caller: str) -> None:
    with pytest.raises(HostError, match=f"declare no host {caller}"):
        stage.ask(Request(caller, ask, "alice"))


def test_before_the_manifests_were_read_nobody_is_answered(stage: Stage) -> None:
    stage.load = None
    with pytest.raises(HostError, match="has not read its manifests yet"):
        stage.ask(Request("jump-2", "list"))


def test_an_offer_stops_marks_and_holds_it(stage: Stage) -> None:
    with stage.answers.answered(OFFER) as answer:
        assert answer["secrets"] == {"control": "c" * 64, "fs": "f" * 64}
        assert answer["config"][marks.APPLIED] == "abc"
        assert not any(key.startswith("volatile.") for key in answer["config"])
        assert held(stage.settings.runtime) == {"alice"}
        assert stage.incus.done == [f"{marks.LEAVING}=jump-2", "boot.autostart=false", "stop", "offer", "tell jump-2"]
    assert stage.incus.done[-2:] == ["tell jump-2", "cancel"]
    assert stage.box["status"] == "Stopped"
    assert stage.box["config"][marks.LEAVING] == "jump-2"
    assert held(stage.settings.runtime) == frozenset()


def _placed(stage: Stage, **spec: Any) -> None:
    assert stage.load is not None
    stage.load = replace(stage.load, manifests=(manifest("alice", **spec),))


def _unreadable(stage: Stage) -> None:
    assert stage.load is not None
    stage.load = replace(stage.load, complete=False)


def _gone(stage: Stage) -> None:
    assert stage.load is not None
    problem = Problem(Location("alice.yaml"), "", "broken", "mend it")
    stage.load = replace(stage.load, manifests=(), problems=(problem,))


def _suspended(stage: Stage) -> None:
    _placed(stage, placement={"host": "jump-2"}, annotations={"containarium.dev/suspend": "true"})


REFUSED: dict[str, Callable[[Stage], object]] = {
    "placed on a third": lambda stage: _placed(stage, placement={"host": "jump-3"}),
    "placed here": lambda stage: _placed(stage, placement={"host": "jump-1"}),
    "placed nowhere": _placed,
    "manifests not whole": _unreadable,
    "its manifest does not load": _gone,
    "suspended by its manifest": _suspended,
    "suspended by its mark": lambda stage: stage.box["config"].update({marks.SUSPENDED: "2026-01-01T00:00:00Z"}),
    "not whole itself": lambda stage: stage.box["config"].update({marks.ARRIVING: "jump-3"}),
    "not ours": lambda stage: stage.box["config"].pop(marks.ENVIRONMENT),
    "another's": lambda stage: stage.box["config"].update({marks.ENVIRONMENT: "bob"}),
    "not there": lambda stage: stage.incus.instances.clear(),
    "worked on": lambda stage: setattr(stage, "busy", frozenset({"alice"})),
    "a device of this machine": lambda stage: stage.box["devices"].update(
        {"data": {"type": "disk", "source": "/srv", "path": "/srv"}}
    ),
    "a setting of somebody's": lambda stage: stage.box["config"].update({"environment.TOKEN": "x"}),
    "a setting that opens the host": lambda stage: stage.box["config"].update({"raw.lxc": "x"}),
    "a snapshot with such a setting": lambda stage: stage.incus.snapshots.append(
        {"name": "one", "config": {"raw.lxc": "x"}, "devices": {}}
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_nothing_else_is_offered_and_nothing_is_touched(stage: Stage, why: str) -> None:
    REFUSED[why](stage)
    with pytest.raises(HostError):
        stage.ask(OFFER)
    assert stage.incus.done == []
    assert all(there["status"] == "Running" for there in stage.incus.instances.values())


def test_who_is_refused_by_the_manifests_makes_nobody_ask_the_others(stage: Stage) -> None:
    _placed(stage, placement={"host": "jump-3"})
    with pytest.raises(HostError, match="not placed on"):
        stage.ask(OFFER)
    assert stage.asked == []


def test_what_a_command_holds_is_not_offered(stage: Stage) -> None:
    with hold(stage.settings.runtime, "alice"), pytest.raises(HostError, match="another command works on alice"):
        stage.ask(OFFER)
    assert stage.incus.done == []


def test_what_the_other_would_refuse_is_named(stage: Stage) -> None:
    stage.box["config"]["environment.TOKEN"] = "x"
    stage.incus.snapshots = [{"name": "one", "config": {"raw.lxc": "x"}, "devices": {}}]
    with pytest.raises(HostError, match=r"may take over: environment\.TOKEN, its snapshot one: raw\.lxc") as raised:
        stage.ask(OFFER)
    assert raised.value.reason == "FetchRefused"


def test_a_snapshot_from_before_an_adoption_hinders_nothing(stage: Stage) -> None:
    stage.incus.snapshots = [{"name": "one", "config": {"volatile.uuid": "x"}, "devices": {}}]
    assert stage.ask(OFFER)["operation"]


def test_a_disk_never_shrinks_by_a_move(stage: Stage) -> None:
    with pytest.raises(HostError, match="a disk only grows"):
        stage.ask(replace(OFFER, disk=1 << 30))
    assert stage.incus.done == []
    assert stage.ask(replace(OFFER, disk=2 << 30))["operation"]


def test_what_was_left_behind_may_be_put_back_on_the_host_that_is_named(stage: Stage) -> None:
    stage.box["config"][marks.MOVED] = "jump-3"
    assert stage.ask(OFFER)["operation"]


def test_whoever_starts_it_meanwhile_is_noticed(stage: Stage) -> None:
    began = stage.incus.begin

    def begin(*path: str, body: Any) -> Mapping[str, Any]:
        stage.box["status"] = "Running"
        return began(*path, body=body)

    stage.incus.begin = begin  # type: ignore[method-assign]
    with pytest.raises(HostError, match="was started"), ExitStack() as stack:
        stack.enter_context(stage.answers.answered(OFFER))
    assert stage.incus.done[-1] == "cancel"
