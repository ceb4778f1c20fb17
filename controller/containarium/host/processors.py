"""Whether a running instance really has the processors that it was given.

Incus hands them out in a task of its own, which may read the configuration before the change has reached its database.
Then nothing happens until somebody changes a limit again: so this looks, and changes it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from containarium.host.incus import Incus
from containarium.model.host import RetryableError
from containarium.model.quantity import Cpu

KEY = "limits.cpu"
_CGROUPS = Path("/sys/fs/cgroup")
_LAYOUTS = ("cpuset/lxc.payload.{}/cpuset.cpus", "lxc.payload.{}/cpuset.cpus")
"""Of the two generations of cgroups."""
_ATTEMPTS = 3
_LOOKS = 15
_PAUSE = 0.1


class Processors:
    """Looks at the kernel's own idea of an instance's processors."""

    def __init__(self, incus: Incus, cgroups: Path = _CGROUPS, sleep: Callable[[float], None] = time.sleep) -> None:
        self._incus = incus
        self._cgroups = cgroups
        self._sleep = sleep

    def settle(self, instance: str, limit: str) -> None:
        """Wait until the limit is in force, and set it anew where it does not come. Where nothing can be told, nothing
        is claimed. Raises RetryableError (LimitNotInForce).
        """
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._incus.patch("instances", instance, body={"config": {KEY: ""}})
                self._incus.patch("instances", instance, body={"config": {KEY: limit}})
            for _ in range(_LOOKS):
                if self._in_force(instance, limit):
                    return
                self._sleep(_PAUSE)
        raise RetryableError(
            f"{instance} does not have the processors that it was given ({limit})",
            remedy=f"it is tried again; or restart it: incus restart {instance}",
            reason="LimitNotInForce",
        )

    def _in_force(self, instance: str, limit: str) -> bool:
        has = self._assigned(instance)
        there = os.sched_getaffinity(0)
        try:
            wanted = Cpu.parse(limit)
        except ValueError:
            return True
        if has is None or not has or not set(wanted.ids) <= there:
            return True
        return has == set(wanted.ids) if wanted.ids else len(has) == min(wanted.count, len(there))

    def _assigned(self, instance: str) -> set[int] | None:
        for layout in _LAYOUTS:
            try:
                text = (self._cgroups / layout.format(instance)).read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                continue
            return _ids(text)
        return None


def _ids(text: str) -> set[int]:
    """The kernel's list format: ``0-1,3``."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
