"""Hands out addresses: the manifest's word first, then what an environment already has, then a free one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from containarium.model import marks
from containarium.model.manifest import Manifest
from containarium.model.observed import InstanceStatus, Observed
from containarium.model.problem import Problem
from containarium.plan import addresses
from containarium.plan.desired import NIC_DEVICE, DesiredEnvironment, desire

_NEW = 2
"""The weakest claim to an address: its manifest asks for one that it does not have."""


def refuse(manifest: Manifest, field: str, message: str, remedy: str, reason: str) -> Problem:
    """A problem of a field of this manifest."""
    return Problem(manifest.origin.locate(field), field, message, remedy, reason, manifest.name)


def _claim(manifest: Manifest, present: str | None) -> int:
    """How strong its claim to an address is; 0 is the strongest."""
    declared = manifest.environment.spec.network.ipv4
    return 1 if declared is None else 0 if str(declared) == present else _NEW


class AddressBook:
    """The addresses of one pass. ``held``: who keeps the present one until an admin allows a restart."""

    def __init__(
        self,
        wanted: Sequence[Manifest],
        observed: Observed,
        may_restart: Callable[[str], bool],
        claims: Mapping[str, str],
    ) -> None:
        self._observed = observed
        self._host = observed.host
        self._may_restart = may_restart
        self._claims = claims
        self.held: list[str] = []
        names = {manifest.name for manifest in wanted}
        self._taken = addresses.taken(observed, names)
        for name, claimed in claims.items():
            if name not in names:
                self._taken.setdefault(claimed, marks.instance_name(name))
        present = {m.name: address for m in wanted if (address := self._present(m.name))}
        self._pinned: dict[str, str] = {}
        # Whoever has the address that its manifest asks for comes first, then who keeps one, then who asks for a new
        # one: an address that is about to be given up is still in use while this pass acts.
        ranked = sorted(wanted, key=lambda m: _claim(m, present.get(m.name)))
        for manifest in ranked:
            if _claim(manifest, present.get(manifest.name)) < _NEW:
                self._pin(manifest)
        for name, address in present.items():
            self._taken.setdefault(address, marks.instance_name(name))
        for manifest in ranked:
            if manifest.name not in self._pinned:
                self._pin(manifest)
        self._used = set(self._taken)
        self._free: Iterator[str] = addresses.free(self._host.subnet, self._used)

    def settle(self, manifest: Manifest) -> str | Problem:
        """The address that an environment gets, or why there is none."""
        declared = manifest.environment.spec.network.ipv4
        if declared is None:
            address = self._pinned.get(manifest.name) or next(self._free, None)
            if address is None:
                return refuse(
                    manifest,
                    "spec.network.ipv4",
                    f"the bridge's subnet {self._host.subnet.network} has no free address left",
                    "retire environments or give the bridge a larger subnet",
                    "SubnetFull",
                )
            self._used.add(address)
            return address
        problem = self._unusable(manifest, str(declared))
        if problem is not None:
            return problem
        address = str(declared)
        self._used.add(address)
        present = addresses.pinned(self._observed, manifest.name)
        if present is None or present == address or not self._must_wait(desire(manifest, self._host, address)):
            return address
        self.held.append(manifest.name)
        return present

    def _present(self, name: str) -> str | None:
        """What it has, or was promised by work that is under way and cannot be seen yet."""
        instance = self._observed.instances.get(marks.instance_name(name))
        if instance is not None and marks.ENVIRONMENT not in instance.config:  # about to be adopted
            return instance.devices.get(NIC_DEVICE, {}).get("ipv4.address")
        return addresses.pinned(self._observed, name) or self._claims.get(name)

    def _pin(self, manifest: Manifest) -> None:
        address = self._kept(manifest)
        if address is not None:
            self._pinned[manifest.name] = address
            self._taken.setdefault(address, marks.instance_name(manifest.name))

    def _kept(self, manifest: Manifest) -> str | None:
        declared = manifest.environment.spec.network.ipv4
        if declared is not None:
            return str(declared)
        address = self._before_drift(manifest) or self._present(manifest.name)
        if address is None or not addresses.usable(self._host.subnet, address):
            return None
        if address not in self._taken:
            return address
        # Somebody was given the same address. A running guest keeps what it has: Incus refuses the other one's start.
        instance = self._observed.instances.get(marks.instance_name(manifest.name))
        return address if instance is not None and instance.status is InstanceStatus.RUNNING else None

    def _before_drift(self, manifest: Manifest) -> str | None:
        """Where somebody changed the NIC behind our back: the address with which all was as declared."""
        instance = self._observed.instances.get(marks.instance_name(manifest.name))
        promised = addresses.promised(self._observed, manifest.name)
        if instance is None or promised is None or promised in self._taken:
            return None
        if promised == instance.devices.get(NIC_DEVICE, {}).get("ipv4.address"):
            return None
        reached = instance.config.get(marks.APPLIED) == desire(manifest, self._host, promised).digest
        return promised if reached else None

    def _unusable(self, manifest: Manifest, address: str) -> Problem | None:
        subnet = self._host.subnet
        if not addresses.usable(subnet, address):
            return refuse(
                manifest,
                "spec.network.ipv4",
                f"{address} is not an address that a guest can have in {subnet.network}",
                f"write one between {subnet.network[1]} and {subnet.network[-2]} other than {subnet.ip}",
                "AddressInvalid",
            )
        holder = self._taken.get(address)
        if holder is not None and holder != marks.instance_name(manifest.name):
            return refuse(
                manifest,
                "spec.network.ipv4",
                f"{address} is in use by {holder}",
                "write another address, or leave the field out to have one chosen",
                "AddressInUse",
            )
        return None

    def _must_wait(self, desired: DesiredEnvironment) -> bool:
        instance = self._observed.instances.get(desired.instance)
        if instance is None or instance.status is not InstanceStatus.RUNNING or self._may_restart(desired.name):
            return False
        drifted = instance.config.get(marks.APPLIED) == desired.digest
        return not drifted and instance.devices.get(NIC_DEVICE, {}).get("ipv4.address") is not None
