"""What environments and the host use at present, as Incus counts it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from containarium.host.boot import seconds_since_boot
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError

SAMPLE = 0.25
"""Seconds between the two looks of which the load of the processors is told."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one instance. Sizes in bytes; a limit of 0 is none, or not known. ``cpu_percent`` is of one processor."""

    instance: str
    cpu_percent: float = 0.0
    memory: int = 0
    memory_limit: int = 0
    disk: int = 0
    disk_limit: int = 0
    received: int = 0
    sent: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class System:
    """Of the host. Sizes in bytes, ``uptime`` in seconds."""

    incus: str
    os: str
    kernel: str
    cpus: int
    memory: int
    memory_free: int
    disk: int
    disk_free: int
    hostname: str
    uptime: int


class Meter:
    """Asks Incus. Each method may raise HostError."""

    def __init__(
        self,
        settings: HostSettings,
        incus: Incus | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._incus = incus or Incus(settings)
        self._pool = settings.pool
        self._sleep = sleep
        self._ticks = ticks

    def usage(self, name: str = "") -> tuple[Usage, ...]:
        """Of one environment, or of all of ours that run, sorted. Takes a quarter of a second."""
        before, began = self._states(name), self._ticks()
        self._sleep(SAMPLE)
        after, took = self._states(name), max(self._ticks() - began, SAMPLE / 10)
        return tuple(
            _usage(instance, state, (_cpu(state) - _cpu(before[instance])) / took)
            for instance, state in sorted(after.items())
            if instance in before
        )

    def system(self) -> System:
        """The host itself."""
        environment = self._incus.get().get("environment") or {}
        resources = self._incus.get("resources")
        try:
            space = self._incus.get("storage-pools", self._pool, "resources").get("space") or {}
        except HostError:  # a pool of another name, or one that is away
            space = {}
        memory = resources.get("memory") or {}
        return System(
            incus=str(environment.get("server_version", "")),
            os=f"{environment.get('os_name', '')} {environment.get('os_version', '')}".strip(),
            kernel=str(environment.get("kernel_version", "")),
            cpus=int((resources.get("cpu") or {}).get("total") or os.cpu_count() or 0),
            memory=_positive(memory.get("total")),
            memory_free=max(0, _positive(memory.get("total")) - _positive(memory.get("used"))),
            disk=_positive(space.get("total")),
            disk_free=max(0, _positive(space.get("total")) - _positive(space.get("used"))),
            hostname=str(environment.get("server_name", "")),
            uptime=int(seconds_since_boot()),
        )

    def _states(self, name: str) -> dict[str, Mapping[str, Any]]:
        if name:
            instance = marks.instance_name(name)
            found = self._incus.find("instances", instance, "state")
            return {instance: found} if found is not None else {}
        return {
            str(each["name"]): each["state"]
            for each in self._incus.get("instances", recursion="2")
            if marks.ENVIRONMENT in (each.get("config") or {}) and each.get("state")
        }


def _cpu(state: Mapping[str, Any]) -> float:
    """Seconds of processor time; Incus says -1 where it does not know."""
    return _positive((state.get("cpu") or {}).get("usage")) / 1e9


def _usage(instance: str, state: Mapping[str, Any], load: float) -> Usage:
    memory, root = state.get("memory") or {}, (state.get("disk") or {}).get("root") or {}
    counters = [card.get("counters") or {} for key, card in (state.get("network") or {}).items() if key != "lo"]
    return Usage(
        instance=instance,
        cpu_percent=round(max(0.0, load) * 100, 1),
        memory=_positive(memory.get("usage")),
        memory_limit=_positive(memory.get("total")),
        disk=_positive(root.get("usage")),
        disk_limit=_positive(root.get("total")),
        received=sum(_positive(each.get("bytes_received")) for each in counters),
        sent=sum(_positive(each.get("bytes_sent")) for each in counters),
        processes=_positive(state.get("processes")),
    )


def _positive(value: Any) -> int:
    return max(0, int(value or 0))
