"""What one environment uses at this moment: one bounded request to Incus, which no look at the host makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.plan.desired import ROOT_DEVICE

TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Bytes, seconds and counts; None where Incus does not know (a stopped guest, a pool without quotas)."""

    memory: int | None = None
    disk: int | None = None
    cpu: float | None = None
    """Processor time since the start."""
    processes: int | None = None


def figures(settings: HostSettings, instance: str, incus: Incus | None = None) -> Figures:
    """Look. Raises HostError where Incus does not answer in time."""
    state = (incus or Incus(settings)).get("instances", instance, "state", timeout=TIMEOUT)
    usage = _number(_below(state, "cpu", "usage"))
    return Figures(
        memory=_number(_below(state, "memory", "usage")),
        disk=_number(_below(state, "disk", ROOT_DEVICE, "usage")),
        cpu=usage / 1e9 if usage is not None else None,
        processes=_number(_below(state, "processes")),
    )


def _below(data: Any, *names: str) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _number(found: Any) -> int | None:
    """A count above nothing: Incus writes 0 or -1 for what it does not know."""
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None
