"""A world, a host over it, and somebody in it."""

from __future__ import annotations

import pytest

from containarium.simulate.host import SimulatedHost
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def host(world: World) -> SimulatedHost:
    return SimulatedHost(world)


@pytest.fixture
def somebody(world: World) -> Somebody:
    return Somebody(world)
