"""The socket on which the controller answers the relays of the other hosts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from containarium.host.faults import clean
from containarium.host.peering.wire import ANSWER_LINE, REQUEST_LINE, Request, parse_request
from containarium.model.host import HostError, TerminalError

_PATIENCE = 5.0
_LONGEST = 25 * 3600.0
"""Seconds for which a caller may hold what it was given."""
_AT_ONCE = 32
_OF_ONE_CALLER = 6
_PARTING = 3.0
"""Seconds that open requests have to end when the service does."""

Answered = Callable[[Request], AbstractContextManager[Mapping[str, Any]]]


class PeerService:
    """Serves between ``start`` and ``stop``; every request in a thread of its own, a few at once."""

    def __init__(self, path: Path, group: Callable[[], int | None], answered: Answered) -> None:
        """``group`` is the number of the relays' group, None while this host has none: then nobody is served."""
        self._path = path
        self._group = group
        self._answered = answered
        self._lock = threading.Lock()
        self._listening: socket.socket | None = None
        self._open: dict[socket.socket, threading.Thread] = {}
        self._callers: dict[str, int] = {}

    def start(self) -> None:
        """Serve from now on, where the group is there by now. Repeated, it changes nothing. Raises TerminalError."""
        group = self._group()
        if self._listening is not None or group is None:
            return
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            listening.bind(str(self._path))
            # The folder is root's; both are right before anybody can connect, because nobody listens yet.
            os.chown(self._path, -1, group)
            self._path.chmod(0o660)
            listening.listen(_AT_ONCE)
        except OSError as error:
            listening.close()
            raise TerminalError(
                f"cannot listen on {self._path}: {error.strerror}", remedy="run it as root", reason="SocketUnusable"
            ) from error
        self._listening = listening
        threading.Thread(target=self._serve, args=(listening,), name="peers", daemon=True).start()

    def stop(self) -> None:
        """End it, and take back what was begun for anybody."""
        if self._listening is None:
            return
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._listening = None
        with contextlib.suppress(OSError):
            self._path.unlink()
        with self._lock:
            open_now = dict(self._open)
        for connection in open_now:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _PARTING
        for thread in open_now.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._talk, args=(connection,), name="peer-request", daemon=True)
            with self._lock:
                full = len(self._open) >= _AT_ONCE
                if not full:
                    self._open[connection] = thread
            if full:
                connection.close()
            else:
                thread.start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                self._answer(connection)
        finally:
            with self._lock:
                self._open.pop(connection, None)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        try:
            request = parse_request(_line(connection))
            with self._admitted(request.caller), self._answered(request) as answer:
                data = json.dumps(dict(answer)).encode() + b"\n"
                if len(data) > ANSWER_LINE:
                    raise TerminalError("its answer is too long", reason="AnswerTooLong")
                connection.sendall(data)
                if "operation" in answer:
                    _await_end(connection)
        except HostError as error:
            _refuse(connection, error.message, error.remedy)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other host gets a line, and the service goes on
            _refuse(connection, f"{type(error).__name__} in its controller", "see its log")

    @contextlib.contextmanager
    def _admitted(self, caller: str) -> Any:
        """One host that asks without end leaves room for the others."""
        with self._lock:
            if self._callers.get(caller, 0) >= _OF_ONE_CALLER:
                raise TerminalError(f"{caller} asks too much at once", reason="TooManyRequests")
            self._callers[caller] = self._callers.get(caller, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._callers[caller] -= 1


def _line(connection: socket.socket) -> bytes:
    data = b""
    while b"\n" not in data and len(data) < REQUEST_LINE:
        piece = connection.recv(REQUEST_LINE - len(data))
        if not piece:
            break
        data += piece
    return data


def _await_end(connection: socket.socket) -> None:
    """Until the caller closes its end, or goes away."""
    connection.settimeout(_LONGEST)
    with contextlib.suppress(OSError):
        while connection.recv(1024):
            pass


def _refuse(connection: socket.socket, message: str, remedy: str) -> None:
    connection.settimeout(_PATIENCE)
    connection.sendall(json.dumps({"error": clean(message), "remedy": clean(remedy)}).encode() + b"\n")
