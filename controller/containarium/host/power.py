"""Starting and stopping. A start that succeeded is not yet a living guest, and a graceful stop may never end."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from containarium.host.cancel import CancelledError
from containarium.host.command import Run
from containarium.host.fragments import Fragments
from containarium.host.headroom import Headroom
from containarium.host.incus import Incus
from containarium.host.instances import Instances, half_born, runs
from containarium.host.ports import IN_THE_WAY, Ports
from containarium.host.quotas import Quotas
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent

_START_TIMEOUT = 60.0
_STARTING = "Starting instance"
"""Incus' name for the operation."""
GRACE = 30
"""Seconds that a guest has to shut down in order."""
_FORCED = 30
_OVERRUN = 5.0
"""How much longer than asked for Incus may take to say that a guest did not stop in time."""
_YOUNG = 30.0
"""Seconds after its start for which a guest's init may not listen yet to a request to stop."""
_LISTENS_PAUSE = 0.05
_ADDRESS_PATIENCE = 20.0
"""Seconds for which the start of a guest with a full disk may take until it has an address."""
_ADDRESS_PAUSE = 0.2
_SIGNALS = re.compile(r"^Sig(?:Blk|Cgt):\s*([0-9a-f]+)$", re.MULTILINE)
_STOP = 1 << 36 | 1 << 29
"""SIGRTMIN+3, which asks systemd to stop, and SIGPWR, which asks any other init, in the kernel's masks."""


class Power:
    """Starts and stops instances of ours."""

    def __init__(
        self,
        incus: Incus,
        instances: Instances,
        grace: int = GRACE,
        proc: Path = Path("/proc"),
        headroom: Headroom | None = None,
        ports: Ports | None = None,
        fragments: Fragments | None = None,
    ) -> None:
        """With ``headroom``, a guest that has filled its disk can start; with ``ports``, one whose port was left; with
        ``fragments``, one that was never whole is given up, to be made anew.
        """
        self._incus = incus
        self._instances = instances
        self._grace = grace
        self._proc = proc
        self._headroom = headroom
        self._ports = ports
        self._fragments = fragments

    @classmethod
    def on_this_host(cls, incus: Incus, instances: Instances, settings: HostSettings, run: Run) -> Power:
        """With everything that helps a start. ``run`` heeds no cancellation: a limit that was lifted is set again."""
        return cls(
            incus,
            instances,
            headroom=Headroom(settings, Quotas(run)),
            ports=Ports(incus, run),
            fragments=Fragments(incus, settings),
        )

    def start(self, name: str, environment: str, progress: Progress = silent) -> None:
        """Start or thaw the instance. Its init then boots: it takes commands at once, and has an address later."""
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
            self._start_somehow(name, there, progress)

    def stop(self, name: str, environment: str, progress: Progress = silent, patience: float | None = None) -> None:
        """Stop the instance: gracefully for ``patience`` seconds (None: ``grace``), then by force. One that is stopped
        stays so.
        """
        grace = self._grace if patience is None else round(patience)
        there = self._instances.owned(name, environment).value
        status = there.get("status")
        if status == "Stopped" and not self._start_ended(name):
            return
        progress(f"stopping {name}")
        if grace <= 0:
            self._force(name)
            return
        try:
            if status == "Frozen":  # a frozen guest cannot hear the request
                self._state(name, "unfreeze", _START_TIMEOUT)
            if running_for(there) < _YOUNG:
                self._await_hearing(name, grace / 2)
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

    def _start_somehow(self, name: str, there: Mapping[str, Any], progress: Progress) -> None:
        """Start, and once more without what is known to be in the way."""
        try:
            self._start_past_port(name, there, progress)
        except HostError as error:
            if self._fragments is not None:
                self._fragments.give_up(there, error)
            if error.reason != "QuotaExceeded" or self._headroom is None:
                raise
            with self._headroom.given(there) as roomier:
                if not roomier:
                    raise
                progress(f"its disk is full: starting {name} with a little more room")
                self._start(name)
                self._await_address(name)

    def _start_past_port(self, name: str, there: Mapping[str, Any], progress: Progress) -> None:
        try:
            self._start(name)
        except HostError as error:
            if IN_THE_WAY not in error.message or self._ports is None or not self._ports.clear(there):
                raise
            progress(f"a port that was left behind is removed: starting {name} again")
            self._start(name)

    def _await_address(self, name: str) -> None:
        """A DHCP client that cannot write down its lease declines it, and the address is lost to its guest."""
        deadline = time.monotonic() + _ADDRESS_PATIENCE
        while time.monotonic() < deadline:
            if has_address(self._incus.get("instances", name, "state")):
                return
            self._incus.cancellation.sleep(_ADDRESS_PAUSE)

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

    def _await_hearing(self, name: str, patience: float) -> None:
        """Wait until init listens: a request that comes earlier is lost, and the guest's time would pass in vain."""
        deadline = time.monotonic() + patience
        pid = self._incus.get("instances", name, "state").get("pid")
        with contextlib.suppress(OSError):  # it ended, or Incus numbers processes in another namespace
            while pid and time.monotonic() < deadline:
                masks = _SIGNALS.findall((self._proc / str(int(pid)) / "status").read_text())
                if any(int(mask, 16) & _STOP for mask in masks):
                    return
                self._incus.cancellation.sleep(_LISTENS_PAUSE)

    def _force(self, name: str) -> None:
        try:
            self._state(name, "stop", _FORCED + 15.0, timeout=_FORCED, force=True)
        except HostError as error:
            if not _already(error, "stopped"):
                raise

    def _state(self, name: str, action: str, patience: float, **options: Any) -> None:
        self._incus.put("instances", name, "state", body={"action": action, **options}, timeout=patience)


def running_for(there: Mapping[str, Any]) -> float:
    """Seconds since an instance, in Incus' own words, was last started; infinite where that is not known."""
    try:
        started = datetime.fromisoformat(str(there.get("last_used_at")))
        past = (datetime.now(UTC) - started).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return float("inf")
    return past if past >= 0 else float("inf")


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
