"""How full the disks are: the pool's, and those of the environments. Asked of Incus, and slow with many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.quantity import parse_bytes
from containarium.plan.desired import ROOT_DEVICE

_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes in use, and bytes that there are."""

    used: int
    size: int

    @property
    def share(self) -> float:
        """How full it is, from 0 to 1 (or more, where a quota was shrunk)."""
        return self.used / self.size if self.size > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Disks:
    """The pool's disk, and by environment the one that its quota gives it."""

    pool: Disk
    environments: Mapping[str, Disk] = field(default_factory=dict)


def disks(settings: HostSettings, incus: Incus | None = None) -> Disks:
    """Look. Raises HostError where Incus does not answer."""
    incus = incus or Incus(settings)
    space = (incus.get("storage-pools", settings.pool, "resources") or {}).get("space") or {}
    found = {}
    for raw in incus.get("instances", recursion="2", timeout=_TIMEOUT):
        name = (raw.get("config") or {}).get(marks.ENVIRONMENT)
        disk = _disk(raw)
        if name and disk is not None:
            found[str(name)] = disk
    return Disks(Disk(_number(space.get("used")), _number(space.get("total"))), dict(sorted(found.items())))


def _disk(raw: Mapping[str, Any]) -> Disk | None:
    """None where it has no quota, or the pool does not count what it uses."""
    root = (raw.get("expanded_devices") or raw.get("devices") or {}).get(ROOT_DEVICE) or {}
    usage = _number((((raw.get("state") or {}).get("disk") or {}).get(ROOT_DEVICE) or {}).get("usage"))
    try:
        size = parse_bytes(str(root.get("size", "")))
    except ValueError:
        return None
    return Disk(usage, size) if usage and size else None


def _number(found: Any) -> int:
    return found if isinstance(found, int) and found > 0 else 0
