"""Hands inside a running guest: its account, keys, packages, services. Argument lists only; exit codes count."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import time
from collections.abc import Sequence

from containarium.host.cancel import GLANCE, NEVER, Never
from containarium.host.command import Completed
from containarium.host.faults import COMMAND_LOST, clean
from containarium.host.guestkeys import GuestKeys
from containarium.host.guestpackages import Packages
from containarium.host.guestuser import GuestUsers
from containarium.host.incus import Incus
from containarium.host.instances import Instances, runs
from containarium.model import action as act
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, WaitingError, silent

_SERVICES = ("docker", "ssh")
_SERVICE_TIMEOUT = 150.0
_LOGIN_TIMEOUT = 60.0
_CONNECT_TIMEOUT = 1.0
_BANNER_TIMEOUT = 5.0
_BANNER = 255
_ATTEMPTS = 5
_MASKED = re.compile(r"is masked", re.IGNORECASE)
_NO_UNIT = re.compile(r"(does not exist|not found|could not be found|No such file)", re.IGNORECASE)


class GuestHands:
    """Carries out the actions that happen inside a guest."""

    def __init__(self, incus: Incus, instances: Instances) -> None:
        self._incus = incus
        self._instances = instances
        self._users = GuestUsers(incus)
        self._keys = GuestKeys(incus)
        self._packages = Packages(incus)

    def execute(self, action: act.InstanceAction, progress: Progress = silent) -> None:
        """Carry out one action in a running guest of ours. Raises HostError."""
        there = self._instances.owned(action.instance, action.environment).value
        if not runs(there):
            raise WaitingError(
                f"{action.instance} is not running ({there.get('status')})",
                remedy="it is tried again once it runs",
                reason="NotRunning",
            )
        # every action looks before it acts, so one with a command whose fate is unknown is simply gone through again
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._carry_out(action, progress)
            except HostError as error:
                if error.reason != COMMAND_LOST or attempt == _ATTEMPTS:
                    raise
            else:
                return

    def _carry_out(self, action: act.InstanceAction, progress: Progress) -> None:
        match action:
            case act.SetUpUser():
                progress(f"setting up the user {action.user}")
                self._users.set_up(action)
            case act.WriteGuestKeys():
                progress(f"writing the keys of {action.user}")
                self._keys.write(action)
            case act.InstallPackages():
                self._packages.install(action.instance, action.packages, progress)
            case act.EnableService():
                progress(f"enabling {action.service}")
                self._enable(action)
            case act.LockGuestRoot():
                self._users.lock_root(action.instance)
            case act.AwaitLogin():
                progress(f"waiting for SSH at {action.address}")
                await_login(action.address, cancellation=self._incus.cancellation)
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


def await_login(address: str, timeout: float = _LOGIN_TIMEOUT, cancellation: Never = NEVER) -> None:
    """Wait until an SSH server greets on port 22 of an IPv4 address, for at most ``timeout`` seconds."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        raise TerminalError(f"{clean(address, 60)!r} is no IPv4 address", reason="BadAddress") from error
    deadline = time.monotonic() + timeout
    pause, why = 0.1, "no answer"
    while True:
        try:
            patience = max(0.1, min(_BANNER_TIMEOUT, deadline - time.monotonic()))
            greeting = _greeting(address, patience, cancellation)
            if greeting.startswith(b"SSH-"):
                return
            why = (
                f"it answers {clean(greeting.decode(errors='replace'), 60)!r}"
                if greeting
                else "it closes the connection"
            )
        except TimeoutError:
            why = "no answer"
        except OSError as error:
            why = (error.strerror or str(error)).lower()
        if time.monotonic() + pause > deadline:
            raise RetryableError(
                f"no SSH server at {address}:22 within {timeout:.0f} s: {why}",
                remedy="see `systemctl status ssh` in the guest",
                reason="NoLogin",
            )
        cancellation.sleep(pause)
        pause = min(1.0, pause * 1.4)


def _greeting(address: str, patience: float, cancellation: Never = NEVER) -> bytes:
    greeting = b""
    deadline = time.monotonic() + patience  # for all of it: a guest may send one byte at a time
    with socket.create_connection((address, 22), timeout=min(patience, _CONNECT_TIMEOUT)) as connection:
        while b"\n" not in greeting and len(greeting) < _BANNER and time.monotonic() < deadline:
            cancellation.check()
            connection.settimeout(max(0.01, min(GLANCE, deadline - time.monotonic())))
            with contextlib.suppress(TimeoutError):
                more = connection.recv(_BANNER - len(greeting))
                if not more:
                    break
                greeting += more
    return greeting


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
