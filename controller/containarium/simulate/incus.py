"""What Incus does to an instance, and what it refuses. Every function is one indivisible sub-step."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from containarium.model import marks
from containarium.model.host import RetryableError, TerminalError, WaitingError
from containarium.model.observed import Enforcement, Guest, Instance, InstanceStatus, Password
from containarium.model.quantity import parse_bytes
from containarium.model.recipe import Recipe
from containarium.plan.presence import PASSING_MARKS
from containarium.simulate.inside import IMAGES, PROVIDES, REMOTES, Image, Inside
from containarium.simulate.world import World

NEVER_USED = "1970-01-01T00:00:00Z"
TEMPLATE = "volatile.apply_template"
POWER = "volatile.last_state.power"
PROTECTION = "security.protection.delete"
_CPUS = re.compile(r"\d+|\d+(-\d+)?(,\d+(-\d+)?)*")


def the_instance(world: World, name: str) -> Instance:
    """The instance, or the error that Incus' 404 becomes."""
    instance = world.instance(name)
    if instance is None:
        raise TerminalError(f"there is no instance {name}", remedy="look again", reason="NotFound")
    return instance


def startable(instance: Instance) -> bool:
    """Whether the creation of the instance came to its end."""
    return TEMPLATE in instance.config or POWER in instance.config


def check_image(world: World, image: str) -> Image:
    """The image, or the error of one that nobody has."""
    if image in world.images:
        return world.images[image]
    if image.startswith(REMOTES):
        return IMAGES["guest"]
    raise TerminalError(f"there is no image {image}", remedy="name another image", reason="ImageUnavailable")


def check_package(world: World, package: str) -> None:
    """Refuse a package that the archive does not have."""
    if package not in world.catalogue:
        raise TerminalError(f"there is no package {package}", remedy="correct spec.packages", reason="PackageUnknown")


def insert_row(world: World, name: str, config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]]) -> None:
    """The first half of a creation: a row in the database, which can never start."""
    _check_devices(devices)
    if world.instance(name) is not None:
        raise TerminalError(f"an instance {name} exists", reason="Conflict")
    given = {key: value for key, value in config.items() if value != ""}
    world.put_instance(
        Instance(
            name,
            InstanceStatus.STOPPED,
            {**given, "volatile.uuid": f"sim-{world.clock.monotonic():.6f}"},
            devices,
            created_at=world.clock.stamp(),
            last_used_at=NEVER_USED,
        )
    )


def bake(world: World, recipe: Recipe) -> None:
    """Bake a recipe's image; nothing when that was done before. Refuses packages that the archive does not have."""
    base = check_image(world, recipe.image)
    for package in recipe.packages:
        if package not in base.packages:
            check_package(world, package)
    world.recipes[recipe] = replace(base, packages=base.packages | set(recipe.packages))


def unpack(world: World, name: str, image: str, recipe: Recipe | None = None) -> None:
    """The second half: the root file system, and the note that it was never started."""
    source = check_image(world, image) if recipe is None else world.recipes[recipe]
    instance = the_instance(world, name)
    provided = frozenset().union(*(PROVIDES.get(package, frozenset()) for package in source.packages))
    guest = Guest(
        packages=source.packages | provided,
        ssh="openssh-server" in source.packages,
        docker="docker.io" in source.packages,
        root_password=Guest().root_password if recipe is None else Password.NONE,
    )
    config = {
        **instance.config,
        TEMPLATE: "create",
        "image.description": image,
        "volatile.eth0.hwaddr": _mac(name),
    }
    world.change_instance(name, config=config)
    world.put_instance(world.instances[name], Inside(guest=guest, memory=source.memory, disk=source.disk))


def start(world: World, name: str) -> None:
    """Start or thaw; nothing when it runs."""
    instance = the_instance(world, name)
    if instance.status is InstanceStatus.RUNNING:
        return
    if instance.status is InstanceStatus.FROZEN:
        world.change_instance(name, status=InstanceStatus.RUNNING)
        return
    inside = world.inside(name)
    if inside is None or not startable(instance):
        raise TerminalError(
            f"{name} was never made whole and can never start",
            remedy="delete it and create it again",
            reason="HalfBorn",
        )
    _check_addresses(world, name, instance.addresses)  # a full disk is no reason: there is headroom for a start
    config = {key: value for key, value in instance.config.items() if key != TEMPLATE}
    world.change_instance(
        name,
        status=InstanceStatus.RUNNING,
        config={**config, POWER: "RUNNING"},
        last_used_at=world.clock.stamp(),
    )
    world.lease(name)


def stop(world: World, name: str) -> None:
    """Stop; nothing when it is stopped."""
    instance = the_instance(world, name)
    if instance.status is InstanceStatus.STOPPED:
        return
    world.change_instance(name, status=InstanceStatus.STOPPED, config={**instance.config, POWER: "STOPPED"})


def patch(world: World, name: str, config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]]) -> None:
    """Merge config keys ("" removes one) and replace whole devices, all or nothing.

    One trap is Incus' own: where the guest has filled its disk the change is made, and an error returned all the same.
    """
    instance = the_instance(world, name)
    inside = world.inside(name)
    _check_devices(devices)
    _check_cpus(config.get("limits.cpu", ""))
    for device, wanted in devices.items():
        address = wanted.get("ipv4.address", "")
        if address and address != instance.devices.get(device, {}).get("ipv4.address"):
            _check_addresses(world, name, [address])
    _check_memory(instance, inside, config.get("limits.memory", ""))
    size = devices.get("root", {}).get("size", "")
    resized = size and size != instance.devices.get("root", {}).get("size")
    held = world.enforcement(name) or Enforcement()
    if resized and inside is not None and (_bytes("size", size) <= inside.disk or 0 < (held.disk or 0) < inside.disk):
        raise TerminalError(f"{name} uses more disk than {size}", remedy="give it more", reason="QuotaExceeded")
    merged = {**instance.config, **config}
    world.change_instance(
        name,
        config={key: value for key, value in merged.items() if value != ""},
        devices={**instance.devices, **devices},
    )
    if inside is not None:
        _check_space(world.instances[name], inside)
        if 0 < (held.disk or 0) < inside.disk:  # more than full: set past Incus
            raise TerminalError(f"{name} is over its disk limit", remedy="grow it", reason="QuotaExceeded")


