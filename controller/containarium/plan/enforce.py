"""What the kernel holds a running instance to, against its own configuration, which was found right before.

A limit can be lost without a trace in the configuration: a change that Incus refuses half-way, processors handed out
from old configuration, a firewall that was flushed, a hand on the control group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from containarium.model.action import Change, EnforceLimits
from containarium.model.observed import Enforcement, Instance
from containarium.model.quantity import Cpu, parse_bytes
from containarium.plan.desired import NIC_DEVICE, ROOT_DEVICE

MEMORY, PROCESSES, CPU = "limits.memory", "limits.processes", "limits.cpu"
FILTERS = ("security.mac_filtering", "security.ipv4_filtering")
_SOFT = "limits.memory.enforce"
"""An admin may have Incus treat the limit as a wish; that key is not ours."""
_TRUE = frozenset({"true", "1", "yes", "on"})
_ROUNDING = 64 * 1024
"""The kernel counts in pages, of at most so many bytes."""
_UNITS = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


@dataclass(frozen=True, slots=True)
class Lack:
    """Something configured that does not hold. ``key`` is of the configuration, or the name of a device."""

    key: str
    field: str
    before: str
    after: str
    device: bool = False


def enforce(
    environment: str, instance: Instance, held: Enforcement | None, cpus: int, *, changing: bool, drift: bool
) -> Iterator[EnforceLimits]:
    """The one action that makes the kernel hold what is configured, where it does not.

    ``changing``: the configuration itself is about to be changed. Then the next look tells, but for a disk limit that
    is too small: a guest that is over its limit makes Incus refuse every change.
    """
    if held is None:
        return
    lacks = list(lacking(instance.config, instance.devices, held, cpus))
    if changing:
        lacks = [lack for lack in lacks if lack.key == ROOT_DEVICE and _choked(instance, held)]
    if lacks:
        yield EnforceLimits(
            environment=environment,
            instance=instance.name,
            config={lack.key: instance.config[lack.key] for lack in lacks if not lack.device},
            devices={lack.key: instance.devices[lack.key] for lack in lacks if lack.device},
            changes=tuple(Change(lack.field, lack.before, lack.after, drift=drift) for lack in lacks),
        )


def lacking(
    config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]], held: Enforcement, cpus: int
) -> Iterator[Lack]:
    """Every managed limit of a configuration that the kernel does not hold.

    ``cpus`` is how many processors the host gives to guests. What was not observed, is not configured, or is written
    in a way that nobody knows here, is none.
    """
    yield from _processors(config.get(CPU, ""), held.cpus, cpus)
    memory = config.get(MEMORY, "") if config.get(_SOFT) != "soft" else ""
    if held.memory is not None and _differs(memory, held.memory):
        yield Lack(MEMORY, "spec.resources.memory", _in_kernel(held.memory), memory)
    size = devices.get(ROOT_DEVICE, {}).get("size", "")
    if held.disk is not None and _differs(size, held.disk):
        yield Lack(ROOT_DEVICE, "spec.resources.disk", _in_kernel(held.disk), size, device=True)
    processes = config.get(PROCESSES, "")
    if held.processes is not None and processes.isdecimal() and int(processes) != held.processes:
        before = f"{held.processes or 'no limit'} in the kernel"
        yield Lack(PROCESSES, "spec.resources.processes", before, processes)
    if held.filters is False and any(is_true(devices.get(NIC_DEVICE, {}).get(key, "")) for key in FILTERS):
        yield Lack(NIC_DEVICE, "isolation.filters", "not in the firewall", "in force", device=True)


def respelled(key: str, value: str) -> str:
    """The same limit in other letters: Incus applies what changed, and never what stayed as it is."""
    if key == MEMORY:
        return _respelled_size(value)
    return f"0{value}"


def respelled_device(device: Mapping[str, str]) -> dict[str, str]:
    """The same device in other letters: a disk's size, or the first of a NIC's filters."""
    if device.get("type") == "disk":
        return {**device, "size": _respelled_size(device.get("size", ""))}
    key = next((key for key in FILTERS if is_true(device.get(key, ""))), FILTERS[0])
    return {**device, key: "true" if device.get(key) == "1" else "1"}


def _respelled_size(value: str) -> str:
    plain = f"{parse_bytes(value)}"
    return plain if value == f"{plain}B" else f"{plain}B"


def _processors(limit: str, held: frozenset[int] | None, cpus: int) -> Iterator[Lack]:
    """A count is that many of the host's; of a set, those count that the host has."""
    try:
        wanted = Cpu.parse(limit)
    except ValueError:
        return
    if not held:
        return
    if wanted.ids:
        missing = {cpu for cpu in wanted.ids if cpu < cpus} - held
        differs = bool(missing or not held <= set(wanted.ids))
        if not any(cpu < cpus for cpu in wanted.ids):  # it has none of them: Incus hands out what it likes
            differs = False
    else:
        differs = len(held) != min(wanted.count, cpus)
    if differs:
        shown = ",".join(map(str, sorted(held))) if wanted.ids else str(len(held))
        yield Lack(CPU, "spec.resources.cpu", f"{shown} in the kernel", limit)


def _differs(configured: str, held: int) -> bool:
    try:
        wanted = parse_bytes(configured)
    except ValueError:
        return False
    return wanted > 0 and abs(wanted - held) >= _ROUNDING


def _choked(instance: Instance, held: Enforcement) -> bool:
    return 0 < (held.disk or 0) < parse_bytes(instance.devices[ROOT_DEVICE]["size"])


def is_true(value: str) -> bool:
    """Whether Incus takes a flag's value for yes."""
    return value.lower() in _TRUE


def _in_kernel(size: int) -> str:
    if not size:
        return "no limit in the kernel"
    unit, factor = next(((unit, factor) for unit, factor in _UNITS if size >= factor), ("B", 1))
    amount = f"{size / factor:.1f}" if size % factor else f"{size // factor}"
    return f"{amount}{unit} in the kernel"
