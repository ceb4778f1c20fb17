"""The plans of a fleet: doors that lead to other hosts, and instances on their way from one host to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from containarium.model import marks
from containarium.model.action import (
    Action,
    Change,
    DeleteInstance,
    FetchInstance,
    Impact,
    StopInstance,
    UpdateInstance,
)
from containarium.model.manifest import Manifest
from containarium.model.observed import Account, HostFacts, Instance, InstanceStatus, Observed
from containarium.plan import addresses
from containarium.plan.decision import EnvironmentPlan, Stand, Verb
from containarium.plan.desired import (
    AUTOSTART,
    NIC_DEVICE,
    PROTECTION,
    ROOT_DEVICE,
    DesiredEnvironment,
    account_lines,
    probe_line,
)
from containarium.plan.diff import diff
from containarium.plan.door import is_open, mend_door
from containarium.plan.fleet import Decision, Step, short_name
from containarium.plan.presence import PASSING_MARKS, arriving, box_of, unstartable
from containarium.plan.retire import Departure, left_behind


def settle(
    desired: DesiredEnvironment, observed: Observed, decision: Decision | None, *, restart: bool
) -> EnvironmentPlan:
    """What is to be done where it is to run here: on its way, it is fetched or made the environment first.

    ``decision`` is None where there is no fleet.
    """
    if decision is None:
        return diff(desired, observed, restart=restart)
    instance = observed.instances.get(desired.instance)
    if decision.step is Step.FETCH:
        return _fetch(desired, observed, instance, decision)
    if decision.step is Step.REMAKE and instance is not None:
        others = {name: other for name, other in observed.instances.items() if name != desired.instance}
        made = diff(desired, replace(observed, instances=others))
        return replace(made, actions=(*_remove(desired.name, instance), *made.actions))
    plan = diff(desired, observed, restart=restart)
    if instance is None or not _passing(instance):
        return plan
    box = box_of(desired.name, instance)
    arrived = marks.ARRIVING in instance.config
    change = Change("host", box.other, decision.place.host) if arrived else Change("host.mark", box.presence, None)
    unmark = _update(desired.name, instance, _unmarked(instance), change)
    why = f"it has come from {box.other}" if arrived else "it stays here after all"
    verb = Verb.MOVE if arrived else Verb.UPDATE
    return replace(plan, verb=verb, actions=(unmark, *plan.actions), reason=why)


def away(manifest: Manifest, observed: Observed, decision: Decision, now: datetime) -> EnvironmentPlan:
    """What is to be done where it does not run here: its door, and whatever of it is here all the same."""
    name = manifest.name
    instance = observed.instances.get(marks.instance_name(name))
    actions: list[Action] = list(route(manifest, observed, decision))
    if instance is not None and instance.config.get(marks.ENVIRONMENT) == name:
        actions += _of_the_rest(manifest, instance, decision, now)
    verb = Verb.UPDATE if actions else Verb.NONE
    if any(change.drift for action in actions for change in action.changes):
        verb = Verb.REPAIR
    return EnvironmentPlan(name, verb, tuple(actions), reason=decision.place.message)


def frozen(manifest: Manifest, observed: Observed, decision: Decision) -> EnvironmentPlan:
    """What is to be done about one of which nobody can tell where it is to run: keys that were withdrawn end."""
    actions = tuple(route(manifest, observed, decision))
    verb = Verb.UPDATE if actions else Verb.NONE
    return EnvironmentPlan(manifest.name, verb, actions, reason=decision.place.message)


def is_retirement(observed: Observed, name: str, decision: Decision) -> bool:
    """Whether it is retired here though nobody was asked to let it go: two hosts have it, and the other one counts."""
    instance = observed.instances.get(marks.instance_name(name))
    marked = instance is not None and (_passing(instance) or marks.RETIRED in instance.config)
    return decision.step is Step.LEAVE_BEHIND and not marked


def departed(name: str, observed: Observed, decision: Decision) -> Departure | None:
    """What was left behind here and may be deleted when its time has come; None where nobody has it elsewhere."""
    instance = observed.instances.get(marks.instance_name(name))
    if instance is None or decision.step is not Step.LEAVE_BEHIND or marks.MOVED not in instance.config:
        return None
    return left_behind(name, instance, f"it lives on {decision.place.host}")


def route(manifest: Manifest, observed: Observed, decision: Decision) -> Iterator[Action]:
    """The jump account of one that lives elsewhere. While its address is not known, what was open stays so."""
    name, place = manifest.name, decision.place
    account = observed.accounts.get(name)
    known = addresses.promised(observed, name) or ""
    if place.stand is Stand.LEAVING:
        lines = _own_lines(manifest, place.address, observed.host)
        address = place.address
    else:
        address = place.address or known
        lines = account_lines(manifest, address)
    if not address or (not place.address and not is_open(account)):
        return
    if not place.address and account is not None and account.keys is not None:
        lines = _same_probe(lines, account, observed.host, address)
    yield from mend_door(manifest, lines, address, account, drift=False, finished=account is not None)


def _own_lines(manifest: Manifest, address: str, host: HostFacts) -> tuple[str, ...]:
    """As they are while it runs here."""
    lines = account_lines(manifest, address)
    return (*lines, probe_line(address, host.probe_key)) if host.probe_key else lines


def _same_probe(lines: tuple[str, ...], account: Account, host: HostFacts, address: str) -> tuple[str, ...]:
    """With the probe's line where it is there already: nothing is known, so nothing but keys changes."""
    probe = probe_line(address, host.probe_key) if host.probe_key else ""
    return (*lines, probe) if probe and probe in (account.keys or ()) else lines


