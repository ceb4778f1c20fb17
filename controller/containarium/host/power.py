"""Starting and stopping. A start that succeeded is not yet a living guest, and a graceful stop may never end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from containarium.host.cancel import CancelledError
from containarium.host.incus import Incus
from containarium.host.instances import Instances, half_born, runs
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent

_START_TIMEOUT = 60.0
_STARTING = "Starting instance"
"""Incus' name for the operation."""
_ADDRESS_TIMEOUT = 60.0
_FIRST_PAUSE = 0.15
_LONGEST_PAUSE = 1.0
GRACE = 30
"""Seconds that a guest has to shut down in order."""
_FORCED = 30
_OVERRUN = 5.0
"""How much longer than asked for Incus may take to say that a guest did not stop in time."""


class Power:
    """Starts and stops instances of ours."""

    def __init__(self, incus: Incus, instances: Instances, grace: int = GRACE) -> None:
        self._incus = incus
        self._instances = instances
        self._grace = grace

    def start(self, name: str, environment: str, progress: Progress = silent) -> None:
        """Start or thaw the instance, and wait until its init lives and has an IPv4 address."""
        there = self._instances.owned(name, environment).value
        if half_born(there):
            raise TerminalError(
                f"the creation of {name} was interrupted, it can never start",
                remedy="the next apply makes it anew",
                reason="HalfBorn",
            )
        if there.get("status") == "Frozen":
            self._state(name, "unfreeze", _START_TIMEOUT)
        elif not runs(there):
            progress(f"starting {name}")
            self._start(name)
        networked = any(device.get("type") == "nic" for device in (there.get("expanded_devices") or {}).values())
        self._await_life(name, networked)

    def stop(self, name: str, environment: str, progress: Progress = silent, patience: float | None = None) -> None:
        """Stop the instance: gracefully for ``patience`` seconds (None: ``grace``), then by force. One that is stopped
        stays so.
        """
        grace = self._grace if patience is None else round(patience)
        status = self._instances.owned(name, environment).value.get("status")
        if status == "Stopped" and not self._start_ended(name):
            return
        progress(f"stopping {name}")
        if grace <= 0:
            self._force(name)
            return
        try:
            if status == "Frozen":  # a frozen guest cannot hear the request
                self._state(name, "unfreeze", _START_TIMEOUT)
            # where a graceful stop is under way already, Incus waits for that one, for as long as this one says
            self._state(name, "stop", grace + _OVERRUN, timeout=grace)
        except CancelledError:
            raise
        except HostError as error:
            if _already(error, "stopped"):
                return
            # it stays locked by the graceful stop until it really stops; force is let through
            progress(f"stopping {name} by force")
            self._force(name)

    def restart(self, name: str, environment: str, progress: Progress = silent) -> None:
        """Stop and start again."""
        self.stop(name, environment, progress)
        self.start(name, environment, progress)

    def _start(self, name: str) -> None:
        try:
            self._state(name, "start", _START_TIMEOUT)
        except HostError as error:
            if not _already(error, "running"):
                raise

    def _start_ended(self, name: str) -> bool:
        """Whether somebody was just starting the instance, which Incus shows as stopped until it runs. It does then."""
        running = (self._incus.get("operations", recursion="1") or {}).get("running") or ()
        for operation in running:
            touched = (operation.get("resources") or {}).get("instances") or ()
            if operation.get("description") == _STARTING and f"/1.0/instances/{name}" in touched:
                with contextlib.suppress(HostError):
                    self._incus.wait(operation["id"], _START_TIMEOUT)
                return True
        return False

    def _force(self, name: str) -> None:
        try:
            self._state(name, "stop", _FORCED + 15.0, timeout=_FORCED, force=True)
        except HostError as error:
            if not _already(error, "stopped"):
                raise

    def _state(self, name: str, action: str, patience: float, **options: Any) -> None:
        self._incus.put("instances", name, "state", body={"action": action, **options}, timeout=patience)

    def _await_life(self, name: str, networked: bool) -> None:
        deadline = time.monotonic() + _ADDRESS_TIMEOUT
        pause = _FIRST_PAUSE
        while True:
            self._incus.cancellation.sleep(pause)
            state = self._incus.get("instances", name, "state")
            if not runs(state) or not state.get("pid"):
                raise RetryableError(
                    f"{name} started, but its init exited at once",
                    remedy="most often a host limit: set fs.inotify.max_user_instances=1048576 and "
                    f"kernel.keys.maxkeys=2000 (containarium host prepare), and see incus info {name} --show-log",
                    reason="GuestDied",
                )
            if not networked or has_address(state):
                return
            if time.monotonic() > deadline:
                raise RetryableError(
                    f"{name} runs, but got no IPv4 address within {_ADDRESS_TIMEOUT:.0f} s",
                    remedy=f"see its network (incus exec {name} -- ip addr) and the host's DHCP (containarium doctor)",
                    reason="NoAddress",
                )
            pause = min(_LONGEST_PAUSE, pause * 1.5)


def has_address(state: Mapping[str, Any]) -> bool:
    """Whether an instance's state shows an IPv4 address that others can reach."""
    return any(
        address.get("family") == "inet" and address.get("scope") == "global"
        for name, link in (state.get("network") or {}).items()
        if name != "lo"
        for address in link.get("addresses") or ()
    )


def _already(error: HostError, state: str) -> bool:
    return isinstance(error, RetryableError | TerminalError) and f"already {state}" in error.message
