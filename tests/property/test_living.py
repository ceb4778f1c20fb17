"""A controller that lives: any order of edits, broken files, drift, faults, restarts, clock jumps, crashes converges.

Nothing foreign is touched, and nobody's data goes that a rule keeps.
"""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import Any

import hypothesis.strategies as st
from hypothesis import note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from containarium.model import marks
from containarium.model.action import (
    Action,
    AdoptInstance,
    DeleteInstance,
    InstanceAction,
    LockAccount,
    StopInstance,
)
from containarium.model.host import Progress, silent
from containarium.model.manifest import Manifest
from containarium.model.observed import Instance, InstanceStatus
from containarium.model.problem import Location, Problem
from containarium.model.status import ConditionStatus
from containarium.plan.conditions import READY
from containarium.plan.safety import digest
from containarium.plan.terms import Approval
from containarium.reconcile.clockwatch import HOLD
from containarium.report.process import this_process
from containarium.report.status import build
from containarium.simulate.faults import Crash, Seeded, no_faults
from containarium.simulate.host import SimulatedHost
from containarium.simulate.somebody import Somebody
from tests.builders import Site, load, manifest, public_key
from tests.living import Living
from tests.property.meddling import meddle_with_account

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
FOREIGN = ("erin", "frank")
"""erin has an account of her own, and frank's container is somebody else's."""
STRAY = "heidi"
"""Her container was made by hand, and nobody manages it until her manifest asks for that."""
names = st.sampled_from(NAMES)
specs = st.fixed_dictionaries(
    {},
    optional={
        "resources": st.fixed_dictionaries(
            {}, optional={"cpu": st.sampled_from(["1", "2-3"]), "memory": st.sampled_from(["1GiB", "2GB"])}
        ),
        "docker": st.booleans(),
        "packages": st.sampled_from([[], ["git"]]),
        "running": st.booleans(),
        "deletion": st.sampled_from([{}, {"grace": "1h"}, {"backup": True, "grace": "1h"}, {"protect": True}]),
        "expires": st.sampled_from(["2026-01-01", "2026-11-22", "2026-12-01", "2099-01-01"]),
        "adopt": st.booleans(),
    },
)


class ViolationError(BaseException):
    """A rule of safety was broken. No controller catches this."""


def must(holds: bool, what: str) -> None:
    """Say so when a rule is broken."""
    if not holds:
        raise ViolationError(what)


class Witness(SimulatedHost):
    """A host that checks the rules of safety at the moment of acting, on the world itself and not on any plan."""

    life: Alive

    def execute(self, action: Action, progress: Progress = silent) -> None:
        if isinstance(action, InstanceAction):
            self._on_instance(action)
        if isinstance(action, LockAccount):
            self._leaves(action.environment)
        super().execute(action, progress)

    def _on_instance(self, action: InstanceAction) -> None:
        there = self.world.instance(action.instance)
        if there is None:
            return
        if not isinstance(action, AdoptInstance):
            owner = there.config.get(marks.ENVIRONMENT)
            must(owner == action.environment, f"{action.kind} on what belongs to {owner}")
        else:
            must(marks.ENVIRONMENT not in there.config, "adopted from somebody")
            must(self.life.adopts(action.environment), f"{action.environment} is adopted, and nobody asked for that")
        if marks.SUSPENDED in there.config:
            raise ViolationError(f"{action.kind} on a suspended environment")
        if isinstance(action, DeleteInstance):
            self._may_go(there, action)
        if isinstance(action, StopInstance):
            wanted = self.life.wanted(action.environment)
            must(wanted is None or not wanted.environment.spec.running, f"{action.environment} is stopped and wanted")

    def _may_go(self, there: Instance, action: DeleteInstance) -> None:
        if marks.APPLIED not in there.config:
            return  # half-born: nobody was ever in it
        self._leaves(action.environment)
        until = there.config.get(marks.PRUNE_AFTER, "")
        must(bool(until), "deleted without a date")
        must(datetime.fromisoformat(until) <= self.life.site.now, "deleted before its time")
        must(there.config.get("security.protection.delete") != "true", "deleted in spite of its protection")
        must(not self.life.jumped, "deleted while the clock was not to be believed")
        if there.config.get(marks.DELETION, "").endswith(";backup"):
            must(there in self.world.backups.get(there.name, ()), "deleted without the backup that was asked for")

    def _leaves(self, name: str) -> None:
        declared = self.life.site.load
        must(declared.complete, f"{name} goes while the manifests are not whole")
        must(not declared.problems, f"{name} goes while manifests are broken")
        must(self.life.wanted(name) is None, f"{name} goes and is wanted")
        must(not self.world.doubts, f"{name} goes while the host has doubts")


