"""Addresses from the bridge's subnet: every environment gets one of its own and keeps it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface

from containarium.model import marks
from containarium.model.observed import Observed
from containarium.plan.desired import NIC_DEVICE

_PERMITOPEN = re.compile(r'permitopen="(\d{1,3}(?:\.\d{1,3}){3}):22"')


def pinned(observed: Observed, environment: str) -> str | None:
    """The address that an environment has: from its NIC, or, where the instance is lost, from its account's keys."""
    instance = observed.instances.get(marks.instance_name(environment))
    if instance is not None:
        address = instance.devices.get(NIC_DEVICE, {}).get("ipv4.address")
        if address and instance.config.get(marks.ENVIRONMENT) == environment:
            return address
    return promised(observed, environment)


def promised(observed: Observed, environment: str) -> str | None:
    """The address that the jump account's keys lead to."""
    account = observed.accounts.get(environment)
    if account is not None and account.keys and account.group == marks.JUMP_GROUP:
        match = _PERMITOPEN.search(account.keys[0])
        if match:
            return match.group(1)
    return None


def taken(observed: Observed, environments: Iterable[str]) -> dict[str, str]:
    """Every address in use by somebody who is not one of ``environments``, with the name of who has it."""
    names = set(environments)
    ours = {marks.instance_name(name) for name in names}
    used = {address: holder or "a DHCP lease" for address, holder in observed.host.leases.items() if holder not in ours}
    for instance in observed.instances.values():
        if instance.name not in ours:
            used.update(dict.fromkeys(instance.addresses, instance.name))
    for account in observed.accounts.values():  # whose instance is lost or elsewhere: its keys still open the address
        if account.name not in names and account.group == marks.JUMP_GROUP:
            for match in filter(None, map(_PERMITOPEN.search, account.keys or ())):
                used.setdefault(match.group(1), f"the jump account {account.name}")
    used[str(observed.host.subnet.ip)] = observed.host.bridge
    return used


def usable(subnet: IPv4Interface, address: str) -> bool:
    """Whether a guest can have the address: inside the subnet, and neither its network nor broadcast address."""
    try:
        candidate = IPv4Address(address)
    except ValueError:
        return False
    network = subnet.network
    return candidate in network and candidate not in (network.network_address, network.broadcast_address, subnet.ip)


def inside(subnet: IPv4Interface, address: str) -> bool:
    """Whether an address is in the subnet at all."""
    try:
        return IPv4Address(address) in subnet.network
    except ValueError:
        return False


def free(subnet: IPv4Interface, used: set[str]) -> Iterator[str]:
    """The free addresses in ascending order, starting after the bridge's own. Reads ``used`` as it goes."""
    network = subnet.network
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    start = min(int(subnet.ip) + 1, last)
    for number in (*range(start, last + 1), *range(first, start)):
        address = str(IPv4Address(number))
        if address not in used:
            yield address
