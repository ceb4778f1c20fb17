"""Who else is in the fleet, as the Host manifests say: a plain value that everything on this host is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from containarium.model.hostmanifest import HostManifest
from containarium.model.manifest import DeclaredHost


@dataclass(frozen=True, slots=True)
class Fleet:
    """This host's own address in the fleet's network, and the others, sorted by name."""

    own: IPv4Address
    others: tuple[HostManifest, ...]

    @property
    def addresses(self) -> tuple[IPv4Address, ...]:
        """Where the others are."""
        return tuple(sorted(host.spec.network.address for host in self.others if host.spec.network.address is not None))

    @property
    def subnets(self) -> tuple[IPv4Network, ...]:
        """Where the others' guests are."""
        return tuple(sorted(host.network for host in self.others))


def fleet_of(hosts: Sequence[DeclaredHost], name: str) -> Fleet | None:
    """The fleet that the host ``name`` is in; None where its manifest gives it no address in one."""
    own = next((host.manifest for host in hosts if host.name == name), None)
    if own is None or own.spec.network.address is None:
        return None
    others = sorted((host.manifest for host in hosts if host.name != name), key=lambda host: host.name)
    return Fleet(own.spec.network.address, tuple(others))
