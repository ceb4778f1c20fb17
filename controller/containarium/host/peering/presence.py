"""How this host's own environments are on it, from the marks that they carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from containarium.model import marks
from containarium.model.fleet import Box, Presence
from containarium.model.observed import Instance
from containarium.plan.desired import NIC_DEVICE

WHOLE = ";whole"
"""Follows the source's name in the mark of an arrival once nothing of it is missing."""


def arriving_from(config: Mapping[str, str]) -> tuple[str, bool]:
    """The host that an instance is fetched from, and whether it is whole; empty where it is no arrival."""
    source, _, rest = config.get(marks.ARRIVING, "").partition(";")
    return source, bool(source) and f";{rest}" == WHOLE


def boxes(instances: Iterable[Instance], subnet: IPv4Network | None) -> Iterator[Box]:
    """What is ours, sorted by name. An address outside of ``subnet`` (None: any) is none: nobody would believe it."""
    for instance in sorted(instances, key=lambda instance: instance.name):
        name = instance.config.get(marks.ENVIRONMENT)
        if name is None or instance.name != marks.instance_name(name):
            continue
        presence, other = _presence(instance.config)
        yield Box(name, presence, _address(instance, subnet), other)


def _presence(config: Mapping[str, str]) -> tuple[Presence, str]:
    if marks.ARRIVING in config:
        return Presence.ARRIVING, arriving_from(config)[0]
    if marks.MOVED in config:
        return Presence.MOVED, config[marks.MOVED]
    if marks.LEAVING in config:
        return Presence.LEAVING, config[marks.LEAVING]
    return (Presence.RETIRED if marks.RETIRED in config else Presence.HERE), ""


def _address(instance: Instance, subnet: IPv4Network | None) -> str:
    text = instance.devices.get(NIC_DEVICE, {}).get("ipv4.address", "")
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return ""
    return str(address) if subnet is None or address in subnet else ""
