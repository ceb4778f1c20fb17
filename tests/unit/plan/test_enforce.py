"""What is configured and what the kernel holds: which of it is a difference, and what is done about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from containarium.model.action import EnforceLimits, StartInstance, UpdateInstance
from containarium.model.observed import Enforcement, Instance, InstanceStatus
from containarium.plan.decision import EnvironmentPlan, Verb
from containarium.plan.enforce import enforce, lacking, respelled, respelled_device
from containarium.plan.planner import make_plan
from containarium.simulate.faults import Crash, Kill, Scripted
from containarium.simulate.host import SimulatedHost, boundaries
from containarium.simulate.somebody import Somebody
from tests.builders import Site, manifest

BOX = "alice-container"
GIB = 2**30
MIB = 2**20
CPUS = 4


def one(held: Enforcement, cpu: str = "2", memory: str = "1GiB", size: str = "2GiB", **config: str) -> list[str]:
    """What is lacking of a usual configuration: ``field: before -> after``."""
    limits = {"limits.cpu": cpu, "limits.memory": memory, "limits.processes": "512", **config}
    devices = {"root": {"type": "disk", "size": size}, "eth0": {"type": "nic", "security.mac_filtering": "true"}}
    return [f"{lack.field}: {lack.before} -> {lack.after}" for lack in lacking(limits, devices, held, CPUS)]


RIGHT = Enforcement(memory=GIB, processes=512, cpus=frozenset({1, 3}), disk=2 * GIB, filters=True)


def cpus(*ids: int) -> Enforcement:
    return replace(RIGHT, cpus=frozenset(ids))


def test_what_holds_and_what_nobody_could_read_is_no_difference() -> None:
    assert one(RIGHT) == []
    assert one(Enforcement()) == []


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (replace(RIGHT, memory=2 * GIB), "spec.resources.memory: 2GiB in the kernel -> 1GiB"),
        (replace(RIGHT, memory=1536 * MIB), "spec.resources.memory: 1.5GiB in the kernel -> 1GiB"),
        (replace(RIGHT, memory=0), "spec.resources.memory: no limit in the kernel -> 1GiB"),
        (replace(RIGHT, processes=9000), "spec.resources.processes: 9000 in the kernel -> 512"),
        (replace(RIGHT, processes=0), "spec.resources.processes: no limit in the kernel -> 512"),
        (replace(RIGHT, disk=100 * MIB), "spec.resources.disk: 100MiB in the kernel -> 2GiB"),
        (replace(RIGHT, disk=0), "spec.resources.disk: no limit in the kernel -> 2GiB"),
        (replace(RIGHT, filters=False), "isolation.filters: not in the firewall -> in force"),
        (cpus(0, 1, 2), "spec.resources.cpu: 3 in the kernel -> 2"),
        (cpus(0), "spec.resources.cpu: 1 in the kernel -> 2"),
    ],
)
def test_each_limit_is_compared_and_told(held: Enforcement, said: str) -> None:
    assert one(held) == [said]


@pytest.mark.parametrize(
    ("cpu", "held", "differs"),
    [
        ("1-2", (1, 2), False),
        ("1-2", (0, 1, 2), True),
        ("1-2", (1,), True),
        ("1-2", (0, 3), True),
        ("3-3", (3,), False),
        ("2-9", (2, 3), False),
        ("8-9", (0, 1, 2, 3), False),
        ("16", (0, 1, 2, 3), False),
        ("16", (0, 1), True),
        ("", (0,), False),
        ("50%", (0,), False),
    ],
)
def test_processors(cpu: str, held: tuple[int, ...], differs: bool) -> None:
    assert bool(one(cpus(*held), cpu=cpu)) is differs


@pytest.mark.parametrize(
    ("memory", "held"),
    [("512MiB", 536870912), ("1GB", 999997440), ("8GiB", 8589934592), ("1000000001B", 999948288)],
)
def test_pages_are_rounded(memory: str, held: int) -> None:
    assert one(replace(RIGHT, memory=held), memory=memory) == []


def test_what_an_admin_softened_or_spelled_in_their_own_way_is_left_alone() -> None:
    assert one(replace(RIGHT, memory=0), **{"limits.memory.enforce": "soft"}) == []
    assert one(replace(RIGHT, memory=5), memory="50%") == []
    assert one(replace(RIGHT, disk=5), size="") == []


@pytest.mark.parametrize(
    ("key", "value", "other"),
    [
        ("limits.memory", "512MiB", "536870912B"),
        ("limits.memory", "536870912B", "536870912"),
        ("limits.processes", "512", "0512"),
        ("limits.cpu", "2", "02"),
        ("limits.cpu", "0-1", "00-1"),
    ],
)
def test_another_spelling_means_the_same(key: str, value: str, other: str) -> None:
    assert respelled(key, value) == other


def test_another_spelling_of_a_device() -> None:
    assert respelled_device({"type": "disk", "size": "1GiB"}) == {"type": "disk", "size": "1073741824B"}
    nic = {"type": "nic", "security.mac_filtering": "true", "security.ipv4_filtering": "true"}
    assert respelled_device(nic) == {**nic, "security.mac_filtering": "1"}
    assert respelled_device({**nic, "security.mac_filtering": "1"}) == nic


def test_before_a_change_only_a_disk_limit_that_is_too_small_is_mended() -> None:
    instance = Instance(BOX, InstanceStatus.RUNNING, {"limits.processes": "5"}, {"root": {"size": "2GiB"}})

    def planned(held: Enforcement) -> list[EnforceLimits]:
        return list(enforce("alice", instance, held, CPUS, changing=True, drift=True))

    (action,) = planned(Enforcement(processes=9, disk=GIB))
    assert action.config == {}
    assert action.devices == {"root": {"size": "2GiB"}}
    assert planned(Enforcement(processes=9, disk=3 * GIB)) == []
    assert planned(Enforcement(disk=0)) == []


# -- in a whole plan


def plan_of(site: Site) -> EnvironmentPlan | None:
    plan = make_plan(site.load, site.host.observe(), site.now)
    return next((environment for environment in plan.environments if environment.name == "alice"), None)


HARM: list[tuple[str, Callable[[Somebody], object]]] = [
    ("spec.resources.memory", lambda s: s.loosen_memory(BOX, 64 * GIB)),
    ("spec.resources.processes", lambda s: s.loosen_processes(BOX, 0)),
    ("spec.resources.cpu", lambda s: s.loosen_cpus(BOX)),
    ("spec.resources.disk", lambda s: s.limit_disk(BOX, 100 * MIB)),
    ("isolation.filters", lambda s: s.flush_filters(BOX)),
]


@pytest.fixture
def site() -> Site:
    site = Site(manifest("alice"))
    assert site.run().converged
    return site


@pytest.mark.parametrize(("field", "harm"), HARM, ids=[field for field, _ in HARM])
def test_it_is_drift_and_repaired(site: Site, field: str, harm: Callable[[Somebody], object]) -> None:
    before, held = site.world.instances[BOX], site.world.enforcement(BOX)
    harm(Somebody(site.world))
    plan = plan_of(site)
    assert plan is not None
    assert plan.verb is Verb.REPAIR
    assert [(change.field, change.drift) for change in plan.changes] == [(field, True)]
    assert [action.kind for action in plan.actions] == ["EnforceLimits"]
    assert site.run().converged
    assert plan_of(site) is None
    assert site.world.instances[BOX] == before
    assert site.world.enforcement(BOX) == held


@pytest.mark.parametrize(("field", "harm"), HARM, ids=[field for field, _ in HARM])
def test_a_death_in_between_is_repaired_and_never_looser(
    site: Site, field: str, harm: Callable[[Somebody], object]
) -> None:
    before, held = site.world.instances[BOX], site.world.enforcement(BOX)
    harm(Somebody(site.world))
    plan = plan_of(site)
    assert plan is not None
    steps = boundaries(site.world, plan.actions)
    assert steps
    for number in range(1, len(steps) + 1):
        world = site.world.copy()
        with pytest.raises(Crash):
            SimulatedHost(world, Scripted({number: Kill()})).execute(plan.actions[0])
        if number > 1:
            assert world.enforcement(BOX) == held, "what was put in force stays so"
        later = Site()
        later.world, later.host, later.load = world, SimulatedHost(world), site.load
        assert later.run().converged
        assert world.enforcement(BOX) == held
        assert _same(world.instances[BOX]) == _same(before)


def _same(instance: Instance) -> Any:
    """Without how memory and filters are spelled: Incus and the plan read both as the same."""
    spelled = {"limits.memory": "4GiB"}
    assert instance.config["limits.memory"] in ("4GiB", f"{4 * GIB}B")
    nic = {**instance.devices["eth0"], "security.mac_filtering": "true"}
    return replace(instance, config={**instance.config, **spelled}, devices={**instance.devices, "eth0": nic})


def test_configuration_comes_first(site: Site) -> None:
    somebody = Somebody(site.world)
    somebody.loosen_processes(BOX, 0)
    somebody.set_config(BOX, "limits.memory", "1GiB")
    plan = plan_of(site)
    assert plan is not None
    assert [type(action) for action in plan.actions] == [UpdateInstance]
    assert site.run().converged
    assert plan_of(site) is None


def test_a_guest_over_its_limit_grows_before_anything_else(site: Site) -> None:
    somebody = Somebody(site.world)
    somebody.limit_disk(BOX, 100 * MIB)
    site.declare(manifest("alice", resources={"memory": "2GiB", "disk": "80GiB"}))
    plan = plan_of(site)
    assert plan is not None
    assert [type(action) for action in plan.actions][:2] == [EnforceLimits, UpdateInstance]
    assert site.run().converged
    held = site.world.enforcement(BOX)
    assert held is not None
    assert held.disk == 80 * GIB


def test_a_start_needs_no_enforcement(site: Site) -> None:
    somebody = Somebody(site.world)
    somebody.loosen_processes(BOX, 0)
    somebody.stop(BOX)
    plan = plan_of(site)
    assert plan is not None
    assert type(plan.actions[0]) is StartInstance
    assert not any(isinstance(action, EnforceLimits) for action in plan.actions)


def test_what_cannot_be_done_live_waits_for_a_restart(site: Site) -> None:
    somebody = Somebody(site.world)
    somebody.loosen_memory(BOX, 64 * GIB)
    somebody.use_memory(BOX, 8 * GIB)
    (failure,) = site.run().failures
    assert failure.error.reason == "EnforcementFailed"
    assert "--restart --only alice" in failure.error.remedy
    plan = plan_of(site)
    assert plan is not None
    assert [change.field for change in plan.notices] == ["restart"]
    assert site.run(restart=True).converged
    assert plan_of(site) is None
