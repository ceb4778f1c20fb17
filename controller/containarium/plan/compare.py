"""Comparing one managed instance with what it should be, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from containarium.model import marks
from containarium.model.action import Change, Impact
from containarium.model.observed import Instance, InstanceStatus
from containarium.model.quantity import parse_bytes
from containarium.plan.desired import AUTOSTART, NIC_DEVICE, ROOT_DEVICE, DesiredEnvironment

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"", "false", "0", "no", "off"})


def _same_bytes(one: str, other: str) -> bool:
    try:
        return parse_bytes(one) == parse_bytes(other)
    except ValueError:
        return False


def _same_flag(one: str, other: str) -> bool:
    return (one.lower() in _TRUE) == (other.lower() in _TRUE)


def _said_no(one: str, _other: str) -> bool:
    """Unset is not enough: a profile would decide then."""
    return one.lower() in _FALSE - {""}


def _same_text(_one: str, _other: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Field:
    """One managed key: the manifest's name for it, what changing it means, and when two spellings are the same."""

    name: str
    impact: Impact = Impact.LIVE
    same: Callable[[str, str], bool] = _same_text


CONFIG_FIELDS: Mapping[str, Field] = {
    "limits.cpu": Field("spec.resources.cpu"),
    "limits.memory": Field("spec.resources.memory", same=_same_bytes),
    "limits.processes": Field("spec.resources.processes"),
    "security.nesting": Field("spec.docker.nesting", Impact.RESTART, _same_flag),
    "security.syscalls.intercept.mknod": Field("spec.docker.mknod", Impact.RESTART, _same_flag),
    "security.syscalls.intercept.setxattr": Field("spec.docker.setxattr", Impact.RESTART, _same_flag),
    "security.privileged": Field("isolation.privileged", Impact.RESTART, _said_no),
    "security.idmap.isolated": Field("isolation.idmap", Impact.RESTART, _same_flag),
    "security.protection.delete": Field("spec.deletion.protect", same=_same_flag),
    AUTOSTART: Field("spec.autostart"),
    "snapshots.schedule": Field("spec.snapshots.schedule"),
    "snapshots.expiry": Field("spec.snapshots.keep"),
    marks.ENVIRONMENT: Field("mark.environment"),
    marks.IMAGE: Field("spec.image", Impact.RECREATE),
    marks.DELETION: Field("spec.deletion"),
    marks.RETIRED: Field("retired"),
    marks.PRUNE_AFTER: Field("retired.until"),
}
"""Every managed config key. A key that is not here belongs to somebody else and is never looked at."""

DEVICE_FIELDS: Mapping[str, Mapping[str, Field]] = {
    ROOT_DEVICE: {
        "type": Field("device.root.type"),
        "path": Field("device.root.path"),
        "size": Field("spec.resources.disk", same=_same_bytes),
    },
    NIC_DEVICE: {
        "type": Field("device.eth0.type"),
        "name": Field("device.eth0.name"),
        "network": Field("device.eth0.network"),
        "ipv4.address": Field("spec.network.ipv4", Impact.RESTART),
        "hwaddr": Field("isolation.hwaddr", Impact.RESTART),
        "host_name": Field("isolation.port", Impact.RESTART),
        "security.ipv4_filtering": Field("isolation.ipv4_filtering", same=_same_flag),
        "security.mac_filtering": Field("isolation.mac_filtering", same=_same_flag),
        "security.port_isolation": Field("isolation.port_isolation", same=_same_flag),
    },
}
"""Every managed key of the two managed devices. The pool of a root disk is fixed when it is made."""


@dataclass(frozen=True, slots=True)
class InstanceDiff:
    """What to write to the instance, what a reader is shown of it, and what is only reported."""

    config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]]
    changes: tuple[Change, ...]
    notices: tuple[Change, ...]


def compare_instance(desired: DesiredEnvironment, instance: Instance) -> InstanceDiff:
    """The managed differences of an instance that is ours."""
    drift = instance.config.get(marks.APPLIED) == desired.digest
    config: dict[str, str] = {}
    devices: dict[str, Mapping[str, str]] = {}
    changes: list[Change] = []
    notices: list[Change] = []
    for key, value in desired.config.items():
        before = instance.config.get(key, "")
        if before == value:
            continue
        field = CONFIG_FIELDS[key]
        if field.same(before, value):
            continue
        if field.impact is Impact.RECREATE and before:
            notices.append(Change(field.name, before, value, Impact.RECREATE))
            continue
        config[key] = value
        impact = _present_impact(field.impact, instance)
        changes.append(
            Change(field.name, before or None, value or None, impact, drift or _never_edited(field, instance))
        )
    for name, managed in ((ROOT_DEVICE, desired.root), (NIC_DEVICE, desired.nic)):
        found = _compare_device(name, managed, instance, drift=drift)
        if found:
            changes.extend(found)
            # A device is replaced whole: what others have set on it goes back in, and so does its pool.
            devices[name] = {**managed, **instance.devices.get(name, {}), **_without_pool(managed)}
    return InstanceDiff(config, devices, tuple(changes), tuple(notices))


def _compare_device(name: str, managed: Mapping[str, str], instance: Instance, *, drift: bool) -> list[Change]:
    present = instance.devices.get(name, {})
    changes: list[Change] = []
    for key, field in DEVICE_FIELDS[name].items():
        before, after = present.get(key, ""), managed[key]
        if before != after and not field.same(before, after):
            # A guest whose address was changed behind our back still holds its lease on the right one.
            impact = Impact.LIVE if drift else _present_impact(field.impact, instance)
            strange = drift or _never_edited(field, instance)
            changes.append(Change(field.name, before or None, after or None, impact, strange))
    return changes


def _never_edited(field: Field, instance: Instance) -> bool:
    """Whether no edit of a manifest can explain a difference: it is drift, whatever else is new."""
    return field.name.startswith("isolation.") and marks.APPLIED in instance.config


def _present_impact(impact: Impact, instance: Instance) -> Impact:
    """A change that acts at the next start is no restart for an instance that is not running."""
    if impact is Impact.RESTART and instance.status is not InstanceStatus.RUNNING:
        return Impact.LIVE
    return impact


def _without_pool(managed: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in managed.items() if key != "pool"}
