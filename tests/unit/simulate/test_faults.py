"""Faults strike at named, counted boundaries, and the same source tells the same story again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containarium.model import marks
from containarium.model.action import (
    Action,
    CreateInstance,
    DeleteAccount,
    DeleteInstance,
    EnableService,
    EnsureAccount,
    InstallPackages,
    LockGuestRoot,
    SetUpUser,
    StartInstance,
    StopInstance,
    UpdateInstance,
    WriteAccountKeys,
    WriteGuestKeys,
)
from containarium.model.host import HostError, RetryableError, WaitingError
from containarium.model.observed import Observed
from containarium.simulate.faults import (
    DONE,
    Boundary,
    Crash,
    Delay,
    Fail,
    Fault,
    Kill,
    Meddle,
    Recorder,
    Scripted,
    Seeded,
    Wait,
    every,
)
from containarium.simulate.host import SimulatedHost, boundaries
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import World

ALICE = "alice-container"
BASH = "/bin/bash"
CREATE = CreateInstance(
    environment="alice", instance=ALICE, image="guest", config={marks.ENVIRONMENT: "alice"}, devices={}
)
START = StartInstance(environment="alice", instance=ALICE)
STORY: tuple[Action, ...] = (
    CREATE,
    START,
    InstallPackages(environment="alice", instance=ALICE, packages=("sudo", "docker.io", "git")),
    SetUpUser(environment="alice", instance=ALICE, user="alice", shell=BASH, groups=("sudo", "docker")),
    WriteGuestKeys(environment="alice", instance=ALICE, user="alice", keys=("key",)),
    EnableService(environment="alice", instance=ALICE, service="docker"),
    LockGuestRoot(environment="alice", instance=ALICE),
    EnsureAccount(environment="alice", account="alice"),
    WriteAccountKeys(environment="alice", account="alice", lines=("key",)),
    UpdateInstance(environment="alice", instance=ALICE, config={marks.APPLIED: "digest"}),
)
END: tuple[Action, ...] = (
    DeleteAccount(environment="alice", account="alice"),
    StopInstance(environment="alice", instance=ALICE),
    DeleteInstance(environment="alice", instance=ALICE, reason="test"),
)


def play(world: World, actions: tuple[Action, ...]) -> None:
    host = SimulatedHost(world)
    for action in actions:
        host.execute(action)


def settled(observed: Observed) -> object:
    """What two lives have in common: all but times and what Incus makes up itself."""
    instances = {
        name: (instance.status, {k: v for k, v in instance.config.items() if k != "volatile.uuid"}, instance.devices)
        for name, instance in observed.instances.items()
    }
    accounts = {name: (a.group, a.password, a.shell, a.keys) for name, a in observed.accounts.items()}
    return instances, accounts, observed.guests, observed.orphan_keys


def dies(host: SimulatedHost, actions: tuple[Action, ...]) -> bool:
    """Carry out actions until the controller is killed; tell whether it was."""
    try:
        for action in actions:
            host.execute(action)
    except Crash:
        return True
    return False


def survive(world: World, actions: tuple[Action, ...], faults: Scripted | Seeded) -> int:
    """Carry all of it out from its beginning until nothing interrupts any more, as a restarted controller would."""
    for attempt in range(1, 200):
        host = SimulatedHost(world, faults)
        try:
            for action in actions:
                host.execute(action)
        except (Crash, RetryableError, WaitingError):
            continue
        return attempt
    raise AssertionError("no end")


def test_boundaries_are_named_and_leave_the_world_alone() -> None:
    world = World()
    assert [str(boundary) for boundary in boundaries(world, (CREATE, START))] == [
        "CreateInstance: inserting the row",
        "CreateInstance: unpacking the image",
        "CreateInstance: done",
        "StartInstance: starting the instance",
        "StartInstance: done",
    ]
    assert world.snapshot().instances == {}


def test_packages_are_installed_one_by_one() -> None:
    world = World()
    play(world, (CREATE, START))
    steps = [boundary.step for boundary in boundaries(world, (STORY[2],))]
    assert steps == ["installing sudo", "installing docker.io", "installing git", DONE]


@pytest.mark.parametrize("fault", [Kill(), Fail(), Wait()])
def test_an_action_cut_off_at_any_boundary_can_be_repeated(fault: Fault) -> None:
    expected = World()
    play(expected, STORY)
    count = len(boundaries(World(), STORY))
    assert count > 25
    for script in every(fault, count):
        world = World()
        assert survive(world, STORY, script) == 2
        assert settled(world.snapshot()) == settled(expected.snapshot())


def test_an_end_cut_off_at_any_boundary_can_be_repeated() -> None:
    begun = World()
    play(begun, STORY)
    for script in every(Kill(), len(boundaries(begun, END)) - 1):
        world = begun.copy()
        host = SimulatedHost(world, script)
        assert dies(host, END)
        remaining = END if ALICE in world.instances else END[:1]
        play(world, remaining)
        assert settled(world.snapshot()) == ({}, {}, {}, frozenset())


def test_a_crash_is_nothing_that_error_handling_catches() -> None:
    assert not issubclass(Crash, Exception)


def test_a_crash_keeps_what_was_done_and_nothing_more() -> None:
    world = World()
    with pytest.raises(Crash):
        SimulatedHost(world, Scripted({1: Kill()})).execute(CREATE)
    assert world.snapshot().instances == {}
    with pytest.raises(Crash):
        SimulatedHost(world, Scripted({3: Kill()})).execute(CREATE)
    assert "volatile.apply_template" in world.snapshot().instances[ALICE].config


def test_a_script_goes_on_in_the_next_life() -> None:
    script = Scripted({1: Kill(), 2: Kill()})
    assert survive(World(), (CREATE,), script) == 3
    assert script.steps_passed == 2 + 3


def test_looks_are_counted_apart() -> None:
    host = SimulatedHost(World(), Scripted({1: Fail("Busy")}, looks={2: Fail("IncusUnreachable")}))
    host.observe()
    with pytest.raises(RetryableError) as caught:
        host.observe()
    assert caught.value.reason == "IncusUnreachable"
    with pytest.raises(RetryableError) as caught:
        host.execute(CREATE)
    assert caught.value.reason == "Busy"


def test_errors_say_what_they_are() -> None:
    with pytest.raises(WaitingError) as caught:
        SimulatedHost(World(), Scripted({1: Wait(5.0, "Later")})).execute(CREATE)
    assert (caught.value.retry_after, caught.value.reason) == (5.0, "Later")


def test_a_delay_takes_simulated_time() -> None:
    world = World()
    SimulatedHost(world, Scripted({2: Delay(90.0)}), step_seconds=0.0).execute(CREATE)
    assert world.clock.monotonic() == 90.0


def test_somebody_may_come_between_two_steps() -> None:
    world = World()
    script = Scripted({2: Meddle(lambda world: Somebody(world).remove_instance(ALICE))})
    with pytest.raises(HostError) as caught:
        SimulatedHost(world, script).execute(CREATE)
    assert caught.value.reason == "NotFound"

    def take_over(world: World) -> None:
        Somebody(world).remove_instance(ALICE)
        Somebody(world).foreign_instance(ALICE)

    with pytest.raises(HostError) as caught:
        SimulatedHost(world, Scripted({2: Meddle(take_over)})).execute(CREATE)
    assert caught.value.reason == "Conflict"


def test_a_recorder_writes_down_what_another_source_answers_to() -> None:
    recorder = Recorder(Scripted({2: Kill()}))
    with pytest.raises(Crash):
        SimulatedHost(World(), recorder).execute(CREATE)
    assert recorder.of_actions == (Boundary("inserting the row", CREATE), Boundary("unpacking the image", CREATE))


def test_a_callable_is_a_source() -> None:
    def at_unpacking(boundary: Boundary) -> Fault | None:
        return Fail() if boundary.step.startswith("unpacking") else None

    with pytest.raises(RetryableError, match="unpacking"):
        SimulatedHost(World(), at_unpacking).execute(CREATE)


def test_progress_tells_each_step() -> None:
    told: list[str] = []
    SimulatedHost(World()).execute(CREATE, told.append)
    assert told == ["inserting the row", "unpacking the image"]


@given(seed=st.integers(), rate=st.floats(0, 0.5))
def test_chance_repeats_itself_and_ends(seed: int, rate: float) -> None:
    worlds = World(), World()
    attempts = [survive(w, STORY, Seeded(random.Random(seed), rate=rate, limit=20)) for w in worlds]
    assert attempts[0] == attempts[1]
    assert worlds[0].snapshot() == worlds[1].snapshot()
    expected = World()
    play(expected, STORY)
    assert settled(worlds[0].snapshot()) == settled(expected.snapshot())


@given(script=st.dictionaries(st.integers(1, 60), st.sampled_from([Kill(), Fail(), Wait(), Delay(30.0)])))
def test_any_script_converges(script: dict[int, Fault]) -> None:
    world, expected = World(), World()
    survive(world, STORY, Scripted(script))
    play(expected, STORY)
    assert settled(world.snapshot()) == settled(expected.snapshot())
