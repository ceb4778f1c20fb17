"""Putting limits in force again on the simulated host, in the sub-steps of the real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from containarium.model import marks
from containarium.model.action import EnforceLimits
from containarium.model.host import HostError, RetryableError, TerminalError
from containarium.model.observed import Instance, InstanceStatus
from containarium.model.quantity import parse_bytes
from containarium.plan.desired import ROOT_DEVICE
from containarium.plan.enforce import Lack, lacking, respelled, respelled_device
from containarium.simulate import incus
from containarium.simulate.world import World

_Devices = Mapping[str, Mapping[str, str]]


def enforce(world: World, action: EnforceLimits) -> Iterator[str]:
    """Write each limit in other letters and then as it was; each yield names what comes next."""
    refusal: HostError | None = None
    for lack in sorted(_lacks(world, action), key=lambda lack: not lack.device):
        yield f"enforcing {lack.field}"
        try:
            yield from _again(world, action, lack)
        except HostError as error:
            if error.reason == "Changed":
                raise
            refusal = refusal or error
    left = ", ".join(lack.field for lack in _lacks(world, action))
    if not left:
        return
    instance = incus.the_instance(world, action.instance)
    world.change_config(action.instance, {marks.RESTART: instance.last_used_at})
    kind = TerminalError if refusal is None else RetryableError
    raise kind(
        f"the kernel does not hold {action.instance} to {left}",
        remedy=f"restart it: containarium apply --restart --only {action.environment}",
        reason="EnforcementFailed",
    )


def _lacks(world: World, action: EnforceLimits) -> list[Lack]:
    instance = incus.the_instance(world, action.instance)
    held = world.enforcement(action.instance)
    if held is None or instance.status is not InstanceStatus.RUNNING:
        return []
    wanted = action.config.keys() | action.devices.keys()
    found = lacking(instance.config, instance.devices, held, world.facts.cpus)
    return [lack for lack in found if lack.key in wanted]


def _again(world: World, action: EnforceLimits, lack: Lack) -> Iterator[str]:
    name, key = action.instance, lack.key
    if key == ROOT_DEVICE:
        _unchanged(incus.the_instance(world, name), {}, {key: action.devices[key]})
        world.change_enforcement(name, disk=parse_bytes(action.devices[key]["size"]))
        return
    config: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
    devices: tuple[_Devices, _Devices] = ({}, {})
    if lack.device:
        devices = {key: action.devices[key]}, {key: respelled_device(action.devices[key])}
    else:
        config = {key: action.config[key]}, {key: respelled(key, action.config[key])}
    _unchanged(incus.the_instance(world, name), config[0], devices[0])
    incus.patch(world, name, config[1], devices[1])
    yield f"writing {lack.field} as it was"
    _unchanged(incus.the_instance(world, name), config[1], devices[1])
    incus.patch(world, name, config[0], devices[0])


def _unchanged(instance: Instance, config: Mapping[str, str], devices: _Devices) -> None:
    there = {key: instance.config.get(key) for key in config}, {key: instance.devices.get(key) for key in devices}
    if there != (dict(config), dict(devices)):
        raise RetryableError(f"{instance.name} was changed meanwhile", remedy="it is looked at again", reason="Changed")
