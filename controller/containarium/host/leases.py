"""Addresses that the bridge's DHCP server has given out or keeps for somebody, read from its own files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Interface
from pathlib import Path

from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.observed import Instance

_LARGEST = 4 * 1024 * 1024
_USUAL, _NOTHING = "eth0", dict[str, str]()


def read(
    incus: Incus, settings: HostSettings, subnet: IPv4Interface, instances: Mapping[str, Instance]
) -> dict[str, str]:
    """Every address with its holder's host name (empty where unknown): the bridge's own, leases, and reservations,
    those of instances in other projects included. Where the files cannot be seen, Incus is asked.
    """
    found = {str(subnet.ip): f"{settings.bridge}.gw"}
    folder = settings.incus_dir / "networks" / settings.bridge
    try:
        with (folder / "dnsmasq.leases").open(errors="replace") as file:
            found.update(parse_leases(file.read(_LARGEST), _by_hardware(instances)))
    except OSError:
        found.update(_asked(incus, settings.bridge, _by_hardware(instances)))
    else:
        found.update(_reservations(folder / "dnsmasq.hosts", instances))
    for instance in instances.values():
        found.update(dict.fromkeys(instance.addresses, instance.name))
    return found


def parse_leases(text: str, known: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Address and host name of every IPv4 lease in dnsmasq's leases file.

    Many guests tell no name, and any may tell a wrong one: whose hardware address is ``known`` has the name of there.
    """
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 4 and is_ipv4(fields[2]):
            yield fields[2], (known or {}).get(fields[1].lower(), "" if fields[3] == "*" else fields[3])


def _by_hardware(instances: Mapping[str, Instance]) -> dict[str, str]:
    """Names of instances by the hardware addresses that Incus gave them, or an admin."""
    found = {}
    for instance in instances.values():
        # Of a profile's devices only the usual one is known here: looking at all of each configuration takes too long.
        for name, device in {_USUAL: _NOTHING, **instance.devices}.items():
            if hwaddr := device.get("hwaddr") or instance.config.get(f"volatile.{name}.hwaddr"):
                found[hwaddr.lower()] = instance.name
    return found


def parse_reservation(text: str) -> Iterator[tuple[str, str]]:
    """Address and host name of a dnsmasq hosts line (``mac,address,name``); many have no address."""
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        for field in fields[1:-1]:
            if is_ipv4(field):
                yield field, fields[-1]


def is_ipv4(text: str) -> bool:
    """Whether the text is an IPv4 address."""
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _reservations(folder: Path, instances: Mapping[str, Instance]) -> Iterator[tuple[str, str]]:
    """Reservations of instances that are not in the list; the others' stand in their devices."""
    try:
        files = [file for file in folder.iterdir() if file.name.rsplit(".", 1)[0] not in instances]
    except OSError:
        return
    for file in files:
        try:
            with file.open(errors="replace") as opened:
                yield from parse_reservation(opened.read(4096))
        except OSError:  # it went away meanwhile
            continue


def _asked(incus: Incus, bridge: str, known: Mapping[str, str]) -> Mapping[str, str]:
    """As Incus tells it; on a bridge that it does not manage nothing is known."""
    try:
        listed = incus.get("networks", bridge, "leases")
    except TerminalError:
        return {}
    return {
        entry["address"]: known.get(str(entry.get("hwaddr", "")).lower(), entry.get("hostname", ""))
        for entry in listed
        if is_ipv4(entry.get("address", ""))
    }
