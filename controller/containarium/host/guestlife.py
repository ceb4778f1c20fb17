"""Whether a guest lives: since when, with which address, and what it means when it does not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from containarium.host.incus import Incus
from containarium.host.instances import runs
from containarium.host.power import has_address, running_for
from containarium.model.host import HostError, RetryableError, WaitingError

_JUST = 20.0
"""Seconds after a start within which a guest that does not run has ended by itself: nobody stops it so soon."""
_ADDRESS_TIMEOUT = 60.0
_PAUSE = 0.1


def not_running(there: Mapping[str, Any]) -> HostError:
    """The error for an instance that ought to run and does not."""
    name = str(there.get("name"))
    if there.get("status") == "Stopped" and running_for(there) < _JUST:
        return died(name)
    return WaitingError(
        f"{name} is not running ({there.get('status')})", remedy="it is tried again once it runs", reason="NotRunning"
    )


def died(name: str) -> RetryableError:
    """The error for a guest that was started and has ended by itself."""
    return RetryableError(
        f"{name} started, but its init exited at once",
        remedy="most often a host limit: set fs.inotify.max_user_instances=1048576 and "
        f"kernel.keys.maxkeys=2000 (containarium host prepare), and see incus info {name} --show-log",
        reason="GuestDied",
    )


def no_address(name: str, patience: float) -> RetryableError:
    """The error for a guest that lives and has no address."""
    return RetryableError(
        f"{name} runs, but got no IPv4 address within {patience:.0f} s",
        remedy=f"see its network (incus exec {name} -- ip addr) and the host's DHCP (containarium doctor)",
        reason="NoAddress",
    )


def await_address(incus: Incus, there: Mapping[str, Any]) -> None:
    """Wait until a running instance, in Incus' own words, has an IPv4 address; one without a network card needs none.

    Raises RetryableError: NoAddress after a minute, GuestDied when it stops meanwhile.
    """
    if not any(device.get("type") == "nic" for device in (there.get("expanded_devices") or {}).values()):
        return
    name = str(there["name"])
    deadline = time.monotonic() + _ADDRESS_TIMEOUT
    while True:
        state = incus.get("instances", name, "state")
        if not runs(state) or not state.get("pid"):
            raise died(name)
        if has_address(state):
            return
        if time.monotonic() > deadline:
            raise no_address(name, _ADDRESS_TIMEOUT)
        incus.cancellation.sleep(_PAUSE)
