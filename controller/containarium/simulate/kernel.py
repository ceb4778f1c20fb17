"""What the simulated kernel holds a running instance to. Incus hands it out at the start, and on a change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from containarium.model.observed import Enforcement, HostFacts, Instance, InstanceStatus
from containarium.model.quantity import Cpu, parse_bytes
from containarium.plan.desired import NIC_DEVICE, ROOT_DEVICE
from containarium.plan.enforce import CPU, FILTERS, MEMORY, PROCESSES, is_true

PAGE = 4096
_WITHOUT_QUOTAS = frozenset({"dir", "lvm"})


def hand_out(held: Enforcement | None, before: Instance | None, after: Instance, host: HostFacts) -> Enforcement | None:
    """What holds after an instance was changed: only what its configuration changed is handed out anew, and all of it
    at a start. None for one that does not run.
    """
    if after.status is InstanceStatus.FROZEN:
        return held
    if after.status is not InstanceStatus.RUNNING:
        return None
    if held is None or before is None or before.status is InstanceStatus.STOPPED:
        return _all(after, host)
    fresh = _all(after, host)
    changed: dict[str, Any] = {}
    for field, key in (("memory", MEMORY), ("processes", PROCESSES), ("cpus", CPU)):
        if before.config.get(key) != after.config.get(key):
            changed[field] = getattr(fresh, field)
    for field, device in (("disk", ROOT_DEVICE), ("filters", NIC_DEVICE)):
        if before.devices.get(device) != after.devices.get(device):
            changed[field] = getattr(fresh, field)
    return replace(held, **changed)


def _all(instance: Instance, host: HostFacts) -> Enforcement:
    config, devices = instance.config, instance.devices
    nic = devices.get(NIC_DEVICE, {})
    processes = config.get(PROCESSES, "")
    return Enforcement(
        memory=_bytes(config.get(MEMORY, "")) // PAGE * PAGE,
        processes=int(processes) if processes.isdecimal() else 0,
        cpus=_cpus(config.get(CPU, ""), host.cpus),
        disk=None if host.pool_driver in _WITHOUT_QUOTAS else _bytes(devices.get(ROOT_DEVICE, {}).get("size", "")),
        filters=True if any(is_true(nic.get(key, "")) for key in FILTERS) else None,
    )


def _cpus(limit: str, there: int) -> frozenset[int]:
    if limit.startswith("0") and limit[1:2].isdecimal():  # Incus takes a leading zero
        limit = limit[1:]
    try:
        wanted = Cpu.parse(limit)
    except ValueError:
        return frozenset(range(there))
    return frozenset(cpu for cpu in wanted.ids or range(wanted.count) if cpu < there) or frozenset(range(there))


def _bytes(size: str) -> int:
    try:
        return parse_bytes(size)
    except ValueError:
        return 0
