"""One look at the host. The number of requests is constant, whatever the number of instances.

Incus answers for a network, its leases and a pool by loading every instance again, which costs as much as the list of
instances itself. So the bridge's address comes from its state, and the leases from the DHCP server's own files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface
from typing import Protocol

from containarium.host import holds, leases, probekey
from containarium.host.incus import Incus
from containarium.host.instances import Instances
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, Inside, Progress, TerminalError
from containarium.model.observed import Account, Enforcement, Guest, HostFacts, Instance, Look, Observed


class Accounts(Protocol):
    """The jump accounts of the host, as this package needs them."""

    def observe(self) -> tuple[Mapping[str, Account], frozenset[str]]: ...

    def ensure(self, name: str, progress: Progress) -> None: ...

    def write_keys(self, name: str, lines: tuple[str, ...]) -> None: ...

    def lock(self, name: str) -> None: ...

    def delete(self, name: str) -> None: ...


Only = frozenset[str] | None
"""Names of environments; None: all."""
LookInside = Callable[[Mapping[str, Instance], Only], Mapping[str, Guest]]
"""Reads the inside of those instances that are ours and run, of these environments."""

LookAtLimits = Callable[[Mapping[str, Instance], Only], Mapping[str, Enforcement]]
"""Reads what the kernel holds those to."""


def observe(
    settings: HostSettings,
    name: str,
    incus: Incus,
    instances: Instances,
    accounts: Accounts,
    look_inside: LookInside,
    look_at_limits: LookAtLimits,
    look: Look,
    inside: Inside,
) -> Observed:
    """Two requests: the instances, and the bridge's state. While Incus lists the instances, ``inside`` is asked and
    the accounts are read; with DEEP, the guests and what holds them afterwards.

    Raises HostError when any part of it is missing: half a look is none.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="observe") as pool:
        listing = pool.submit(instances.all)
        only = inside()
        subnet = _subnet(incus, settings.bridge)
        driver = _pool_driver(incus, settings.pool)
        known, orphans = accounts.observe()
        found = listing.result()
    facts = HostFacts(
        name=name,
        bridge=settings.bridge,
        subnet=subnet,
        pool=settings.pool,
        pool_driver=driver,
        cpus=len(os.sched_getaffinity(0)),
        probe_key=probekey.public_half(settings),
        leases=leases.read(incus, settings, subnet, found),
    )
    deep = look is Look.DEEP and only != frozenset()
    return Observed(
        host=facts,
        instances=found,
        accounts=known,
        guests=look_inside(found, only) if deep else {},
        enforced=look_at_limits(found, only) if deep else {},
        orphan_keys=orphans,
        held=holds.held(settings.runtime),
    )


def _subnet(incus: Incus, bridge: str) -> IPv4Interface:
    try:
        state = incus.get("networks", bridge, "state")
    except HostError as error:
        raise _not_prepared(f"there is no bridge {bridge}", error) from error
    for address in state.get("addresses") or ():
        if address.get("family") == "inet" and address.get("scope") == "global":
            return IPv4Interface(f"{address['address']}/{address['netmask']}")
    raise TerminalError(
        f"the bridge {bridge} has no IPv4 address", remedy="run containarium host prepare", reason="HostNotPrepared"
    )


def _pool_driver(incus: Incus, pool: str) -> str:
    """Incus said at the connection which drivers are in use; only when that leaves a choice the pool is asked for."""
    in_use = str(incus.server().get("environment", {}).get("storage", "")).split(" | ")
    if len(in_use) == 1 and in_use[0]:
        return in_use[0]
    try:
        return str(incus.get("storage-pools", pool)["driver"])
    except HostError as error:
        raise _not_prepared(f"there is no storage pool {pool}", error) from error


def _not_prepared(message: str, error: HostError) -> HostError:
    if error.reason not in ("NotFound", "HostNotPrepared"):
        return error
    return TerminalError(message, remedy="run containarium host prepare", reason="HostNotPrepared")