class Alive(Living):
    """A life in which a clock may have jumped."""

    jumped_at = -HOLD

    @property
    def jumped(self) -> bool:
        """Whether that was so shortly ago that the clock is not to be believed."""
        return self.elapsed < self.jumped_at + HOLD

    def wanted(self, name: str) -> Manifest | None:
        """The manifest that asks for an environment today."""
        found = next((m for m in self.site.load.manifests if m.name == name), None)
        expires = found.environment.spec.expires if found is not None else None
        return None if expires is not None and expires < self.site.now.date() else found

    def adopts(self, name: str) -> bool:
        """Whether a manifest asks for taking over what is there."""
        found = self.wanted(name)
        return found is not None and found.environment.metadata.adopts


def ours(instance: Instance | None) -> bool:
    """Whether an instance carries our mark."""
    return instance is not None and marks.ENVIRONMENT in instance.config


def declaration(name: str, spec: dict[str, Any]) -> Manifest:
    """A manifest. Only for the stray container it may ask for adoption: the foreign one is really somebody's."""
    rest = {key: value for key, value in spec.items() if key != "adopt"}
    adopting = {"containarium.dev/adopt": "true"} if spec.get("adopt") and name == STRAY else {}
    return manifest(name, annotations=adopting, **rest)


class Reconciling(RuleBasedStateMachine):
    """An admin who edits, somebody who meddles, a machine that fails, and a controller that lives with it."""

    def __init__(self) -> None:
        super().__init__()
        self.people: dict[str, dict[str, Any]] = {}
        site = Site()
        self.life = Alive(site)
        self.rng = Random(0)
        self.give_host(no_faults)
        self.foreign: dict[str, Any] = {}

    def give_host(self, faults: Any) -> None:
        host = Witness(self.life.site.world, faults)
        host.life = self.life
        self.life.site.host = host
        self.life.born()

    @property
    def somebody(self) -> Somebody:
        return Somebody(self.life.site.world)

    @initialize()
    def somebody_elses_things(self) -> None:
        self.somebody.foreign_instance("gitlab", address="10.0.3.3", running=True)
        self.somebody.foreign_instance("frank-container")
        self.somebody.foreign_instance(f"{STRAY}-container")
        self.somebody.add_account("erin")
        self.foreign = self.foreign_state()

    def foreign_state(self) -> dict[str, Any]:
        world = self.life.site.world
        return {
            "frank": world.instance("frank-container"),
            "erin": world.account("erin"),
            "gitlab": {k: v for k, v in world.instances["gitlab"].config.items() if not k.startswith("volatile")},
        }

    # The admin

    @rule(name=names, spec=specs, key=st.sampled_from(["one", "two"]))
    def edit(self, name: str, spec: dict[str, Any], key: str) -> None:
        self.people[name] = {"keys": [public_key(f"{name}-{key}")], **spec}
        self.declare()

    @rule(gone=st.sets(names, min_size=1))
    def withdraw(self, gone: set[str]) -> None:
        for name in gone:
            self.people.pop(name, None)
        self.declare()

    @rule(how=st.sampled_from(["incomplete", "broken", "empty", "whole"]), name=names)
    def reread(self, how: str, name: str) -> None:
        if how == "broken":
            problem = Problem(Location(f"{name}.yaml", 1, 1), "", "is no YAML", "mend it", environment=name)
            kept = [declaration(n, spec) for n, spec in self.people.items() if n != name]
            self.life.site.load = load(*kept, problems=[problem])
        elif how == "empty":
            self.life.site.load = load(complete=False)
        else:
            self.declare(complete=how == "whole")

    @rule()
    def approve(self) -> None:
        plan = self.life.controller.last.plan
        held = [i for i in plan.interlocks if i.digest] if plan is not None else []
        self.life.approvals = frozenset(
            Approval(verb, frozenset(i.environments))
            for i in held
            for verb in ("retire", "prune")
            if digest(verb, i.environments) == i.digest
        )

    @rule(name=names, begin=st.booleans())
    def suspend(self, name: str, begin: bool) -> None:
        box = f"{name}-container"
        instance = self.life.site.world.instance(box)
        if instance is not None and instance.config.get(marks.ENVIRONMENT) == name:
            if begin:
                self.somebody.set_config(box, marks.SUSPENDED, self.life.site.now.isoformat())
            else:
                self.somebody.unset_config(box, marks.SUSPENDED)

    def declare(self, complete: bool = True) -> None:
        declared = [declaration(name, spec) for name, spec in self.people.items()]
        self.life.site.load = load(*declared, complete=complete and bool(declared))

    # Somebody behind our back

    @rule(name=names, what=st.integers(0, 11))
    def meddle(self, name: str, what: int) -> None:
        world, box = self.life.site.world, f"{name}-container"
        instance, account = world.instance(box), world.account(name)
        if instance is not None and instance.config.get(marks.ENVIRONMENT) == name:
            acts: list[Any] = [
                lambda: self.somebody.stop(box),
                lambda: self.somebody.set_config(box, "limits.cpu", "7"),
                lambda: self.somebody.start(box),
                lambda: self.somebody.unset_config(box, "boot.autostart"),
                lambda: self.somebody.unset_config(box, marks.MANIFEST),
            ]
            if instance.status is InstanceStatus.RUNNING:
                acts += [
                    lambda: self.somebody.loosen_memory(box, 1 << 40),
                    lambda: self.somebody.loosen_cpus(box),
                    lambda: self.somebody.limit_disk(box, 0),
                    lambda: self.somebody.flush_filters(box),
                ]
            if world.inside(box) is not None:
                acts += [
                    lambda: self.somebody.remove_guest_keys(box, name),
                    lambda: self.somebody.set_root_password(box),
                ]
            acts[what % len(acts)]()
        if account is not None and account.group == marks.JUMP_GROUP:
            meddle_with_account(self.somebody, name, what)

    @rule(doubtful=st.booleans())
    def pool(self, doubtful: bool) -> None:
        self.life.site.world.doubts = ("the storage pool default is unavailable",) if doubtful else ()

    @precondition(lambda self: not self.life.jumped)  # who is born into a wrong time cannot know it
    @rule(new_disk=st.booleans())
    def reboot(self, new_disk: bool) -> None:
        self.somebody.reboot()
        if new_disk:
            self.somebody.lose_boot_disk()
        self.life.born()

    # Time

    @rule(hours=st.integers(1, 400))
    def wait(self, hours: int) -> None:
        self.life.wait(hours * 3600.0)

    @precondition(lambda self: not self.life.jumped)
    @rule(days=st.integers(1, 4000))
    def clock_jumps(self, days: int) -> None:
        self.life.make_pass()  # what it knows of the time so far
        self.life.site.wait(days=days)
        self.life.jumped_at = self.life.elapsed

    # The controller

    @precondition(lambda self: not self.life.jumped)
    @rule()
    def restart(self) -> None:
        self.life.born()

    @precondition(lambda self: not self.life.jumped)
    @rule(seed=st.integers(0, 2**16), seconds=st.integers(5, 400))
    def live_with_faults(self, seed: int, seconds: int) -> None:
        self.give_host(Seeded(Random(seed), rate=0.06))
        try:
            self.life.live(seconds)
        except Crash as end:
            note(f"it died: {end}")
        self.give_host(no_faults)

    @rule(seconds=st.integers(1, 120))
    def live(self, seconds: int) -> None:
        self.life.live(seconds)

    @rule()
    def come_to_rest(self) -> None:
        """With whole manifests and no doubts, twenty minutes are enough for everything that may be done."""
        if self.life.jumped:
            self.life.wait(HOLD)
        self.life.site.world.doubts = ()
        self.declare()
        shown = self.life.live(1200)
        assert shown.plan is not None
        assert not shown.troubles, shown.troubles
        assert not shown.plan.pending, [e for e in shown.plan.environments if e.due]
        before = list(self.life.heard.actions)
        self.life.live(400)
        assert self.life.heard.actions == before, "nothing changes, and still it acts"
        self.as_declared()

    def as_declared(self) -> None:
        world = self.life.site.world
        for name, spec in self.people.items():
            instance, account = world.instance(f"{name}-container"), world.account(name)
            if name in FOREIGN or (instance is not None and marks.SUSPENDED in instance.config):
                continue
            if self.life.wanted(name) is None or (name == STRAY and not ours(instance)):
                continue
            assert instance is not None
            assert (instance.status is InstanceStatus.RUNNING) is spec.get("running", True)
            assert account is not None
            assert account.shell == marks.JUMP_SHELL
            assert account.keys is not None
            assert sum(spec["keys"][0] in line for line in account.keys) == 1
            assert not any("mallory" in line for line in account.keys)

    @invariant()
    def nothing_foreign_is_touched(self) -> None:
        if self.foreign:
            assert self.foreign_state() == self.foreign

    @invariant()
    def what_is_told_is_whole(self) -> None:
        """Everybody who is declared has one Ready condition, and whoever is in trouble is told as not ready."""
        shown = self.life.controller.last
        if shown.plan is None or shown.load is None or shown.error:
            return
        status = build(shown, None, this_process())
        told = {environment.name: environment for environment in status.environments}
        declared = {m.name for m in shown.load.manifests}
        assert declared | {p.environment for p in shown.load.problems if p.environment} <= told.keys()
        for environment in status.environments:
            assert [c.type for c in environment.conditions].count(READY) == 1
            assert len({c.type for c in environment.conditions}) == len(environment.conditions)
        for name, trouble in shown.troubles.items():
            assert (told[name].ready.status, told[name].ready.reason) == (ConditionStatus.FALSE, trouble.reason)

    @invariant()
    def addresses_are_distinct(self) -> None:
        used = [address for instance in self.life.site.world.instances.values() for address in instance.addresses]
        assert len(used) == len(set(used))


class TestLiving(Reconciling.TestCase):  # type: ignore[misc, valid-type]
    """Runs the machine: briefly here, for long in ``make soak``."""

    settings = settings()
