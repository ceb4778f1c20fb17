"""From one desired environment and what is there to the actions that close the gap, in the order of their doing.

The order is fixed: the instance, its inside, and only then the door to it, so that nobody is let in half-way. A door
that is open already comes first: nothing that a guest makes fail may hold up the withdrawal of a key.
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
    Impact,
    RestartInstance,
    StartInstance,
    StopInstance,
    UpdateInstance,
)
from containarium.model.observed import Instance, InstanceStatus, Observed
from containarium.model.packing import pack
from containarium.plan.compare import InstanceDiff, compare_instance
from containarium.plan.decision import EnvironmentPlan, Verb
from containarium.plan.desired import AUTOSTART, NIC_DEVICE, PROTECTION, ROOT_DEVICE, DesiredEnvironment
from containarium.plan.door import is_open, mend_account
from containarium.plan.enforce import enforce
from containarium.plan.inside import mend_guest, persons_part, whole_guest
from containarium.plan.presence import unstartable


def diff(desired: DesiredEnvironment, observed: Observed, *, restart: bool = False) -> EnvironmentPlan:
    """Plan one environment. ``restart`` allows a restart where a change acts only after one."""
    instance = observed.instances.get(desired.instance)
    if instance is None or unstartable(instance):
        return _create(desired, observed, half_born=instance is not None)
    applied = instance.config.get(marks.APPLIED, "")
    drift, finished = applied == desired.digest, applied != ""
    guest = observed.guests.get(desired.instance)
    found = compare_instance(desired, instance)
    account = observed.accounts.get(desired.name)
    door = tuple(mend_account(desired, account, drift=drift, finished=finished))
    actions: list[Action] = list(door) if is_open(account) else []
    updates = [_update(desired, instance, found)] if found.changes else []
    power = list(_power(desired, instance, [*actions, *updates], drift=drift, restart=restart))
    if not power:  # a start hands everything out anew
        held, cpus = observed.enforced.get(desired.instance), observed.host.cpus
        actions.extend(enforce(desired.name, instance, held, cpus, changing=bool(updates), drift=finished))
    actions.extend((*updates, *power))
    if applied == "":
        actions.extend(whole_guest(desired) if desired.running else ())
    elif guest is not None and desired.running:
        actions.extend(mend_guest(desired, guest, drift=drift))
    actions.extend(() if is_open(account) else door)
    if _needs_waiting(actions):
        actions.append(AwaitLogin(environment=desired.name, instance=desired.instance, address=desired.address))
    if not drift and (guest is not None or applied == "" or not desired.running):
        actions.append(_record(desired))
    notices = (*found.notices, *_pending_restart(instance, restart=restart))
    if not actions and not drift:
        notices += (Change("guest", None, "the manifest has changed, and nobody looked inside"),)
    reason = "its creation was interrupted and is finished now" if applied == "" else ""
    return EnvironmentPlan(desired.name, _verb(actions, drift=drift), tuple(actions), notices, reason)


def _verb(actions: list[Action], *, drift: bool) -> Verb:
    if not actions:
        return Verb.NONE if drift else Verb.UPDATE
    repair = drift and any(change.drift for action in actions for change in action.changes)
    return Verb.REPAIR if repair else Verb.UPDATE


def _create(desired: DesiredEnvironment, observed: Observed, *, half_born: bool) -> EnvironmentPlan:
    account = observed.accounts.get(desired.name)
    lost = not half_born and account is not None and account.keys == desired.account_keys
    door = tuple(mend_account(desired, account, drift=lost, finished=lost))
    actions: list[Action] = list(door) if is_open(account) else []
    name, instance = desired.name, desired.instance
    if half_born:
        actions.append(DeleteInstance(environment=name, instance=instance, reason="half-born"))
    changes = (
        Change("instance", None, f"{instance} from {desired.image}", drift=lost),
        *(Change(field, None, value, drift=lost) for field, value in _as_made(desired) if value),
    )
    # These come last: a row that a killed creation leaves with autostart holds up every later start of Incus, and one
    # that is protected could never be removed.
    last = {key: desired.config[key] for key in (AUTOSTART, PROTECTION) if desired.config.get(key)}
    config = {key: value for key, value in desired.config.items() if value and key not in last} | {AUTOSTART: "false"}
    devices = {ROOT_DEVICE: desired.root, NIC_DEVICE: desired.nic}
    actions.append(
        CreateInstance(
            environment=name,
            instance=instance,
            image=desired.image,
            packages=desired.packages,
            docker=desired.docker,
            config=config,
            devices=devices,
            changes=changes,
        )
    )
    if desired.running:
        actions.append(StartInstance(environment=name, instance=instance))
        actions.extend(persons_part(desired))
    actions.extend(() if is_open(account) else door)
    if desired.running:
        actions.append(AwaitLogin(environment=name, instance=instance, address=desired.address))
    actions.append(_record(desired, last))
    reason = "its container is gone" if lost else "its creation was interrupted, it starts over" if half_born else ""
    return EnvironmentPlan(name, Verb.CREATE, tuple(actions), reason=reason)


def _as_made(desired: DesiredEnvironment) -> Iterator[tuple[str, str]]:
    """What a reader is told of a new instance, by field."""
    spec = desired.manifest.environment.spec
    r = spec.resources
    yield "spec.resources", f"cpu {r.cpu}, memory {r.memory}, disk {r.disk}, {r.processes} processes"
    yield "spec.network.ipv4", desired.address
    yield "spec.docker", "true" if spec.docker else ""
    yield "spec.packages", " ".join(desired.packages)
    yield "spec.autostart", desired.config[AUTOSTART]
    yield "spec.running", "" if spec.running else "false"
    yield "spec.snapshots", f"{spec.snapshots.schedule}, kept {spec.snapshots.keep}" if spec.snapshots else ""
    yield "spec.deletion.protect", desired.config.get("security.protection.delete", "")


def _update(desired: DesiredEnvironment, instance: Instance, found: InstanceDiff) -> UpdateInstance:
    config = dict(found.config)
    # Also where it restarts at once: whoever dies before the restart must not forget it.
    if any(change.impact is Impact.RESTART for change in found.changes):
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
        yield Change(
            "restart",
            None,
            "something written earlier acts after the next one (containarium apply --restart)",
            Impact.RESTART,
        )


def _needs_waiting(actions: list[Action]) -> bool:
    return any(isinstance(action, StartInstance | RestartInstance | EnableService) for action in actions)


def _record(desired: DesiredEnvironment, more: Mapping[str, str] | None = None) -> UpdateInstance:
    """Write down what was reached, last of all: from here on, a difference is somebody else's doing.

    The manifest goes with it, for ``undelete``; it is never compared, and a larger one takes an older one away.
    """
    config = {**(more or {}), marks.APPLIED: desired.digest, marks.MANIFEST: pack(desired.manifest)}
    return UpdateInstance(environment=desired.name, instance=desired.instance, config=config)
