"""What host/snapshots.py relies on where it could not put the settings of now back: they come before the start."""

from __future__ import annotations

import pytest

from containarium.model import marks
from containarium.plan.planner import make_plan
from containarium.simulate.somebody import Somebody
from tests.builders import Site, manifest

BOX = "alice-container"


@pytest.mark.parametrize("applied", ["", "digest-of-then", "snapshot"])
def test_settings_of_then_are_put_right_before_it_starts(applied: str) -> None:
    site = Site(manifest("alice"))
    assert site.run().converged
    somebody = Somebody(site.world)
    somebody.stop(BOX)
    before = site.world.instances[BOX].config["limits.memory"]
    somebody.set_config(BOX, "limits.memory", "512MiB")
    somebody.set_config(BOX, "security.idmap.isolated", "false")
    if applied:
        somebody.set_config(BOX, marks.APPLIED, applied)

    plan = make_plan(site.load, site.host.observe(), site.now)

    (alice,) = plan.environments
    kinds = [action.kind for action in alice.actions]
    assert kinds.index("UpdateInstance") < kinds.index("StartInstance")
    assert site.run().converged
    assert site.world.instances[BOX].config["limits.memory"] == before
