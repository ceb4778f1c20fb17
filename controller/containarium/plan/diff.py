"""From one desired environment and what is there to the actions that close the gap, in the order of their doing.

The order is fixed: the instance, its inside, and only then the door to it, so that nobody is let in half-way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from containarium.model import marks
from containarium.model.action import (
    Action,
    AwaitLogin,
    Change,
    CreateInstance,
    DeleteInstance,
    EnableService,
    EnsureAccount,
    Impact,
    InstallPackages,
    LockGuestRoot,
    RestartInstance,
    SetUpUser,
    StartInstance,
    StopInstance,
    UpdateInstance,
    WriteAccountKeys,
    WriteGuestKeys,
)
from containarium.model.observed import Account, Guest, Instance, InstanceStatus, Observed, Password
from containarium.plan.compare import InstanceDiff, compare_instance
from containarium.plan.decision import EnvironmentPlan, Verb
from containarium.plan.desired import AUTOSTART, DOCKER_GROUP, GUEST_SHELL, NIC_DEVICE, ROOT_DEVICE, DesiredEnvironment

_LEFTOVER_KEYS = ("volatile.apply_template", "volatile.last_state.power")
_OPEN_PASSWORDS = (Password.USABLE, Password.EMPTY)


def diff(desired: DesiredEnvironment, observed: Observed, *, restart: bool = False) -> EnvironmentPlan:
    """Plan one environment. ``restart`` allows a restart where a change acts only after one."""
    instance = observed.instances.get(desired.instance)
    if instance is None or unstartable(instance):
        return _create(desired, observed, half_born=instance is not None)
    applied = instance.config.get(marks.APPLIED, "")
    drift = applied == desired.digest
    guest = observed.guests.get(desired.instance)
    found = compare_instance(desired, instance)
    actions: list[Action] = []
    if found.changes:
        actions.append(_update(desired, instance, found, restart=restart))
    actions.extend(_power(desired, instance, actions, drift=drift, restart=restart))
    if applied == "":
        actions.extend(_whole_guest(desired) if desired.running else ())
    elif guest is not None and desired.running:
        actions.extend(_guest(desired, guest, drift=drift))
    actions.extend(_account(desired, observed.accounts.get(desired.name), drift=drift))
    if _needs_waiting(actions):
        actions.append(AwaitLogin(environment=desired.name, instance=desired.instance, address=desired.address))
    if not drift and (guest is not None or applied == "" or not desired.running):
        actions.append(_record(desired))
    notices = (*found.notices, *_pending_restart(instance, restart=restart))
    verb = Verb.NONE if not actions else Verb.REPAIR if drift else Verb.UPDATE
    reason = "its creation was interrupted and is finished now" if applied == "" else ""
    return EnvironmentPlan(desired.name, verb, tuple(actions), notices, reason)


def unstartable(instance: Instance) -> bool:
    """A row that a killed creation left behind: never finished, never started, and it never will be.

    Nobody can have data in it: it has no record of having been reached and no trace of a first start.
    """
    return (
        marks.APPLIED not in instance.config
        and instance.status is InstanceStatus.STOPPED
        and not any(key in instance.config for key in _LEFTOVER_KEYS)
    )


def _create(desired: DesiredEnvironment, observed: Observed, *, half_born: bool) -> EnvironmentPlan:
    account = observed.accounts.get(desired.name)
    lost = not half_born and account is not None and account.keys == desired.account_keys
    actions: list[Action] = []
    name, instance = desired.name, desired.instance
    if half_born:
        actions.append(DeleteInstance(environment=name, instance=instance, reason="half-born"))
    changes = (
        Change("instance", None, f"{instance} from {desired.image}", drift=lost),
        Change("spec.resources", None, _resources(desired), drift=lost),
        Change("spec.network.ipv4", None, desired.address, drift=lost),
    )
    # Autostart comes last: a row that a killed creation leaves with it holds up every later start of Incus.
    config = {key: value for key, value in desired.config.items() if value} | {AUTOSTART: "false"}
    devices = {ROOT_DEVICE: desired.root, NIC_DEVICE: desired.nic}
    actions.append(
        CreateInstance(
            environment=name, instance=instance, image=desired.image, config=config, devices=devices, changes=changes
        )
    )
    if desired.running:
        actions.append(StartInstance(environment=name, instance=instance))
        actions.extend(_whole_guest(desired))
    actions.extend(_account(desired, account, drift=lost))
    if desired.running:
        actions.append(AwaitLogin(environment=name, instance=instance, address=desired.address))
    actions.append(_record(desired, {AUTOSTART: desired.config[AUTOSTART]}))
    reason = "its container is gone" if lost else "its creation was interrupted, it starts over" if half_born else ""
    return EnvironmentPlan(name, Verb.CREATE, tuple(actions), reason=reason)


def _resources(desired: DesiredEnvironment) -> str:
    resources = desired.manifest.environment.spec.resources
    return f"cpu {resources.cpu}, memory {resources.memory}, disk {resources.disk}, {resources.processes} processes"


def _update(desired: DesiredEnvironment, instance: Instance, found: InstanceDiff, *, restart: bool) -> UpdateInstance:
    config = dict(found.config)
    if not restart and any(change.impact is Impact.RESTART for change in found.changes):
        config[marks.RESTART] = instance.last_used_at
    return UpdateInstance(
        environment=desired.name,
        instance=desired.instance,
        config=config,
        devices=found.devices,
        changes=found.changes,
    )


def _power(
    desired: DesiredEnvironment, instance: Instance, before: list[Action], *, drift: bool, restart: bool
) -> Iterator[Action]:
    name, running = desired.name, instance.status is InstanceStatus.RUNNING
    if desired.running and not running:
        change = Change("spec.running", instance.status.value, InstanceStatus.RUNNING.value, drift=drift)
        yield StartInstance(environment=name, instance=desired.instance, changes=(change,))
    elif not desired.running and instance.status is not InstanceStatus.STOPPED:
        change = Change("spec.running", instance.status.value, InstanceStatus.STOPPED.value, drift=drift)
        yield StopInstance(environment=name, instance=desired.instance, changes=(change,))
    elif running and restart and (_restart_due(instance) or _asks_restart(before)):
        change = Change("restart", None, "asked for", Impact.RESTART)
        yield RestartInstance(environment=name, instance=desired.instance, changes=(change,))


def _asks_restart(actions: list[Action]) -> bool:
    return any(change.impact is Impact.RESTART for action in actions for change in action.changes)


def _restart_due(instance: Instance) -> bool:
    since = instance.config.get(marks.RESTART)
    return bool(since) and since == instance.last_used_at and instance.status is InstanceStatus.RUNNING


def _pending_restart(instance: Instance, *, restart: bool) -> Iterator[Change]:
    if _restart_due(instance) and not restart:
        yield Change("restart", None, "something written earlier acts after the next restart", Impact.RESTART)


def _whole_guest(desired: DesiredEnvironment) -> Iterator[Action]:
    """Everything inside, for a guest that has not been finished: each step is idempotent."""
    name, instance = desired.name, desired.instance
    yield InstallPackages(
        environment=name,
        instance=instance,
        packages=desired.packages,
        changes=(Change("spec.packages", None, " ".join(desired.packages)),),
    )
    yield SetUpUser(
        environment=name,
        instance=instance,
        user=name,
        shell=GUEST_SHELL,
        groups=desired.groups,
        without=unwanted_groups(desired),
        changes=(Change("guest.user", None, f"{name} in {' '.join(desired.groups)}"),),
    )
    yield WriteGuestKeys(
        environment=name,
        instance=instance,
        user=name,
        keys=desired.guest_keys,
        changes=(Change("spec.sshKeys", None, fingerprints(desired)),),
    )
    for service in services(desired):
        yield EnableService(environment=name, instance=instance, service=service)
    yield LockGuestRoot(environment=name, instance=instance)


def services(desired: DesiredEnvironment) -> tuple[str, ...]:
    """The guest's services that have to be on."""
    return ("docker", "ssh") if desired.docker else ("ssh",)


