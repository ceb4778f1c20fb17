"""Where a case is played: a host, somebody behind its back, and a diary of what was seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from containarium.model import marks
from containarium.model.action import (
    Action,
    AdoptInstance,
    AwaitLogin,
    BackupInstance,
    CreateInstance,
    DeleteAccount,
    DeleteInstance,
    EnableService,
    EnsureAccount,
    InstallPackages,
    LockAccount,
    LockGuestRoot,
    RestartInstance,
    SetUpUser,
    StartInstance,
    StopInstance,
    UpdateInstance,
    WriteAccountKeys,
    WriteGuestKeys,
)
from containarium.model.host import Host, HostError
from containarium.model.observed import Account, Enforcement, Guest, Instance, Look, Observed
from tests.conformance.operators import Operator

SHELL = "/bin/bash"
PACKAGE = "hello"
"""A small package that the guest image does not have."""

_NEVER = "1970-01-01"
_KEPT_VOLATILE = frozenset({"volatile.apply_template", "volatile.last_state.power"})
_FIRST_ADDRESS = 100


@dataclass(frozen=True, slots=True)
class Person:
    """An environment in a case, with its actions at hand."""

    name: str
    address: str
    image: str
    bridge: str
    pool: str

    @property
    def instance(self) -> str:
        return marks.instance_name(self.name)

    @property
    def root(self) -> dict[str, str]:
        return {"type": "disk", "path": "/", "pool": self.pool, "size": "2GiB"}

    @property
    def nic(self) -> dict[str, str]:
        return {"type": "nic", "name": "eth0", "network": self.bridge, "ipv4.address": self.address}

    def create(self, config: Mapping[str, str] | None = None, packages: tuple[str, ...] = ()) -> CreateInstance:
        """From the image itself; with packages, from their recipe."""
        return CreateInstance(
            environment=self.name,
            instance=self.instance,
            image=self.image,
            packages=packages,
            config={marks.ENVIRONMENT: self.name, "limits.memory": "512MiB", **(config or {})},
            devices={"root": self.root, "eth0": self.nic},
        )

    def update(
        self, config: Mapping[str, str] | None = None, devices: Mapping[str, Mapping[str, str]] | None = None
    ) -> UpdateInstance:
        return UpdateInstance(environment=self.name, instance=self.instance, config=config or {}, devices=devices or {})

    def delete(self) -> DeleteInstance:
        return DeleteInstance(environment=self.name, instance=self.instance, reason="conformance")

    def delete_old_copy(self) -> DeleteInstance:
        return DeleteInstance(environment=self.name, instance=self.instance, reason=marks.OUT_OF_DATE)

    def start(self) -> StartInstance:
        return StartInstance(environment=self.name, instance=self.instance)

    def adopt(
        self, config: Mapping[str, str] | None = None, devices: Mapping[str, Mapping[str, str]] | None = None
    ) -> AdoptInstance:
        marked = {marks.ENVIRONMENT: self.name, marks.APPLIED: "adopted", **(config or {})}
        return AdoptInstance(environment=self.name, instance=self.instance, config=marked, devices=devices or {})

    def back_up(self) -> BackupInstance:
        return BackupInstance(environment=self.name, instance=self.instance)

    def stop(self) -> StopInstance:
        return StopInstance(environment=self.name, instance=self.instance)

    def restart(self) -> RestartInstance:
        return RestartInstance(environment=self.name, instance=self.instance)

    def set_up_user(self, *groups: str) -> SetUpUser:
        return SetUpUser(
            environment=self.name, instance=self.instance, user=self.name, shell=SHELL, groups=groups or ("sudo",)
        )

    def write_guest_keys(self, *keys: str) -> WriteGuestKeys:
        return WriteGuestKeys(environment=self.name, instance=self.instance, user=self.name, keys=keys)

    def install(self, *packages: str) -> InstallPackages:
        return InstallPackages(environment=self.name, instance=self.instance, packages=packages)

    def enable(self, service: str) -> EnableService:
        return EnableService(environment=self.name, instance=self.instance, service=service)

    def lock_root(self) -> LockGuestRoot:
        return LockGuestRoot(environment=self.name, instance=self.instance)

    def await_login(self) -> AwaitLogin:
        return AwaitLogin(environment=self.name, instance=self.instance, address=self.address)

    def ensure_account(self) -> EnsureAccount:
        return EnsureAccount(environment=self.name, account=self.name)

    def write_account_keys(self, *lines: str) -> WriteAccountKeys:
        return WriteAccountKeys(environment=self.name, account=self.name, lines=lines)

    def lock_account(self) -> LockAccount:
        return LockAccount(environment=self.name, account=self.name)

    def delete_account(self) -> DeleteAccount:
        return DeleteAccount(environment=self.name, account=self.name)

    def guest_actions(self) -> tuple[Action, ...]:
        """One action of every kind that works inside the guest."""
        return (
            self.set_up_user(),
            self.write_guest_keys("ssh-ed25519 AAAA one"),
            self.install(PACKAGE),
            self.enable("ssh"),
            self.lock_root(),
            self.await_login(),
        )


@dataclass
class Stage:
    """A host under test. ``diary`` holds every look and every refusal in a form that two hosts can agree on."""

    host: Host
    operator: Operator
    image: str
    diary: list[Any] = field(default_factory=list)
    _people: list[Person] = field(default_factory=list)
    _shared: Person | None = None
    _case: int = 0

    def begin(self, case: int) -> None:
        """Open a new page of the diary. The number keeps names and addresses of different cases apart."""
        self.diary.clear()
        self._case = case

    def person(self) -> Person:
        """Somebody new, with an address of their own; nothing of theirs exists yet."""
        number = self._case * 2 + len(self._people) + 1
        person = self._new(f"conf{number}", _FIRST_ADDRESS + number)
        self._people.append(person)
        return person

    def shared(self) -> Person:
        """The one environment that runs all the time, set up so that its guest can be worked in."""
        if self._shared is None:
            person = self._new("confshared", _FIRST_ADDRESS)
            self.run(person.create(), person.start(), person.set_up_user())
            self._shared = person
        return self._shared

    def run(self, *actions: Action) -> None:
        """Carry out actions, in order."""
        for action in actions:
            self.host.execute(action)

    def insist(self, action: Action, attempts: int = 5) -> None:
        """Carry out an action that may fail now and then, until it does not."""
        for _ in range(attempts - 1):
            try:
                return self.host.execute(action)
            except HostError:
                time.sleep(0.5)
        return self.host.execute(action)

    def refusal(self, action: Action) -> str:
        """Carry out an action that must fail, and return the kind of error with its reason."""
        try:
            self.host.execute(action)
        except HostError as error:
            told = f"{type(error).__name__} {error.reason}"
            self.diary.append((action.kind, told))
            return told
        pytest.fail(f"{action.kind} was not refused")

    def look(self, look: Look = Look.DEEP) -> Observed:
        """Look, and write what was seen into the diary."""
        observed = self.host.observe(look)
        self.diary.append(self.normal(observed))
        return observed

    def instance(self, person: Person) -> Instance:
        """The instance of a person, as a look shows it."""
        return self.look(Look.SHALLOW).instances[person.instance]

    def guest(self, person: Person) -> Guest:
        """The inside of a person's guest, as a look shows it."""
        return self.look().guests[person.instance]

    def account(self, person: Person) -> Account:
        """The jump account of a person, as a look shows it."""
        return self.look(Look.SHALLOW).accounts[person.name]

    def clear(self) -> None:
        """Remove what the case has made; the shared environment stays."""
        for person in self._people:
            self.operator.remove_instance(person.instance)
            self.operator.remove_account(person.name)
            self.operator.remove_host_keys(person.name)
        self._people.clear()

    def close(self) -> None:
        """Remove the shared environment too."""
        self.clear()
        if self._shared is not None:
            self._people.append(self._shared)
            self._shared = None
            self.clear()

    def normal(self, observed: Observed) -> dict[str, Any]:
        """What of a look must be the same everywhere: times, ids and what Incus makes up are left out."""
        people = [*self._people, *([self._shared] if self._shared else [])]
        instances = {p.instance for p in people}
        names = {p.name for p in people}
        addresses = {p.address for p in people}
        return {
            "instances": {n: _instance(i) for n, i in observed.instances.items() if n in instances},
            "accounts": {n: _account(a) for n, a in observed.accounts.items() if n in names},
            "guests": {n: _guest(g) for n, g in observed.guests.items() if n in instances},
            "enforced": {n: _enforced(e) for n, e in observed.enforced.items() if n in instances},
            "orphan keys": sorted(observed.orphan_keys & names),
            "leases": sorted(addresses & observed.host.leases.keys()),
            "gateway": observed.host.leases.get(str(observed.host.subnet.ip)),
        }

    def _new(self, name: str, number: int) -> Person:
        facts = self.host.observe(Look.SHALLOW).host
        return Person(name, str(facts.subnet.network[number]), self.image, facts.bridge, facts.pool)


