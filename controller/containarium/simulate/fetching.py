"""Fetching an instance from another simulated host, in the sub-steps of the real one. The clock is common to both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from containarium.model import marks
from containarium.model.action import FetchInstance
from containarium.model.fleet import Peer, Presence
from containarium.model.host import RetryableError, TerminalError
from containarium.model.manifest import DeclaredHost
from containarium.model.observed import Instance, InstanceStatus
from containarium.plan.presence import PASSING_MARKS, arriving
from containarium.simulate import incus
from containarium.simulate.world import World


class Neighbours(Protocol):
    """The other hosts, as one of them reaches them."""

    def peers(self, own: str, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """What the others tell ``own``."""
        ...

    def reach(self, own: str, host: str) -> World:
        """The world of a host that answers. Raises RetryableError."""
        ...

    def check_offer(self, own: str, host: str, environment: str) -> None:
        """Ask a host whether its own manifests let ``own`` have the environment. Raises RetryableError."""
        ...

    def holders(self, own: str, environment: str, *presences: Presence) -> tuple[str, ...]:
        """Who of the other declared hosts that answer ``own`` has it so at this very moment, sorted."""
        ...


def check_nobody_has(neighbours: Neighbours | None, own: str, environment: str, *presences: Presence) -> None:
    """Ask once more, right before what the answers of a while ago allowed. Raises RetryableError."""
    if neighbours is not None and (holders := neighbours.holders(own, environment, *presences)):
        raise RetryableError(
            f"{' and '.join(holders)} has {environment}", remedy="it is looked at again", reason="LivesElsewhere"
        )


def fetch(world: World, action: FetchInstance, neighbours: Neighbours | None) -> Iterator[str]:
    """Each yield names what comes next, on this host or on the other one."""
    if neighbours is None:
        raise TerminalError(f"{action.source} is not known here", remedy="declare it", reason="PeerUnknown")
    own, name, source = world.facts.name, action.instance, action.source
    _check_old(world, name)
    yield f"asking {source} for it"
    neighbours.check_offer(own, source, action.environment)
    yield f"marking it on {source}"
    there = neighbours.reach(own, source)
    neighbours.check_offer(own, source, action.environment)
    there.change_config(name, {marks.LEAVING: own, "boot.autostart": "false"})
    yield f"stopping it on {source}"
    incus.stop(neighbours.reach(own, source), name)
    if _check_old(world, name):
        yield "deleting the older copy"
        _offered(neighbours, own, action)
        if _check_old(world, name):
            world.change_config(name, {incus.PROTECTION: ""})
            incus.delete(world, name)
    yield "inserting the row"
    incus.insert_row(world, name, action.config, action.devices)
    yield "copying"
    _offered(neighbours, own, action)
    yield "copying the rest"
    _copy(world, neighbours.reach(own, source), _offered(neighbours, own, action), action)
    yield "noting that it is whole"
    world.change_config(name, {marks.ARRIVING: arriving(source, whole=True)})


def _check_old(world: World, name: str) -> bool:
    """Whether something is here that a move has marked: a part, or what was left behind. Refuses anything else."""
    present = world.instance(name)
    if present is None:
        return False
    if not any(mark in present.config for mark in PASSING_MARKS):
        raise TerminalError(f"there is an instance {name} here", remedy="look again", reason="Conflict")
    if present.status is not InstanceStatus.STOPPED:
        raise TerminalError(f"somebody started {name}", remedy="stop it", reason="Running")
    return True


def _offered(neighbours: Neighbours, own: str, action: FetchInstance) -> Instance:
    """The instance on the other host, which has to be as it was offered."""
    instance = incus.the_instance(neighbours.reach(own, action.source), action.instance)
    if instance.config.get(marks.LEAVING) != own or instance.status is not InstanceStatus.STOPPED:
        raise RetryableError(f"{action.source} has taken it back", remedy="look again", reason="Withdrawn")
    return instance


def _copy(world: World, there: World, instance: Instance, action: FetchInstance) -> None:
    inside = there.inside(action.instance)
    kept = {key: value for key, value in instance.config.items() if not key.startswith("volatile.")}
    config = {**kept, **action.config, incus.TEMPLATE: "copy"}
    world.change_instance(
        action.instance,
        config={key: value for key, value in config.items() if value != ""},
        devices={**instance.devices, **action.devices},
    )
    world.put_instance(world.instances[action.instance], inside)
