"""What a restored backup may ask of the host: no more than an environment of ours does, whoever wrote the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from containarium.model import marks
from containarium.plan.compare import CONFIG_FIELDS, DEVICE_FIELDS
from containarium.plan.desired import NIC_DEVICE, ROOT_DEVICE

_HARMLESS = ("user.", "image.", "volatile.", "limits.", "snapshots.", "boot.", "cloud-init.", "security.protection.")
"""What else an admin may have set: it bounds the guest or is told to it, and opens nothing of the host."""
_IDMAPS = ("volatile.idmap.current", "volatile.idmap.next", "volatile.last_state.idmap")
_FIRST_GUEST_ID = 65536
"""Below are the ids of the host's own accounts."""
_NO = frozenset({"", "false", "0", "no", "off"})


def objections(name: str, instance: Mapping[str, Any]) -> tuple[str, ...]:
    """What speaks against an imported instance in Incus' own words (or those of a backup's index); empty: nothing.

    ``name`` is the environment that it has to be of. What its profiles bring along counts as its own.
    """
    return tuple(dict.fromkeys(_objections(name, instance)))


def _objections(name: str, instance: Mapping[str, Any]) -> Iterator[str]:
    owner = _mapping(instance, "config").get(marks.ENVIRONMENT)
    if owner != name:
        yield f"it is of the environment {owner}" if owner else "it was not made by Containarium"
    if instance.get("type") != "container":
        yield "it is no container"
    if instance.get("ephemeral"):
        yield "it is ephemeral"
    for part in ("config", "expanded_config"):
        for key, value in sorted(_mapping(instance, part).items()):
            yield from _of_config(str(key), str(value))
    for part in ("devices", "expanded_devices"):
        for device, settings in sorted(_mapping(instance, part).items()):
            if not _usual_device(device, settings):
                yield f"device {device}"


def _of_config(key: str, value: str) -> Iterator[str]:
    if key == "security.privileged":
        refused = value.lower() not in _NO
    elif key in _IDMAPS:
        refused = not _guest_ids(value)
    else:
        refused = key not in CONFIG_FIELDS and not key.startswith(_HARMLESS)
    if refused:
        yield key


def _guest_ids(text: str) -> bool:
    """Whether a map of ids leads to none of the host's own."""
    try:
        entries = json.loads(text or "[]")
        return all(int(entry["Hostid"]) >= _FIRST_GUEST_ID for entry in entries)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _usual_device(name: str, settings: Any) -> bool:
    """Whether it is the root disk or the network device as we make them, with limits at most."""
    if not isinstance(settings, Mapping):
        return False
    if settings.get("type") == "none":
        return True
    known = {*DEVICE_FIELDS.get(name, {}), *(("pool",) if name == ROOT_DEVICE else ())}
    kind = {ROOT_DEVICE: "disk", NIC_DEVICE: "nic"}.get(name)
    if settings.get("type") != kind or (kind == "disk" and settings.get("path") != "/"):
        return False
    return all(key in known or str(key).startswith("limits.") for key in settings)


def _mapping(instance: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    found = instance.get(part)
    return found if isinstance(found, Mapping) else {}
