"""The stage in memory."""

from __future__ import annotations

from dataclasses import replace

from containarium.simulate.host import SimulatedHost
from containarium.simulate.inside import Image
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import World
from tests.conformance.stage import Stage

GUEST_IMAGE = "guest"


def simulated_stage(image: str = GUEST_IMAGE) -> Stage:
    """A new simulated machine whose image holds what the lab's guest image does."""
    world = World(cpus=2)
    world.images[image] = replace(Image(), packages=Image().packages | {"sudo"})
    return Stage(SimulatedHost(world), Somebody(world), image)
