"""The simulated host: the ``Host`` protocol over a ``World``.

Every action is a generator that yields the name of its next sub-step. Between two sub-steps the world is free for
others, and the fault source decides what happens there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from containarium.model import marks
from containarium.model.action import (
    Action,
    AdoptInstance,
    AwaitLogin,
    BackupInstance,
    CreateInstance,
    DeleteAccount,
    DeleteInstance,
    EnableService,
    EnforceLimits,
    EnsureAccount,
    FetchInstance,
    InstallPackages,
    InstanceAction,
    LockAccount,
    LockGuestRoot,
    RestartInstance,
    SetUpUser,
    StartInstance,
    StopInstance,
    UpdateInstance,
    WriteAccountKeys,
    WriteGuestKeys,
)
from containarium.model.fleet import Peer, Presence
from containarium.model.host import HostError, Inside, Progress, RetryableError, TerminalError, everybody, silent
from containarium.model.manifest import DeclaredHost
from containarium.model.observed import Instance, InstanceStatus, Look, Observed
from containarium.plan.presence import PASSING_MARKS
from containarium.simulate import accounts, guests, incus, limits
from containarium.simulate.faults import DONE, LOOK, Boundary, Faults, Recorder, no_faults, strike
from containarium.simulate.fetching import Neighbours, check_nobody_has, fetch
from containarium.simulate.world import World

STEP_SECONDS = 0.01
"""How far the clock goes with every sub-step, so that no two things happen at the same time."""


class SimulatedHost:
    """A ``Host`` in memory. After a ``Crash``, a new one over the same world is the controller's next life."""

    def __init__(
        self,
        world: World,
        faults: Faults = no_faults,
        *,
        step_seconds: float = STEP_SECONDS,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.world = world
        self._neighbours = neighbours
        self._faults = faults
        self._step_seconds = step_seconds
        self._cancelled = False

    def observe(self, look: Look = Look.DEEP, inside: Inside = everybody) -> Observed:
        """Look at everything and change nothing."""
        only = inside()
        self._pass(Boundary(LOOK))
        seen = self.world.snapshot(look)
        if only is None:
            return seen
        boxes = {marks.instance_name(name) for name in only}
        return replace(
            seen,
            guests={name: guest for name, guest in seen.guests.items() if name in boxes},
            enforced={name: held for name, held in seen.enforced.items() if name in boxes},
        )

    def doubts(self) -> tuple[str, ...]:
        """What the world was told to doubt."""
        return self.world.doubts

    def peers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """What the others say; where there are none, what the world was told that they do."""
        own = self.world.facts.name
        if self._neighbours is not None:
            return self._neighbours.peers(own, hosts)
        return {host.name: self.world.peers.get(host.name, Peer(host.name)) for host in hosts if host.name != own}

    def cancel(self) -> None:
        """From now on every action but a stop fails at its next sub-step."""
        self._cancelled = True

    def resume(self) -> None:
        """Take a ``cancel`` back."""
        self._cancelled = False

    def execute(self, action: Action, progress: Progress = silent) -> None:
        """Carry out one action, sub-step by sub-step."""
        steps = _steps(self.world, action, self._neighbours)
        while True:
            with self.world.lock:
                step = next(steps, None)
            if step is None:
                break
            if self._cancelled and not isinstance(action, StopInstance):
                raise RetryableError(f"cancelled before {step}", reason="Cancelled")
            progress(step)
            self._pass(Boundary(step, action))
            self.world.clock.advance(self._step_seconds)
        self._pass(Boundary(DONE, action))

    def _pass(self, boundary: Boundary) -> None:
        strike(self._faults(boundary), boundary, self.world)


def boundaries(world: World, actions: Iterable[Action]) -> tuple[Boundary, ...]:
    """Every boundary that these actions would pass in this world, which stays as it is.

    The n-th of them (from 1) is the one at which ``Scripted({n: Kill()})`` strikes. An action that fails ends there,
    and the next one is tried.
    """
    recorder = Recorder()
    host = SimulatedHost(world.copy(), recorder)
    for action in actions:
        with suppress(HostError):
            host.execute(action)
    return recorder.of_actions


def _ours(world: World, action: InstanceAction) -> Instance | None:
    instance = world.instance(action.instance)
    if instance is not None and instance.config.get(marks.ENVIRONMENT) != action.environment:
        raise TerminalError(
            f"the instance {action.instance} is not ours",
            remedy="choose another name for the environment, or rename that instance",
            reason="Conflict",
        )
    return instance


def _steps(world: World, action: Action, neighbours: Neighbours | None) -> Iterator[str]:
    """The sub-steps of an action, ownership checked before each of them."""
    if not isinstance(action, InstanceAction):
        yield from _account_steps(world, action)
        return
    if isinstance(action, AdoptInstance):
        yield from _adopt(world, action)
        return
    _ours(world, action)
    match action:
        case FetchInstance():
            steps = fetch(world, action, neighbours)
        case CreateInstance():
            steps = _create(world, action, neighbours)
        case UpdateInstance():
            steps = _update(world, action, neighbours)
        case _:
            steps = _instance_steps(world, action)
    for step in steps:
        yield step
        _ours(world, action)


def _adopt(world: World, action: AdoptInstance) -> Iterator[str]:
    incus.the_instance(world, action.instance)
    yield "marking the instance"
    incus.adopt(world, action.instance, action.environment, action.config, action.devices)


def _account_steps(world: World, action: Action) -> Iterator[str]:
    match action:
        case EnsureAccount(account=name, environment=environment):
            yield from accounts.ensure(world, name, environment)
        case WriteAccountKeys(account=name, environment=environment, lines=lines):
            accounts.ours(world, name, environment)
            yield "writing the keys file"
            accounts.write_keys(world, name, environment, lines)
        case LockAccount(account=name, environment=environment):
            accounts.ours(world, name, environment)
            yield "letting the account expire"
            accounts.lock(world, name, environment)
        case DeleteAccount(account=name, environment=environment):
            yield from accounts.delete(world, name, environment)
        case _:
            raise TypeError(f"unknown action {action.kind}")


def _instance_steps(world: World, action: InstanceAction) -> Iterator[str]:
    name = action.instance
    match action:
        case DeleteInstance(reason=reason):
            if world.instance(name) is not None:
                incus.check_protection(world.instances[name])
                incus.check_reason(world.instances[name], reason)
                if world.instances[name].status is not InstanceStatus.STOPPED:
                    yield "stopping the instance by force"
                    incus.stop(world, name)
                yield "deleting the instance"
                incus.delete(world, name)
        case BackupInstance():
            incus.the_instance(world, name)
            yield "exporting the instance"
            incus.back_up(world, name)
        case EnforceLimits():
            yield from limits.enforce(world, action)
        case StartInstance():
            incus.the_instance(world, name)
            yield "starting the instance"
            incus.start(world, name)
        case StopInstance():
            incus.the_instance(world, name)
            yield "stopping the instance"
            incus.stop(world, name)
        case RestartInstance():
            incus.the_instance(world, name)
            yield "stopping the instance"
            incus.stop(world, name)
            yield "starting the instance"
            incus.start(world, name)
        case _:
            yield from _guest_steps(world, action)


def _update(world: World, action: UpdateInstance, neighbours: Neighbours | None) -> Iterator[str]:
    """What is on its way ends it here only while no other host says that it lives there."""
    name, config = action.instance, action.config
    incus.refuse_shrinking(world, name, action.devices)
    yield "patching the instance"
    passing = [config[mark] for mark in PASSING_MARKS if mark in config]
    if passing and not any(passing):
        check_nobody_has(neighbours, world.facts.name, action.environment, Presence.HERE)
    incus.patch(world, name, config, action.devices)


def _create(world: World, action: CreateInstance, neighbours: Neighbours | None) -> Iterator[str]:
    """A half-born row of ours is thrown away first; one that was made whole is kept as it is."""
    name = action.instance
    present = world.instance(name)
    if present is not None and incus.startable(present):
        return
    incus.check_image(world, action.image)
    recipe = action.recipe
    if recipe is not None and recipe not in world.recipes:
        yield f"baking {recipe}"
        incus.bake(world, recipe)
    if present is not None:
        yield "deleting the half-born instance"
        incus.delete(world, name)
    yield "inserting the row"
    having = (Presence.HERE, Presence.RETIRED, Presence.LEAVING)
    check_nobody_has(neighbours, world.facts.name, action.environment, *having)
    incus.insert_row(world, name, action.config, action.devices)
    yield "unpacking the image"
    incus.unpack(world, name, action.image, recipe)


def _guest_steps(world: World, action: InstanceAction) -> Iterator[str]:
    name = action.instance
    guests.enter(world, name)
    match action:
        case SetUpUser():
            yield from guests.set_up(world, action)
        case WriteGuestKeys(keys=keys):
            yield "writing authorized_keys"
            guests.write_keys(world, name, keys)
        case InstallPackages(packages=packages):
            for package in packages:
                incus.check_package(world, package)
            for package in packages:
                yield f"installing {package}"
                guests.install(world, name, package)
        case EnableService(service=service):
            yield f"enabling {service}"
            guests.enable(world, name, service)
        case LockGuestRoot():
            yield "locking root"
            guests.lock_root(world, name)
        case AwaitLogin(address=address):
            yield f"waiting for {address}:22"
            guests.await_login(world, name, address)
        case _:
            raise TypeError(f"unknown action {action.kind}")
