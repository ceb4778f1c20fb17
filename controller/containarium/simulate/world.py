"""The simulated machine: everything that a real host remembers, and nothing else.

What is stored is already frozen, in the form in which a look shows it, so that a look at ten thousand instances costs
no more than copying the references of those tables that have changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface
from types import MappingProxyType
from typing import Any

from containarium.model import marks
from containarium.model.fleet import Peer
from containarium.model.observed import (
    Account,
    Enforcement,
    Guest,
    HostFacts,
    Instance,
    InstanceStatus,
    Look,
    Observed,
)
from containarium.model.recipe import Recipe
from containarium.simulate.clock import SimClock
from containarium.simulate.inside import CATALOGUE, IMAGES, Image, Inside
from containarium.simulate.kernel import hand_out

FIRST_UID = 2000
PROBE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpjqRwCAW+XgOlh8pdAJ62kwIrRY6XOPfZqhtif09nG"
"""Public half of the SSH probe's key, as ``host prepare`` would have made it."""
_EMPTY: Mapping[str, Guest] = MappingProxyType({})
_NOTHING: Mapping[str, Enforcement] = MappingProxyType({})


class World:
    """Instances with their insides, accounts, key files, leases and images, under one lock and with one clock.

    The methods here are the raw store. What Incus would do or refuse stands in ``incus``, what a shell in a guest
    would do in ``guests``, what the account tools would do in ``accounts``; ``Somebody`` does things behind the
    controller's back.
    """

    def __init__(
        self,
        *,
        name: str = "sim",
        bridge: str = "incusbr0",
        subnet: str = "10.0.3.1/24",
        pool: str = "default",
        pool_driver: str = "zfs",
        cpus: int = 8,
        clock: SimClock | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock or SimClock()
        self.images: dict[str, Image] = dict(IMAGES)
        self.recipes: dict[Recipe, Image] = {}
        """What was baked."""
        self.catalogue: set[str] = set(CATALOGUE)
        self.backups: dict[str, tuple[Instance, ...]] = {}
        """The backups that were made, oldest first, by instance: what it was then."""
        self.doubts: tuple[str, ...] = ()
        self.peers: dict[str, Peer] = {}
        """What speaks against anything going away; a test says so."""
        self.facts = HostFacts(name, bridge, IPv4Interface(subnet), pool, pool_driver, cpus, PROBE_KEY)
        self._instances: dict[str, Instance] = {}
        self._insides: dict[str, Inside] = {}
        self._looked_into: dict[str, Guest] = {}
        self._enforced: dict[str, Enforcement] = {}
        self._profile_addresses: dict[str, tuple[str, ...]] = {}
        self._static: dict[str, set[str]] = {}
        self._dynamic: dict[str, str] = {}
        self._accounts: dict[str, Account] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        self._uid = FIRST_UID
        self._views: dict[str, Any] = {}

    def snapshot(self, look: Look = Look.DEEP) -> Observed:
        """Everything that a look shows. What is returned never changes."""
        with self.lock:
            return Observed(
                host=self._view("host", self._host_view),
                instances=self._view("instances", lambda: MappingProxyType(dict(self._instances))),
                accounts=self._view("accounts", lambda: MappingProxyType(dict(self._accounts))),
                guests=self._view("guests", self._guests_view) if look is Look.DEEP else _EMPTY,
                enforced=self._view("enforced", self._enforced_view) if look is Look.DEEP else _NOTHING,
                orphan_keys=self._view("orphans", lambda: frozenset(self._keys.keys() - self._accounts.keys())),
            )

    def copy(self) -> World:
        """Another world in the same state, with a clock of its own."""
        with self.lock:
            facts = self.facts
            twin = World(clock=self.clock.copy())
            twin.facts, twin._uid = facts, self._uid
            twin.images, twin.catalogue = dict(self.images), set(self.catalogue)
            twin.recipes = dict(self.recipes)
            twin.doubts, twin.backups, twin.peers = self.doubts, dict(self.backups), dict(self.peers)
            twin._instances, twin._insides = dict(self._instances), dict(self._insides)
            twin._looked_into, twin._profile_addresses = dict(self._looked_into), dict(self._profile_addresses)
            twin._enforced = dict(self._enforced)
            twin._static = {address: set(names) for address, names in self._static.items()}
            twin._dynamic = dict(self._dynamic)
            twin._accounts, twin._keys = dict(self._accounts), dict(self._keys)
            return twin

    # Instances

    @property
    def instances(self) -> Mapping[str, Instance]:
        """Every instance, as it stands now."""
        return MappingProxyType(self._instances)

    def instance(self, name: str) -> Instance | None:
        """The instance of that name."""
        return self._instances.get(name)

    def inside(self, name: str) -> Inside | None:
        """The root file system of an instance, None where it was never unpacked."""
        return self._insides.get(name)

    def put_instance(
        self, instance: Instance, inside: Inside | None = None, *, profile_addresses: Iterable[str] | None = None
    ) -> None:
        """Write an instance as a whole, ours or foreign; ``inside`` None keeps the root file system it has."""
        with self.lock:
            name = instance.name
            if profile_addresses is not None:
                self._profile_addresses[name] = tuple(profile_addresses)
            devices = {key: MappingProxyType(dict(value)) for key, value in instance.devices.items()}
            addresses = (*_static_addresses(devices), *self._profile_addresses.get(name, ()))
            old = self._instances.get(name)
            if old is None or old.addresses != addresses:
                self._register(name, old.addresses if old else (), addresses)
            self._instances[name] = replace(
                instance,
                config=MappingProxyType(dict(instance.config)),
                devices=MappingProxyType(devices),
                addresses=addresses,
            )
            if inside is not None:
                self._insides[name] = inside
            self._changed("instances")
            self._hold(name, hand_out(self._enforced.get(name), old, self._instances[name], self.facts))
            self._look_into(name)

    def change_instance(self, name: str, **fields: Any) -> None:
        """Replace fields of an instance (those of ``model.observed.Instance``)."""
        with self.lock:
            self.put_instance(replace(self._instances[name], **fields))

    def change_config(self, name: str, config: Mapping[str, str]) -> None:
        """Merge config keys; "" removes one."""
        with self.lock:
            merged = {**self._instances[name].config, **config}
            self.change_instance(name, config={key: value for key, value in merged.items() if value != ""})

    def change_inside(self, name: str, **fields: Any) -> None:
        """Replace fields of a root file system (those of ``Inside``)."""
        with self.lock:
            self._insides[name] = replace(self._insides[name], **fields)
            self._look_into(name)

    def change_guest(self, name: str, **fields: Any) -> None:
        """Replace fields of the managed part of a guest (those of ``model.observed.Guest``)."""
        with self.lock:
            self.change_inside(name, guest=replace(self._insides[name].guest, **fields))

    def drop_instance(self, name: str) -> None:
        """Forget an instance with everything in it."""
        with self.lock:
            old = self._instances.pop(name, None)
            if old is None:
                return
            self._register(name, old.addresses, ())
            self._profile_addresses.pop(name, None)
            self._insides.pop(name, None)
            self._dynamic = {address: holder for address, holder in self._dynamic.items() if holder != name}
            self._changed("instances", "host")
            self._hold(name, None)
            self._look_into(name)

    def enforcement(self, name: str) -> Enforcement | None:
        """What the kernel holds a running (or frozen) instance to."""
        return self._enforced.get(name)

    def change_enforcement(self, name: str, **fields: Any) -> None:
        """Replace what the kernel holds an instance to (fields of ``model.observed.Enforcement``)."""
        with self.lock:
            self._hold(name, replace(self._enforced[name], **fields))

    def holders(self, address: str) -> frozenset[str]:
        """Names of the instances that have this static address."""
        return frozenset(self._static.get(address, ()))

    def lease(self, name: str) -> str:
        """The address of an instance: its static one, its dynamic one, or a free one from the bridge's DHCP server."""
        with self.lock:
            for address in self._instances[name].addresses:
                return address
            for address, holder in self._dynamic.items():
                if holder == name:
                    return address
            subnet = self.facts.subnet
            free = (str(a) for a in subnet.network.hosts() if a != subnet.ip and str(a) not in self._static)
            address = next(a for a in free if a not in self._dynamic)
            self._dynamic[address] = name
            self._changed("host")
            return address

    # Accounts and key files

    @property
    def accounts(self) -> Mapping[str, Account]:
        """Every account, as it stands now."""
        return MappingProxyType(self._accounts)

    def account(self, name: str) -> Account | None:
        """The account of that name."""
        return self._accounts.get(name)

    def put_account(self, account: Account) -> None:
        """Write an account as a whole, ours or foreign; its keys are those of its file."""
        with self.lock:
            self._accounts[account.name] = replace(account, keys=self._keys.get(account.name))
            self._changed("accounts", "orphans")

    def change_account(self, name: str, **fields: Any) -> None:
        """Replace fields of an account (those of ``model.observed.Account``)."""
        with self.lock:
            self.put_account(replace(self._accounts[name], **fields))

    def drop_account(self, name: str) -> None:
        """Forget an account; its keys file stays."""
        with self.lock:
            self._accounts.pop(name, None)
            self._changed("accounts", "orphans")

    def next_uid(self) -> int:
        """A uid that was never handed out before."""
        with self.lock:
            self._uid += 1
            return self._uid

    def key_file(self, name: str) -> tuple[str, ...] | None:
        """The lines of a keys file in the root-owned folder."""
        return self._keys.get(name)

    def put_keys(self, name: str, lines: Iterable[str] | None) -> None:
        """Write a keys file whole; None removes it."""
        with self.lock:
            if lines is None:
                self._keys.pop(name, None)
            else:
                self._keys[name] = tuple(lines)
            if name in self._accounts:
                self.put_account(self._accounts[name])
            self._changed("orphans")

    # Views

    def _view(self, key: str, build: Callable[[], Any]) -> Any:
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = build()
        return view

    def _changed(self, *keys: str) -> None:
        for key in keys:
            self._views.pop(key, None)

    def _guests_view(self) -> Mapping[str, Guest]:
        return MappingProxyType(dict(self._looked_into))

    def _enforced_view(self) -> Mapping[str, Enforcement]:
        ours = {
            name: held
            for name, held in self._enforced.items()
            if self._instances[name].status is InstanceStatus.RUNNING
            and marks.ENVIRONMENT in self._instances[name].config
        }
        return MappingProxyType(ours)

    def _host_view(self) -> HostFacts:
        leases = self._dynamic | {address: min(names) for address, names in self._static.items()}
        leases[str(self.facts.subnet.ip)] = f"{self.facts.bridge}.gw"
        return replace(self.facts, leases=MappingProxyType(leases))

    def _hold(self, name: str, held: Enforcement | None) -> None:
        if held is None:
            self._enforced.pop(name, None)
        else:
            self._enforced[name] = held
        self._changed("enforced")

    def _look_into(self, name: str) -> None:
        """Keep the table of guests that a deep look shows: running ones of ours that answer."""
        instance, inside = self._instances.get(name), self._insides.get(name)
        if (
            instance is not None
            and inside is not None
            and instance.status is InstanceStatus.RUNNING
            and marks.ENVIRONMENT in instance.config
            and not inside.silent
        ):
            self._looked_into[name] = inside.guest
        else:
            self._looked_into.pop(name, None)
        self._changed("guests")

    def _register(self, name: str, before: Iterable[str], after: Iterable[str]) -> None:
        for address in before:
            self._static[address].discard(name)
            if not self._static[address]:
                del self._static[address]
        for address in after:
            self._static.setdefault(address, set()).add(name)
        self._changed("host")


def _static_addresses(devices: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    found = (d["ipv4.address"] for d in devices.values() if d.get("type") == "nic" and d.get("ipv4.address"))
    return tuple(address for address in found if address != "none")
