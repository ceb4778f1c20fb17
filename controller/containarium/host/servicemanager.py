"""What systemd is told of a running controller, over its notification socket. Without one, nothing is said."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from containarium.host.faults import clean

_STATUS_LIMIT = 200
_SEND_TIMEOUT = 1.0
_MICRO = 1_000_000


class ServiceManager:
    """Speaks sd_notify's protocol. A message that does not get through is lost, and never an error."""

    def __init__(self, environ: Mapping[str, str] | None = None, pid: int | None = None) -> None:
        """``environ`` is the process's own by default; it names the socket and the watchdog's time."""
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog(environ, os.getpid() if pid is None else pid)

    def ready(self) -> None:
        """The controller's start, or its reload, is over."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """What `systemctl status` shows: one printable line of at most 200 characters."""
        self._tell(f"STATUS={clean(text, _STATUS_LIMIT)}")

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The controller's end has begun."""
        self._tell("STOPPING=1")

    def watchdog(self) -> None:
        """It is alive. To be said by the loop itself, so that a loop that hangs is noticed."""
        self._tell("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for ``seconds`` more, from now on, for the start or end that is under way."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * _MICRO)}")

    def watchdog_interval(self) -> float | None:
        """Seconds between two calls of ``watchdog``, half of what systemd allows; None where it does not watch."""
        return self._watchdog

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(_SEND_TIMEOUT)  # a manager that does not read must not hold up the loop
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return


def _address(named: str) -> bytes | None:
    """The socket's address. ``@`` stands for the zero byte of an abstract name; other kinds are not spoken to."""
    if len(named) < 2 or named[0] not in "/@":
        return None
    raw = os.fsencode(named)
    return b"\0" + raw[1:] if named[0] == "@" else raw


def _watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    allowed = environ.get("WATCHDOG_USEC", "")
    if not (allowed.isascii() and allowed.isdigit()) or int(allowed) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None  # it is meant for another process, of which this one is a child
    return int(allowed) / _MICRO / 2