def refuse_shrinking(world: World, name: str, devices: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse to make a disk smaller: Incus tries, and leaves it half done."""
    present = the_instance(world, name).devices
    for device, wanted in devices.items():
        before, after = present.get(device, {}).get("size", ""), wanted.get("size", "")
        if 0 < _bytes("size", after) < _bytes("size", before):
            raise TerminalError(
                f"the disk {device} of {name} cannot shrink from {before} to {after}",
                remedy="set resources.disk to at least its present size",
                reason="ShrinkRefused",
            )


def _check_memory(instance: Instance, inside: Inside | None, wanted: str) -> None:
    memory = _bytes("limits.memory", wanted)
    if instance.status is not InstanceStatus.STOPPED and inside is not None and 0 < memory < inside.memory:
        raise WaitingError(
            f"{instance.name} uses more memory than {wanted}",
            retry_after=60.0,
            remedy="end processes in it, or restart it",
            reason="MemoryInUse",
        )


def delete(world: World, name: str) -> None:
    """Delete with all data; nothing when there is none."""
    instance = world.instance(name)
    if instance is None:
        return
    check_protection(instance)
    if instance.status is not InstanceStatus.STOPPED:
        raise TerminalError(f"{name} is running", remedy="stop it first", reason="Running")
    world.drop_instance(name)


def back_up(world: World, name: str) -> None:
    """Export a stopped instance; where it was done since it was retired and last started, that one is kept."""
    instance = the_instance(world, name)
    if instance.status is not InstanceStatus.STOPPED:
        raise RetryableError(f"{name} is running", remedy="stop it first", reason="Running")
    before = world.backups.get(name, ())
    if instance.config.get(marks.RETIRED) and before and _same_data(before[-1], instance):
        return
    world.backups[name] = (*before, instance)


def _same_data(backup: Instance, instance: Instance) -> bool:
    return (
        backup.config.get(marks.RETIRED) == instance.config.get(marks.RETIRED)
        and backup.last_used_at == instance.last_used_at
        and backup.created_at == instance.created_at
    )


def adopt(
    world: World, name: str, environment: str, config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]]
) -> None:
    """Mark an instance that nobody has marked, and change it, in one; one that is marked for it is left alone."""
    owner = the_instance(world, name).config.get(marks.ENVIRONMENT)
    if owner is None:
        refuse_shrinking(world, name, devices)
        patch(world, name, config, devices)
    elif owner != environment:
        raise TerminalError(f"{name} belongs to the environment {owner}", reason="Conflict")


def check_protection(instance: Instance) -> None:
    """Refuse to delete what is protected on the object itself."""
    if instance.config.get(PROTECTION, "").lower() in {"true", "1", "yes", "on"}:
        raise TerminalError(
            f"{instance.name} is protected against deletion",
            remedy=f"take the protection away (incus config unset {instance.name} {PROTECTION})",
            reason="Protected",
        )


def check_reason(instance: Instance, reason: str) -> None:
    """Refuse to delete what has changed since that was decided."""
    if reason == marks.OUT_OF_DATE and not any(mark in instance.config for mark in PASSING_MARKS):
        raise RetryableError(f"{instance.name} is no old copy any more", remedy="look again", reason="Changed")


def _mac(name: str) -> str:
    digest = zlib.crc32(name.encode()).to_bytes(4)
    return f"00:16:3e:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def _check_addresses(world: World, name: str, addresses: Iterable[str]) -> None:
    """Another instance holds its static address whether it runs or not."""
    for address in addresses:
        others = world.holders(address) - {name}
        if others:
            raise TerminalError(
                f"{address} of {name} is also that of {min(others)}",
                remedy="give one of them another address",
                reason="AddressInUse",
            )


def _check_space(instance: Instance, inside: Inside) -> None:
    size = _bytes("size", instance.devices.get("root", {}).get("size", ""))
    if 0 < size <= inside.disk:
        raise TerminalError(f"{instance.name} has filled its disk", remedy="grow it", reason="QuotaExceeded")


def _check_cpus(cpus: str) -> None:
    """A count, or a set of CPUs; Incus does not ask whether the host has them."""
    if cpus and not _CPUS.fullmatch(cpus):
        raise _unreadable("limits.cpu", cpus)


def _bytes(key: str, value: str) -> int:
    """A size in bytes, 0 where none is set or it is a percentage."""
    if not value or value.endswith("%"):
        return 0
    try:
        return parse_bytes(value)
    except ValueError:
        raise _unreadable(key, value) from None


def _unreadable(key: str, value: str) -> TerminalError:
    return TerminalError(f"{key} cannot be {value!r}", remedy="correct the manifest", reason="InvalidConfiguration")


def _check_devices(devices: Mapping[str, Mapping[str, str]]) -> None:
    for name, device in devices.items():
        if "type" not in device:
            raise TerminalError(f"device {name} has no type", reason="InvalidConfiguration")