def unwanted_groups(desired: DesiredEnvironment) -> tuple[str, ...]:
    """Groups that give what the manifest does not: only these are ever taken away."""
    return () if desired.docker else (DOCKER_GROUP,)


def fingerprints(desired: DesiredEnvironment) -> str:
    """The manifest's keys as a person compares them."""
    return " ".join(key.fingerprint for key in desired.manifest.keys)


def _guest(desired: DesiredEnvironment, guest: Guest, *, drift: bool) -> Iterator[Action]:
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
        before = None if guest.keys is None else f"{len(guest.keys)} keys"
        change = Change("guest.keys", before, fingerprints(desired), drift=drift)
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


def _account(desired: DesiredEnvironment, account: Account | None, *, drift: bool) -> Iterator[Action]:
    name = desired.name
    changes = tuple(_account_changes(account, drift=drift))
    if changes:
        yield EnsureAccount(environment=name, account=name, changes=changes)
    keys = account.keys if account is not None else None
    if keys != desired.account_keys:
        before = None if keys is None else f"{len(keys)} keys"
        after = f"{fingerprints(desired)} to {desired.address}:22"
        change = Change("account.keys", before, after, drift=drift)
        yield WriteAccountKeys(environment=name, account=name, lines=desired.account_keys, changes=(change,))


def _account_changes(account: Account | None, *, drift: bool) -> Iterator[Change]:
    if account is None:
        yield Change("account", None, "a jump account", drift=drift)
        return
    if account.shell != marks.JUMP_SHELL:
        yield Change("account.shell", account.shell, marks.JUMP_SHELL, drift=drift)
    if account.password is not Password.NONE:
        yield Change("account.password", account.password.value, Password.NONE.value, drift=drift)
    if account.expired:
        yield Change("account.expiry", "expired", None, drift=drift)
    for group in sorted(account.groups):
        yield Change("account.groups", group, None, drift=drift)
    if account.subordinate_ids:
        yield Change("account.subordinate_ids", "some", None, drift=drift)


def _needs_waiting(actions: list[Action]) -> bool:
    return any(isinstance(action, StartInstance | RestartInstance | EnableService) for action in actions)


def _record(desired: DesiredEnvironment, more: Mapping[str, str] | None = None) -> UpdateInstance:
    """Write down what was reached, last of all: from here on, a difference is somebody else's doing."""
    config = {**(more or {}), marks.APPLIED: desired.digest}
    return UpdateInstance(environment=desired.name, instance=desired.instance, config=config)
