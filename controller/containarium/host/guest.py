"""Hands inside a running guest: its account, keys, packages, services. Argument lists only; exit codes count."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from containarium.host.command import Completed
from containarium.host.faults import COMMAND_LOST, clean
from containarium.host.guestkeys import GuestKeys
from containarium.host.guestlife import await_address, not_running
from containarium.host.guestpackages import Packages
from containarium.host.guestuser import GuestUsers
from containarium.host.incus import Incus
from containarium.host.instances import Instances, parse, runs
from containarium.host.login import Doorstep, await_login
from containarium.host.look import Glance, GuestLook
from containarium.host.power import running_for
from containarium.model import action as act
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent
from containarium.model.observed import Password

_SERVICES = ("docker", "ssh")
_SERVICE_TIMEOUT = 150.0
_BOOT = 90.0
"""Seconds after a guest's start for which the boot itself starts what is enabled."""
_ATTEMPTS = 5
_MASKED = re.compile(r"is masked", re.IGNORECASE)
_NO_UNIT = re.compile(r"(does not exist|not found|could not be found|No such file)", re.IGNORECASE)


class GuestHands:
    """Carries out the actions that happen inside a guest. What a look from the host finds right costs no command."""

    def __init__(self, incus: Incus, instances: Instances, look: GuestLook) -> None:
        self._incus = incus
        self._instances = instances
        self._look = look
        self._users = GuestUsers(incus)
        self._keys = GuestKeys(incus)
        self._packages = Packages(incus)
        self._newcomers: dict[str, tuple[str, ...]] = {}
        """By instance, the keys with which this process has just made its account."""

    def execute(self, action: act.InstanceAction, progress: Progress = silent) -> None:
        """Carry out one action in a running guest of ours. Raises HostError."""
        there = self._instances.owned(action.instance, action.environment).value
        if not runs(there):
            raise not_running(there)
        # every action looks before it acts, so one with a command whose fate is unknown is simply gone through again
        for attempt in range(1, _ATTEMPTS + 1):
            seen = self._look.glance(parse(there), action.environment)
            if seen is not None and _is_right(action, seen, there):
                return
            try:
                self._carry_out(action, there, seen, progress)
            except HostError as error:
                if error.reason != COMMAND_LOST or attempt == _ATTEMPTS:
                    raise
            else:
                return

    def _carry_out(
        self, action: act.InstanceAction, there: Mapping[str, Any], seen: Glance | None, progress: Progress
    ) -> None:
        match action:
            case act.SetUpUser():
                progress(f"setting up the user {action.user}")
                if self._users.set_up(action, is_new=seen is not None and seen.user is None):
                    self._newcomers[action.instance] = action.keys
            case act.WriteGuestKeys():
                if self._newcomers.pop(action.instance, None) == action.keys:
                    return
                progress(f"writing the keys of {action.user}")
                self._keys.write(action, seen.user if seen is not None else None)
            case act.InstallPackages():
                await_address(self._incus, there)
                self._packages.install(action.instance, action.packages, progress)
            case act.EnableService():
                progress(f"enabling {action.service}")
                self._enable(action)
            case act.LockGuestRoot():
                self._users.lock_root(action.instance)
            case act.AwaitLogin():
                progress(f"waiting for SSH at {action.address}")
                doorstep = Doorstep(self._incus, action.instance, action.address)
                await_login(action.address, doorstep, cancellation=self._incus.cancellation)
            case _:
                raise TerminalError(
                    f"this host cannot carry out {type(action).__name__}",
                    remedy="update containarium",
                    reason="UnknownAction",
                )

    def _enable(self, action: act.EnableService) -> None:
        if action.service not in _SERVICES:
            raise TerminalError(f"{clean(action.service, 60)!r} is no service of ours", reason="UnknownService")
        enable = ["systemctl", "enable", "--now", "--", action.service]
        done = self._run(action.instance, enable)
        if done.code != 0 and _MASKED.search(done.err):
            self._run(action.instance, ["systemctl", "unmask", "--", action.service])
            done = self._run(action.instance, enable)
        if done.code != 0:
            raise _service_error(action.service, action.instance, done)

    def _run(self, instance: str, args: Sequence[str]) -> Completed:
        return self._incus.execute(instance, args, timeout=_SERVICE_TIMEOUT)


def _is_right(action: act.InstanceAction, seen: Glance, there: Mapping[str, Any]) -> bool:
    """Whether a guest is already as an action wants it."""
    match action:
        case act.InstallPackages():
            return seen.guest.packages.issuperset(action.packages)
        case act.LockGuestRoot():
            return seen.guest.root_password is Password.NONE
        case act.EnableService():
            enabled = {"docker": seen.guest.docker, "ssh": seen.guest.ssh}.get(action.service, False)
            return enabled and running_for(there) < _BOOT
    return False


def _service_error(service: str, instance: str, done: Completed) -> HostError:
    words = clean(done.tail)
    if done.code == 127 or _NO_UNIT.search(done.err):
        return TerminalError(
            f"{instance} has no service {service}: {words}",
            remedy="install its package (spec.packages), or use an image with systemd",
            reason="ServiceMissing",
        )
    return RetryableError(
        f"{service} does not start in {instance}: {words}",
        remedy=f"incus exec {instance} -- journalctl -u {service} -n 50",
        reason="ServiceFailed",
    )