def _fetch(
    desired: DesiredEnvironment, observed: Observed, instance: Instance | None, decision: Decision
) -> EnvironmentPlan:
    """An older copy that is here goes when the source has offered the newer one; FetchInstance itself sees to that."""
    name, source = desired.name, decision.source
    actions: list[Action] = list(route(desired.manifest, observed, decision))
    own = short_name(observed.host)
    changes = [Change("host", source, own, Impact.RESTART)]
    if instance is not None and unstartable(instance):
        actions += _remove(name, instance)
    elif instance is not None:
        changes.append(Change("instance", f"an older copy ({box_of(name, instance).presence})", None))
        if instance.status is not InstanceStatus.STOPPED:
            actions.append(StopInstance(environment=name, instance=instance.name))
    actions.append(
        FetchInstance(
            environment=name,
            instance=desired.instance,
            source=source,
            config={marks.ENVIRONMENT: name, marks.ARRIVING: arriving(source), AUTOSTART: "false"},
            devices={ROOT_DEVICE: desired.root, NIC_DEVICE: desired.nic},
            changes=tuple(changes),
        )
    )
    return EnvironmentPlan(name, Verb.MOVE, tuple(actions), reason=f"from {source}, which stops it meanwhile")


def _remove(name: str, instance: Instance) -> Iterator[Action]:
    """Delete what is out of date. A protection on it is the copy's that came with it, not this one's own."""
    if unstartable(instance):
        yield DeleteInstance(environment=name, instance=instance.name, reason="half-born")
        return
    if instance.config.get(PROTECTION, "") not in ("", "false"):
        yield _update(name, instance, {PROTECTION: ""})
    if instance.status is not InstanceStatus.STOPPED:
        yield StopInstance(environment=name, instance=instance.name)
    gone = Change("instance", f"an older copy ({box_of(name, instance).presence})", None)
    yield DeleteInstance(environment=name, instance=instance.name, reason=marks.OUT_OF_DATE, changes=(gone,))


def _of_the_rest(manifest: Manifest, instance: Instance, decision: Decision, now: datetime) -> Iterator[Action]:
    name = manifest.name
    if unstartable(instance):
        yield from _remove(name, instance)
        return
    match decision.step:
        case Step.DROP:
            yield from _remove(name, instance)
        case Step.ADOPT_COPY:
            change = Change("host.mark", box_of(name, instance).presence, None)
            yield _update(name, instance, _unmarked(instance), change)
        case Step.LEAVE_BEHIND:
            config: dict[str, str] = {}
            if marks.MOVED not in instance.config:
                departure = left_behind(name, instance, "", manifest)
                config = {**departure.dates(now), **_unmarked(instance), marks.MOVED: decision.place.host}
                config[PROTECTION] = ""  # it protects what lives on, and that has its own
            yield from _keep_down(name, instance, config, Change("host", "here", decision.place.host))
        case Step.KEEP_DOWN:
            yield from _keep_down(name, instance, {})


def _keep_down(name: str, instance: Instance, config: dict[str, str], *changes: Change) -> Iterator[Action]:
    told = changes if config else ()
    if instance.config.get(AUTOSTART) != "false":
        config |= {AUTOSTART: "false"}
        told += (Change("spec.autostart", instance.config.get(AUTOSTART), "false"),)
    if config:
        yield _update(name, instance, config, *told)
    if instance.status is not InstanceStatus.STOPPED:
        change = Change("spec.running", instance.status.value, InstanceStatus.STOPPED.value)
        yield StopInstance(environment=name, instance=instance.name, changes=(change,))


def _passing(instance: Instance) -> bool:
    return any(mark in instance.config for mark in PASSING_MARKS)


def _unmarked(instance: Instance) -> dict[str, str]:
    return {mark: "" for mark in PASSING_MARKS if mark in instance.config}


def _update(name: str, instance: Instance, config: dict[str, str], *changes: Change) -> UpdateInstance:
    return UpdateInstance(environment=name, instance=instance.name, config=config, changes=changes)
