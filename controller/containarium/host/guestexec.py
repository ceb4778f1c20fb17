"""Commands inside a guest, over Incus' exec websockets: one thread, bounded output, killed when their time is over.

Recorded output would be simpler, but it goes to a file on the host that a hostile guest could fill the disk with.
"""

from __future__ import annotations

import contextlib
import json
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ws4py.client import WebSocketBaseClient
from ws4py.exc import WebSocketException

from containarium.host.cancel import GLANCE, PARTING, CancelledError
from containarium.host.command import Completed
from containarium.host.faults import COMMAND_LOST, clean, unreachable
from containarium.host.incus import Incus
from containarium.model.host import HostError, RetryableError

_CONNECT = 10.0
_AFTERWARDS = 10.0
"""How long Incus may take to close a command's operation after its streams were closed."""
_REFUSAL = 3.0
_TERM, _KILL = 15, 9
_PATIENCE = 2.0
"""Seconds between the two, for a command whose time is over."""


class _Channel(WebSocketBaseClient):  # type: ignore[misc]  # ws4py has no types
    """One stream of a command. Keeps the last ``keep`` bytes of what arrives."""

    def __init__(self, path: Path, resource: str, keep: int = 0) -> None:
        # Go's websocket refuses ws4py's Origin header on a unix socket
        super().__init__(f"ws+unix://{path}", exclude_headers=["origin"])
        self.resource = resource
        self.data = bytearray()
        self.done = False
        self._keep = keep

    def received_message(self, message: Any) -> None:
        if message.is_text and not message.data:
            self.done = True  # Incus' mark for the end of a stream
            return
        self.data += message.data
        if len(self.data) > self._keep:
            del self.data[: len(self.data) - self._keep]

    def unhandled_error(self, error: BaseException) -> None:  # noqa: ARG002 - ws4py would log it
        self.done = True

    def _write(self, b: bytes) -> None:
        # Incus may close while a ping is being answered; what it sent before is still to be read
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super()._write(b)

    def open(self) -> None:
        self.sock.settimeout(_CONNECT)
        self.connect()

    def read_some(self) -> None:
        if not self.once():
            self.done = True

    def shut(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close_connection()


def execute(
    incus: Incus,
    instance: str,
    args: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str],
    keep: int,
) -> Completed:
    """Run a command in a guest as root and wait for its end.

    At most the last ``keep`` bytes of each output are kept. After ``timeout`` seconds the command is killed and
    RetryableError raised; when the client's cancellation says so, CancelledError. A connection that breaks makes Incus
    kill the command, so none outlives us.
    """
    request = {
        "command": list(args),
        "environment": dict(env),
        "wait-for-websocket": True,
        "interactive": False,
        "cwd": "/",
    }
    operation = incus.begin("instances", instance, "exec", body=request)
    deadline = time.monotonic() + timeout
    with _channels(incus, operation, keep) as (control, out, err):
        while not (out.done and err.done):
            if incus.cancellation.cancelled:
                _kill(control, PARTING)
                raise CancelledError
            if not _pump([channel for channel in (out, err, control) if not channel.done], deadline):
                _kill(control, _PATIENCE)
                _settle(incus, str(operation["id"]))
                raise RetryableError(
                    f"{clean(args[0], 60)} in {instance} did not end within {timeout:.0f} s and was killed",
                    remedy=f"see what holds it up: incus exec {instance} -- ps aux",
                    reason="GuestTimeout",
                )
        ended = incus.wait(str(operation["id"]), _AFTERWARDS)
    code = (ended.get("metadata") or {}).get("return")
    if not isinstance(code, int):
        raise RetryableError(f"{clean(args[0], 60)} in {instance} ended without an exit code", reason=COMMAND_LOST)
    return Completed(code, out.data.decode(errors="replace"), err.data.decode(errors="replace"))


@contextlib.contextmanager
def _channels(incus: Incus, operation: Mapping[str, Any], keep: int) -> Iterator[tuple[_Channel, _Channel, _Channel]]:
    secrets = operation["metadata"]["fds"]

    def channel(name: str) -> _Channel:
        return _Channel(incus.socket, f"/1.0/operations/{operation['id']}/websocket?secret={secrets[name]}", keep)

    opened: list[_Channel] = []
    try:
        # Incus starts the command once 0, 1 and 2 are there: control has to be there before, or a short command is
        # over already; 0 comes last, since ws4py may swallow what arrives together with a handshake
        for name in ("control", "1", "2", "0"):
            opened.append(channel(name))
            opened[-1].open()
        control, out, err, stdin = opened
        stdin.send(b"", binary=False)  # the end of a standard input that is empty
        yield control, out, err
    except (OSError, WebSocketException) as error:
        incus.wait(str(operation["id"]), _REFUSAL)  # raises what really happened, where Incus says it
        raise unreachable(incus.socket, error) from error
    finally:
        for one in opened:
            one.shut()


def _pump(channels: Sequence[_Channel], deadline: float) -> bool:
    """Read what is there from every channel that has something, or soon will. False when the time is over."""
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    poll = select.poll()
    by_descriptor = {}
    for channel in channels:
        by_descriptor[channel.sock.fileno()] = channel
        poll.register(channel.sock, select.POLLIN)
    for descriptor, _event in poll.poll(min(left, GLANCE) * 1000):
        by_descriptor[descriptor].read_some()
    return True


def _kill(control: _Channel, patience: float) -> None:
    """First a request, so that a package manager can end in order, then by force."""
    with contextlib.suppress(OSError, RuntimeError, WebSocketException):
        for number, pause in ((_TERM, patience), (_KILL, 0.0)):
            control.send(json.dumps({"command": "signal", "signal": number}))
            time.sleep(pause)


def _settle(incus: Incus, operation: str) -> None:
    with contextlib.suppress(HostError):
        incus.wait(operation, _AFTERWARDS)
