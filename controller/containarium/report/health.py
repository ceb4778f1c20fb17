"""A small HTTP server for machines: /metrics, /healthz, /readyz. It reads nothing but the first line of a request.

One thread serves everybody, so that whoever is slow, or sends what is no request, holds up nobody: each connection has
a few seconds in all, and when there are too many the oldest goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address

from containarium.model.host import TerminalError

DEFAULT_ADDRESS = "127.0.0.1:9465"
_DEADLINE = 5.0
_MOST_CONNECTIONS = 64
_LONGEST_REQUEST = 8192
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answers:
    """What is asked when somebody asks. ``stale`` and ``unready`` say why, and nothing when all is well."""

    metrics: Callable[[], bytes]
    metrics_type: str
    stale: Callable[[], str]
    unready: Callable[[], str]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    kind: str = _TEXT
    head: bool = False

    def wire(self) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.kind}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        ]
        if self.status is HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET, HEAD")
        return "\r\n".join((*lines, "", "")).encode("ascii") + (b"" if self.head else self.body)


def parse_address(text: str) -> tuple[str, int]:
    """``127.0.0.1:9465`` or ``[::1]:9465`` as host and port; port 0 lets the system choose.

    Raises TerminalError (BadAddress). Only literal addresses: a name may come to mean another interface.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
        number = int(port) if port.isascii() and port.isdecimal() else -1
        if not colon or bracketed is not isinstance(address, IPv6Address) or not 0 <= number <= 65535:
            raise ValueError(text)
    except ValueError:
        raise TerminalError(
            f"{text!r} is no address to listen on",
            remedy=f"write it like {DEFAULT_ADDRESS} or [::1]:9465",
            reason="BadAddress",
        ) from None
    return str(address), number


class Health:
    """The server. ``start`` binds, ``close`` ends it; in between it has a thread of its own."""

    def __init__(self, address: str, answers: Answers, *, deadline: float = _DEADLINE) -> None:
        """Nothing is opened yet. ``deadline`` is the time in seconds that one connection gets in all."""
        self._host, self._port = parse_address(address)
        self._answers = answers
        self._deadline = deadline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._connections: dict[asyncio.Task[None], None] = {}

    def start(self) -> str:
        """Listen and serve. Returns the address, with the port that was chosen. Raises TerminalError (AddressInUse)."""
        listener = self._bind()
        host, port = listener.getsockname()[:2]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="health", daemon=True)
        self._thread.start()
        ready.wait()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stop listening and end every connection."""
        loop, stop, thread = self._loop, self._stop, self._thread
        if loop is not None and stop is not None and thread is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)
            thread.join()

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((self._host, self._port))
            listener.listen(_MOST_CONNECTIONS)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise TerminalError(
                f"cannot listen on {self._host} port {self._port} for metrics: {error.strerror}",
                remedy="see who has it (ss -ltnp), or choose another address",
                reason="AddressInUse",
            ) from error
        return listener

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        with listener, asyncio.Runner() as runner:
            runner.run(self._serve(listener, ready))

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, sock=listener, limit=_LONGEST_REQUEST)
        ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        if len(self._connections) >= _MOST_CONNECTIONS:
            next(iter(self._connections)).cancel()
        self._connections[task] = None
        try:
            async with asyncio.timeout(self._deadline):
                await self._talk(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._connections.pop(task, None)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            answer = _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            answer = self._answer(head)
        writer.write(answer.wire())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def _answer(self, head: bytes) -> _Answer:
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _plain(HTTPStatus.BAD_REQUEST)
        method, target, _version = words
        if method not in (b"GET", b"HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        found = self._found(target.partition(b"?")[0])
        return _Answer(found.status, found.body, found.kind, head=method == b"HEAD")

    def _found(self, path: bytes) -> _Answer:
        try:
            match path:
                case b"/metrics":
                    return _Answer(HTTPStatus.OK, self._answers.metrics(), self._answers.metrics_type)
                case b"/healthz":
                    return _judged(self._answers.stale())
                case b"/readyz":
                    return _judged(self._answers.unready())
        except Exception as error:  # noqa: BLE001 - a bug must not take the server with it, and is seen as what it is
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__)
        return _plain(HTTPStatus.NOT_FOUND)


def _judged(wrong: str) -> _Answer:
    return _plain(HTTPStatus.SERVICE_UNAVAILABLE, wrong) if wrong else _plain(HTTPStatus.OK, "ok")


def _plain(status: HTTPStatus, text: str = "") -> _Answer:
    return _Answer(status, f"{text or status.phrase}\n".encode())
