"""Manifests become desired environments, or problems: ownership, addresses, and what cannot be undone.

A manifest with a problem keeps its environment exactly as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from containarium.model import marks
from containarium.model.environment import Environment
from containarium.model.manifest import Manifest
from containarium.model.observed import Account, HostFacts, Instance, InstanceStatus, Observed
from containarium.model.problem import Problem
from containarium.model.quantity import parse_bytes
from containarium.plan import addresses
from containarium.plan.adopt import obstacles_to_adoption
from containarium.plan.desired import NIC_DEVICE, ROOT_DEVICE, DesiredEnvironment, desire

_NEW = 2
"""The weakest claim to an address: its manifest asks for one that it does not have."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Every manifest sorted into what is to be done about it."""

    settled: tuple[tuple[Manifest, str], ...]
    """Those that stand, each with its address. What is desired of one is worked out when its turn comes: of ten
    thousand at once it would be a large part of the controller's memory.
    """
    problems: tuple[Problem, ...]
    suspended: tuple[str, ...]
    elsewhere: tuple[str, ...]
    expired: tuple[Manifest, ...]
    held_address: tuple[str, ...]
    """Environments that keep their present address until an admin allows the restart that a new one needs."""


def resolve(
    manifests: Sequence[Manifest],
    observed: Observed,
    today: date,
    *,
    may_restart: Callable[[str], bool],
    claims: Mapping[str, str],
) -> Resolution:
    """Sort the manifests, refuse what must be refused, and give every other environment its address.

    ``may_restart`` says for which names an admin allows changes that need one (a new address for a running guest),
    ``claims`` which addresses were promised to work that is under way.
    """
    left_alone = suspended_here(observed)
    wanted: list[Manifest] = []
    problems: list[Problem] = []
    suspended: list[str] = []
    elsewhere: list[str] = []
    expired: list[Manifest] = []
    for manifest in sorted(manifests, key=lambda m: m.name):
        environment = manifest.environment
        if environment.metadata.suspended or manifest.name in left_alone:
            suspended.append(manifest.name)
        elif _placed_elsewhere(environment, observed.host):
            elsewhere.append(manifest.name)
        elif environment.spec.expires is not None and environment.spec.expires < today:
            expired.append(manifest)
        elif problem := conflict(manifest, observed) or _shrinking(manifest, observed):
            problems.append(problem)
        else:
            wanted.append(manifest)
    book = _AddressBook(wanted, observed, may_restart, claims)
    settled: list[tuple[Manifest, str]] = []
    for manifest in wanted:
        result = book.settle(manifest)
        if isinstance(result, str):
            result = _not_adoptable(manifest, result, observed) or result
        if isinstance(result, Problem):
            problems.append(result)
        else:
            settled.append((manifest, result))
    return Resolution(
        settled=tuple(settled),
        problems=tuple(sorted(problems)),
        suspended=tuple(suspended),
        elsewhere=tuple(elsewhere),
        expired=tuple(expired),
        held_address=tuple(book.held),
    )


def owned_account(account: Account) -> bool:
    """Whether a jump account is ours."""
    return marks.owns_account(account.name, account.group, account.comment, account.home)


def suspended_here(observed: Observed) -> frozenset[str]:
    """The environments that an admin wants left alone, as it stands on their instances, or works on at this moment."""
    return observed.held | frozenset(
        environment
        for instance in observed.instances.values()
        if marks.SUSPENDED in instance.config and (environment := instance.config.get(marks.ENVIRONMENT))
    )


def conflict(manifest: Manifest, observed: Observed) -> Problem | None:
    """A foreign instance or account that has the name which this environment needs."""
    name = manifest.name
    instance = observed.instances.get(marks.instance_name(name))
    if instance is not None and instance.config.get(marks.ENVIRONMENT) != name and not _adopts(manifest, instance):
        return _refuse(
            manifest,
            "metadata.name",
            f"an Incus instance {instance.name!r} exists and is not ours",
            f"choose another name, rename that instance (incus rename {instance.name} NEW), or take it over with the "
            'annotation containarium.dev/adopt: "true"',
            "Conflict",
        )
    account = observed.accounts.get(name)
    if account is not None and not owned_account(account):
        return _refuse(
            manifest,
            "metadata.name",
            f"an account {name!r} (uid {account.uid}) exists on the host and is not ours",
            _way_out(account),
            "Conflict",
        )
    return None


def _adopts(manifest: Manifest, instance: Instance) -> bool:
    """Whether the manifest takes over an instance that nobody has marked."""
    return manifest.environment.metadata.adopts and marks.ENVIRONMENT not in instance.config


def _not_adoptable(manifest: Manifest, address: str, observed: Observed) -> Problem | None:
    instance = observed.instances.get(marks.instance_name(manifest.name))
    if instance is None or not _adopts(manifest, instance):
        return None
    obstacles = obstacles_to_adoption(desire(manifest, observed.host, address), instance)
    if not obstacles:
        return None
    return _refuse(
        manifest,
        "metadata.annotations",
        f"{instance.name} is not adopted: {', '.join(obstacles)} cannot change while it runs",
        f"stop it first (incus stop {instance.name}), or make the manifest say what it is",
        "AdoptionRefused",
    )


def _way_out(account: Account) -> str:
    """What to do about a foreign account. With half of our mark it may be a jump account that was changed."""
    comment = marks.account_comment(account.name)
    if account.comment == comment:
        return f"if it is its jump account, give its group back (usermod -g {marks.JUMP_GROUP} {account.name})"
    if account.group == marks.JUMP_GROUP:
        return f"if it is its jump account, give its comment back (usermod -c '{comment}' {account.name})"
    return "choose another name"


def _shrinking(manifest: Manifest, observed: Observed) -> Problem | None:
    instance = observed.instances.get(marks.instance_name(manifest.name))
    size = instance.devices.get(ROOT_DEVICE, {}).get("size") if instance is not None else None
    disk = manifest.environment.spec.resources.disk
    try:
        if not size or size == str(disk) or disk.bytes >= parse_bytes(size):
            return None
    except ValueError:  # a spelling of Incus' own that nobody knows here: Incus itself refuses to shrink
        return None
    return _refuse(
        manifest,
        "spec.resources.disk",
        f"the disk has {size} and cannot shrink to {disk}",
        f"write {size} or more; to really shrink it, move the data to a new environment",
        "DiskShrinkRefused",
    )


def _placed_elsewhere(environment: Environment, host: HostFacts) -> bool:
    placement = environment.spec.placement
    return placement is not None and bool(placement.host) and placement.host != host.name


def _refuse(manifest: Manifest, field: str, message: str, remedy: str, reason: str) -> Problem:
    return Problem(manifest.origin.locate(field), field, message, remedy, reason, manifest.name)


def _claim(manifest: Manifest, present: str | None) -> int:
    """How strong its claim to an address is; 0 is the strongest."""
    declared = manifest.environment.spec.network.ipv4
    return 1 if declared is None else 0 if str(declared) == present else _NEW


class _AddressBook:
    """Hands out addresses: the manifest's word first, then what an environment already has, then a free one."""

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
                return _refuse(
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
            return _refuse(
                manifest,
                "spec.network.ipv4",
                f"{address} is not an address that a guest can have in {subnet.network}",
                f"write one between {subnet.network[1]} and {subnet.network[-2]} other than {subnet.ip}",
                "AddressInvalid",
            )
        holder = self._taken.get(address)
        if holder is not None and holder != marks.instance_name(manifest.name):
            return _refuse(
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
