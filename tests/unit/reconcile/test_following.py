"""The chore that keeps a host in step with the declared ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from containarium.model.manifest import DeclaredHost, Load
from containarium.model.problem import Location, Problem
from containarium.reconcile.following import Following
from tests.builders import load, manifest
from tests.unit.host.peering.hosts import declared, host

HOSTS = declared(host(1), host(2))


class World:
    """Manifests that change, and who follows them."""

    def __init__(self) -> None:
        self.load: Load | None = replace(load(manifest("alice")), hosts=HOSTS)
        self.settled: list[tuple[str, ...]] = []
        self.started = 0
        self.following = Following(self, self, lambda: self.load)

    def settle(self, hosts: Sequence[DeclaredHost]) -> tuple[str, ...]:
        self.settled.append(tuple(each.name for each in hosts))
        return ("who may ask",) if len(self.settled) == 1 else ()

    def start(self) -> None:
        self.started += 1


def test_it_follows_once_and_looks_again_after_a_while() -> None:
    world = World()
    assert world.following.do() == "who may ask follow the declared hosts"
    for _ in range(12):
        assert world.following.do() == ""
    assert len(world.settled) == 1
    world.following.do()
    assert len(world.settled) == 2


def test_it_follows_a_change_at_once() -> None:
    world = World()
    world.following.do()
    assert world.load is not None
    world.load = replace(world.load, hosts=HOSTS[:1])
    world.following.do()
    assert world.settled == [("jump-1", "jump-2"), ("jump-1",)]


def test_nobody_is_shut_out_for_a_file_that_cannot_be_read() -> None:
    world = World()
    assert world.load is not None
    whole = world.load
    broken = Problem(Location("jump-2.yaml"), "", "no YAML", "mend it")
    for unsure in (None, replace(whole, complete=False), replace(whole, hosts=HOSTS[:1], problems=(broken,))):
        world.load = unsure
        assert world.following.do() == ""
    assert world.settled == []
    assert world.started == 3
    of_an_environment = Problem(Location("bob.yaml"), "spec.image", "wrong", "mend it", environment="bob")
    world.load = replace(whole, problems=(of_an_environment,))
    world.following.do()
    assert world.settled == [("jump-1", "jump-2")]