def _instance(instance: Instance) -> dict[str, Any]:
    config = {
        key: value
        for key, value in instance.config.items()
        if key in _KEPT_VOLATILE or not key.startswith(("volatile.", "image."))
    }
    return {
        "status": str(instance.status),
        "config": config,
        "devices": {name: dict(device) for name, device in instance.devices.items()},
        "addresses": instance.addresses,
        "created": instance.created_at > _NEVER,
        "used": not instance.last_used_at.startswith(_NEVER),
    }


def _account(account: Account) -> dict[str, Any]:
    return {
        "group": account.group,
        "comment": account.comment,
        "home": account.home,
        "shell": account.shell,
        "password": str(account.password),
        "expired": account.expired,
        "groups": sorted(account.groups),
        "subordinate ids": account.subordinate_ids,
        "keys": account.keys,
    }


def _enforced(held: Enforcement) -> dict[str, Any]:
    """Which processors it has is Incus' choice."""
    return {
        "memory": held.memory,
        "processes": held.processes,
        "cpus": len(held.cpus or ()),
        "disk": held.disk,
        "filters": held.filters,
    }


def _guest(guest: Guest) -> dict[str, Any]:
    return {
        "user": guest.user,
        "shell": guest.shell,
        "groups": sorted(guest.groups),
        "password": str(guest.password),
        "root": str(guest.root_password),
        "sudo": guest.sudo,
        "keys": guest.keys,
        "package": PACKAGE in guest.packages,
        "docker": guest.docker,
        "ssh": guest.ssh,
    }
