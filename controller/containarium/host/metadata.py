"""A cloud's metadata server, asked over plain HTTP: no proxy, and bounds on the time and the size of every answer."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LIMIT = 16 * 1024
"""Bytes of an answer's body that are read at most."""


class UnfitAnswerError(Exception):
    """The server answered, and not as its documentation says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What it answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    def header(self, name: str) -> str:
        """A header's value; empty where it is missing."""
        return self.headers.get(name.lower(), "")

    def require(self, status: int) -> None:
        """Raise UnfitAnswerError for any other status."""
        if self.status != status:
            raise UnfitAnswerError(f"it answers {self.status}")


class MetadataServer:
    """Asks one question at a time, each on a connection of its own; ``hang_up`` may come from any thread."""

    def __init__(self, endpoint: str, patience: float) -> None:
        """``endpoint`` is an http URL without a path; ``patience`` bounds an answer, in seconds. Raises ValueError."""
        parts = urlsplit(endpoint)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{endpoint!r} is no address of a metadata server (http://ADDRESS)")
        self._host, self._port = parts.hostname, parts.port or 80
        self._patience = patience
        self._lock = threading.Lock()
        self._open: socket.socket | None = None
        self._hung_up = False

    def ask(self, method: str, path: str, headers: Mapping[str, str], *, hang: float = 0.0) -> Answer:
        """One question. ``hang`` is for how many seconds the server may hold it open before it answers.

        Raises OSError, http.client.HTTPException or UnfitAnswerError.
        """
        connection = _Connection(self._host, self._port, self._patience, hang)
        try:
            connection.connect()
            self._hold(connection.sock)
            connection.request(method, path, headers={**headers, "Connection": "close"})
            response = connection.getresponse()
            with response:
                body = response.read(LIMIT + 1)
        finally:
            self._hold(None)
            connection.close()
        if len(body) > LIMIT:
            raise UnfitAnswerError("its answer is too long")
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, found, body.decode(errors="replace").strip())

    def hang_up(self) -> None:
        """Break off the question that is open, for good: every later one fails."""
        with self._lock:
            self._hung_up = True
            if self._open is not None:
                with suppress(OSError):
                    self._open.shutdown(socket.SHUT_RDWR)

    def _hold(self, sock: socket.socket | None) -> None:
        with self._lock:
            self._open = sock
            if self._hung_up and sock is not None:
                raise ConnectionAbortedError("the question was broken off")


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, port: int, patience: float, hang: float) -> None:
        super().__init__(host, port, timeout=patience)
        self._patience = patience
        self._hang = hang

    def connect(self) -> None:
        deadline = time.monotonic() + self._patience + self._hang
        plain = socket.create_connection((self.host, self.port), self._patience)
        self.sock = _Timed(plain, deadline)
        self.sock.settimeout(self._patience)


class _Timed(socket.socket):
    """Reads until a moment, however slowly the bytes drip in: a timeout alone begins anew with every one of them."""

    def __init__(self, plain: socket.socket, deadline: float) -> None:
        super().__init__(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self._deadline = deadline

    def recv_into(self, *args: Any, **options: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*args, **options)
