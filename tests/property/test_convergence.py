"""Any order of edits, drift, faults and crashes converges; nothing foreign is touched; nobody's data is lost."""

from __future__ import annotations

from random import Random
from typing import Any

import hypothesis.strategies as st
from hypothesis import note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from containarium.model import marks
from containarium.model.host import HostError
from containarium.plan.planner import make_plan
from containarium.simulate.faults import Crash, Kill, Scripted, Seeded
from containarium.simulate.host import SimulatedHost, boundaries
from containarium.simulate.somebody import Somebody
from tests.builders import Site, load, manifest, public_key
from tests.property.meddling import meddle_with_account

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")
names = st.sampled_from(NAMES)
specs = st.fixed_dictionaries(
    {},
    optional={
        "resources": st.fixed_dictionaries(
            {}, optional={"cpu": st.sampled_from(["1", "2-3"]), "memory": st.sampled_from(["1GiB", "2GB"])}
        ),
        "docker": st.booleans(),
        "packages": st.sampled_from([[], ["git"], ["git", "tmux"]]),
        "running": st.booleans(),
        "autostart": st.booleans(),
    },
)
"""Disks and addresses are left out: a refused one is refused for ever, which is their own test."""


class Reconciling(RuleBasedStateMachine):
    """An admin who edits, somebody who meddles, a machine that fails, and a controller that starts again."""

    def __init__(self) -> None:
        super().__init__()
        self.site = Site()
        self.people: dict[str, dict[str, Any]] = {}
        self.foreign: dict[str, Any] = {}

    @initialize()
    def somebody_elses_things(self) -> None:
        somebody = Somebody(self.site.world)
        somebody.foreign_instance("gitlab", address="10.0.3.3", running=True)
        somebody.foreign_instance("frank-container")
        somebody.add_account("erin")
        self.foreign = self.foreign_state()

    def foreign_state(self) -> dict[str, Any]:
        world = self.site.world
        return {
            "gitlab": world.instance("gitlab"),
            "frank": world.instance("frank-container"),
            "erin": world.account("erin"),
        }

    @property
    def somebody(self) -> Somebody:
        return Somebody(self.site.world)

    @rule(name=names, spec=specs, key=st.sampled_from(["one", "two"]))
    def edit(self, name: str, spec: dict[str, Any], key: str) -> None:
        self.people[name] = {"keys": [public_key(f"{name}-{key}")], **spec}
        self.declare()

    @rule(name=names)
    def withdraw(self, name: str) -> None:
        self.people.pop(name, None)
        self.declare()

    @rule(complete=st.booleans())
    def reread(self, complete: bool) -> None:
        self.declare(complete=complete)

    def declare(self, complete: bool = True) -> None:
        self.site.load = load(*(manifest(name, **spec) for name, spec in self.people.items()), complete=complete)

    @rule(name=names, what=st.integers(0, 11))
    def meddle(self, name: str, what: int) -> None:
        world, box = self.site.world, f"{name}-container"
        instance, account = world.instance(box), world.account(name)
        if instance is not None and instance.config.get(marks.ENVIRONMENT) == name:
            acts: list[Any] = [
                lambda: self.somebody.stop(box),
                lambda: self.somebody.set_config(box, "limits.cpu", "7"),
                lambda: self.somebody.unset_config(box, marks.APPLIED),
                lambda: self.somebody.start(box),
                lambda: self.somebody.unset_config(box, "boot.autostart"),
            ]
            if world.inside(box) is not None:
                acts += [
                    lambda: self.somebody.remove_guest_keys(box, name),
                    lambda: self.somebody.set_root_password(box),
                ]
            acts[what % len(acts)]()
        if account is not None and account.group == marks.JUMP_GROUP:
            meddle_with_account(self.somebody, name, what)

    @rule()
    def reboot(self) -> None:
        self.somebody.reboot()

    @rule(hours=st.integers(1, 400))
    def wait(self, hours: int) -> None:
        self.site.wait(hours=hours)

    @rule(seed=st.integers(0, 2**16))
    def run_with_faults(self, seed: int) -> None:
        site = self.site
        site.host = SimulatedHost(site.world, Seeded(Random(seed), rate=0.06))
        try:
            site.run()
        except (Crash, HostError) as end:
            note(f"the pass ended early: {end!r}")
        site.host = SimulatedHost(site.world)

    @rule()
    def run(self) -> None:
        before = self.ready_data()
        result = self.site.run()
        assert not result.failures
        # What is left is refused, held back or a matter of approval; nothing is left undone that could be done.
        assert not result.last.pending
        again = self.site.run()
        assert not again.first.pending
        self.no_data_lost(before)
        self.as_declared()

    def ready_data(self) -> dict[str, str]:
        """When the data of each finished environment was made; a later time would be other data."""
        return {
            name: instance.created_at
            for name, instance in self.site.world.instances.items()
            if instance.config.get(marks.APPLIED)
        }

    def no_data_lost(self, before: dict[str, str]) -> None:
        world = self.site.world
        for box, made in before.items():
            instance = world.instance(box)
            if instance is None:
                # Only a retired environment past its grace may be gone, and only while no manifest wants it.
                assert box.removesuffix("-container") not in self.people
            else:
                assert instance.created_at == made

    def as_declared(self) -> None:
        world = self.site.world
        for name in self.people:
            if name in ("erin", "frank"):
                continue
            instance, account = world.instance(f"{name}-container"), world.account(name)
            assert instance is not None
            assert (instance.status == "Running") is self.people[name].get("running", True)
            assert account is not None
            assert account.shell == marks.JUMP_SHELL
            assert account.keys is not None
            assert sum(self.people[name]["keys"][0] in line for line in account.keys) == 1
            assert not any("mallory" in line for line in account.keys)

    @invariant()
    def nothing_foreign_is_touched(self) -> None:
        if self.foreign:
            now = self.foreign_state()
            assert now["erin"] == self.foreign["erin"]
            assert now["frank"] == self.foreign["frank"]
            assert now["gitlab"].config.keys() >= self.foreign["gitlab"].config.keys()

    @invariant()
    def addresses_are_distinct(self) -> None:
        used = [address for instance in self.site.world.instances.values() for address in instance.addresses]
        assert len(used) == len(set(used))

    @precondition(lambda self: bool(self.people))
    @invariant()
    def planning_is_pure(self) -> None:
        observed = self.site.world.snapshot()
        one, other = (make_plan(self.site.load, observed, self.site.now) for _ in range(2))
        assert one == other


class TestReconciling(Reconciling.TestCase):  # type: ignore[misc, valid-type]
    """Runs the machine: briefly here, for long in ``make soak``."""

    settings = settings()


def test_a_crash_at_every_boundary_of_a_creation_is_finished_by_the_next_run() -> None:
    start = Site(manifest("alice", docker=True, packages=["git"]))
    actions = make_plan(start.load, start.host.observe(), start.now).environments[0].actions
    for number, boundary in enumerate(boundaries(start.world, actions), start=1):
        site = Site(*start.load.manifests)
        site.host = SimulatedHost(site.world, Scripted({number: Kill()}))
        try:
            site.run()
            raise AssertionError(f"nothing was killed at {boundary}")
        except Crash:
            site.host = SimulatedHost(site.world)
        assert site.run().converged, boundary
        instance = site.world.instance("alice-container")
        assert instance is not None
        assert instance.status == "Running"
