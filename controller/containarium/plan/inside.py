"""The inside of a guest: what its manifest asks for, and what of it is missing."""

from __future__ import annotations

from collections.abc import Iterator

from containarium.model.action import (
    Action,
    Change,
    EnableService,
    InstallPackages,
    LockGuestRoot,
    SetUpUser,
    WriteGuestKeys,
)
from containarium.model.observed import Guest, Password
from containarium.plan.desired import DOCKER_GROUP, GUEST_SHELL, DesiredEnvironment
from containarium.plan.door import fingerprints, told

_OPEN_PASSWORDS = (Password.USABLE, Password.EMPTY)


def whole_guest(desired: DesiredEnvironment) -> Iterator[Action]:
    """Everything inside, for a guest that has not been finished: each step is idempotent."""
    name, instance = desired.name, desired.instance
    yield InstallPackages(
        environment=name,
        instance=instance,
        packages=desired.packages,
        changes=(Change("spec.packages", None, " ".join(desired.packages)),),
    )
    yield from persons_part(desired)
    for service in services(desired):
        yield EnableService(environment=name, instance=instance, service=service)
    yield LockGuestRoot(environment=name, instance=instance)


def persons_part(desired: DesiredEnvironment) -> Iterator[Action]:
    """What a clone of a recipe lacks: all else was baked, and the look that follows says whether that is so."""
    name, instance = desired.name, desired.instance
    yield SetUpUser(
        environment=name,
        instance=instance,
        user=name,
        shell=GUEST_SHELL,
        groups=desired.groups,
        without=unwanted_groups(desired),
        keys=desired.guest_keys,
        changes=(Change("guest.user", None, f"{name} in {' '.join(desired.groups)}"),),
    )
    yield WriteGuestKeys(
        environment=name,
        instance=instance,
        user=name,
        keys=desired.guest_keys,
        changes=(Change("spec.sshKeys", None, fingerprints(desired.manifest)),),
    )


def services(desired: DesiredEnvironment) -> tuple[str, ...]:
    """The guest's services that have to be on."""
    return desired.recipe.services


def unwanted_groups(desired: DesiredEnvironment) -> tuple[str, ...]:
    """Groups that give what the manifest does not: only these are ever taken away."""
    return () if desired.docker else (DOCKER_GROUP,)


def mend_guest(desired: DesiredEnvironment, guest: Guest, *, drift: bool) -> Iterator[Action]:
    name, instance = desired.name, desired.instance
    missing = tuple(package for package in desired.packages if package not in guest.packages)
    if missing:
        change = Change("spec.packages", None, " ".join(missing), drift=drift)
        yield InstallPackages(environment=name, instance=instance, packages=missing, changes=(change,))
    user = tuple(_user_changes(desired, guest, drift=drift))
    if user:
        yield SetUpUser(
            environment=name,
            instance=instance,
            user=name,
            shell=GUEST_SHELL,
            groups=desired.groups,
            without=unwanted_groups(desired),
            changes=user,
        )
    if guest.keys != desired.guest_keys:
        change = Change("guest.keys", told(guest.keys), fingerprints(desired.manifest), drift=drift)
        yield WriteGuestKeys(environment=name, instance=instance, user=name, keys=desired.guest_keys, changes=(change,))
    for service, enabled in (("docker", guest.docker or not desired.docker), ("ssh", guest.ssh)):
        if not enabled:
            change = Change(f"guest.{service}", "disabled", "enabled", drift=drift)
            yield EnableService(environment=name, instance=instance, service=service, changes=(change,))
    if guest.root_password in _OPEN_PASSWORDS:
        change = Change("guest.root.password", guest.root_password.value, Password.NONE.value, drift=drift)
        yield LockGuestRoot(environment=name, instance=instance, changes=(change,))


def _user_changes(desired: DesiredEnvironment, guest: Guest, *, drift: bool) -> Iterator[Change]:
    if not guest.user:
        yield Change("guest.user", None, desired.name, drift=drift)
        return
    for group in desired.groups:
        if group not in guest.groups:
            yield Change("guest.groups", None, group, drift=drift)
    for group in unwanted_groups(desired):
        if group in guest.groups:
            yield Change("guest.groups", group, None, drift=drift)
    if guest.password in (*_OPEN_PASSWORDS, Password.MISSING):
        yield Change("guest.password", guest.password.value, Password.NONE.value, drift=drift)
    if not guest.sudo:
        yield Change("guest.sudo", None, "without a password", drift=drift)
