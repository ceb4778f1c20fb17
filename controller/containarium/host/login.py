"""Waiting until a guest's SSH server greets.

A connection that is tried before the guest has its address makes the kernel ask for its hardware address, and ask
again only once a second. So the guest's addresses are looked at first, as the kernel shows them, which costs neither a
request nor a packet; from then on a connection that nobody takes is refused at once. (The tables of sockets would say
more, but the kernel searches all of the machine's for each look.) It is a hint: what counts is the greeting.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import time
from pathlib import Path
from typing import Any, Protocol

from containarium.host.cancel import GLANCE, NEVER, Never
from containarium.host.faults import clean
from containarium.host.guestlife import died, no_address
from containarium.host.incus import Incus
from containarium.host.instances import runs
from containarium.host.power import has_address
from containarium.model.host import RetryableError, TerminalError

LOGIN_TIMEOUT = 60.0
_CONNECT_TIMEOUT = 0.25
_BANNER_TIMEOUT = 5.0
_BANNER = 255
_PAUSE = 0.03
_LONGEST_PAUSE = 0.25
_GROWTH = 1.03
_BLIND = 5.0
"""Seconds after which a connection is tried whatever addresses the guest has."""
_LARGEST = 64 * 1024
"""Bytes that are read of the kernel's table: a guest can make it as long as it likes."""


class Sight(Protocol):
    """What can be known of a port without trying it."""

    def ready(self) -> bool:
        """Whether it is worth a try."""
        ...

    def explain(self, patience: float) -> None:
        """Raise the HostError that says why nobody greeted for so many seconds, where something better is known."""
        ...


class Doorstep:
    """One guest, as the kernel shows the network of its init."""

    def __init__(self, incus: Incus, name: str, address: str, proc: Path = Path("/proc")) -> None:
        self._incus = incus
        self._name = name
        self._address = re.compile(rb"\|-- " + re.escape(address.encode()) + rb"$", re.MULTILINE)
        self._proc = proc
        self._table: Path | None = None
        self._hidden = False

    def ready(self) -> bool:
        """Whether the guest has the address; true, too, where that cannot be seen.

        Raises RetryableError (GuestDied) when the guest has ended.
        """
        if self._table is not None and (seen := self._look(self._table)) is not None:
            return seen
        if self._hidden:
            return True
        state = self._state()
        if not runs(state) or not state.get("pid"):
            raise died(self._name)
        table, seen = self._proc / str(int(state["pid"])) / "net/fib_trie", None
        if table != self._table:
            # an init that is never seen is there, but not for us: Incus numbers processes in another namespace
            seen = self._look(table)
            self._hidden = self._table is None and seen is None
            self._table = table
        return self._hidden or bool(seen)

    def explain(self, patience: float) -> None:
        """Raise what explains better than a silent port that nobody greets: no life, or no address."""
        state = self._state()
        if not runs(state):
            raise died(self._name)
        if not has_address(state):
            raise no_address(self._name, patience)

    def _state(self) -> Any:
        return self._incus.get("instances", self._name, "state")

    def _look(self, table: Path) -> bool | None:
        """None where the kernel does not show it (any more)."""
        try:
            return self._address.search(_start_of(table)) is not None
        except OSError:
            return None


def await_login(
    address: str,
    doorstep: Sight,
    timeout: float = LOGIN_TIMEOUT,
    cancellation: Never = NEVER,
) -> None:
    """Wait until an SSH server greets on port 22 of an IPv4 address, for at most ``timeout`` seconds."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        raise TerminalError(f"{clean(address, 60)!r} is no IPv4 address", reason="BadAddress") from error
    started = time.monotonic()
    deadline, blind = started + timeout, started + _BLIND
    pause, why = _PAUSE, "it has no address"
    while True:
        if doorstep.ready() or time.monotonic() > blind:
            why = _refusal(address, deadline, cancellation)
            if not why:
                return
            blind = time.monotonic() + _BLIND
        if time.monotonic() + pause > deadline:
            doorstep.explain(timeout)
            raise RetryableError(
                f"no SSH server at {address}:22 within {timeout:.0f} s: {why}",
                remedy="see `systemctl status ssh` in the guest",
                reason="NoLogin",
            )
        cancellation.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * _GROWTH)


def _refusal(address: str, deadline: float, cancellation: Never) -> str:
    """Why nobody greets; empty when somebody does."""
    try:
        greeting = _greeting(address, max(0.1, min(_BANNER_TIMEOUT, deadline - time.monotonic())), cancellation)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if greeting.startswith(b"SSH-"):
        return ""
    return f"it answers {clean(greeting.decode(errors='replace'), 60)!r}" if greeting else "it closes the connection"


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


def _start_of(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        data = bytearray()
        while len(data) < _LARGEST and (more := file.read(_LARGEST - len(data))):
            data += more
    return bytes(data)
