"""The unix socket: who connects is asked of the kernel before a byte of theirs is read.

grpcio does not tell who is at the other end of a unix socket. So connections are accepted here, judged by their peer
credentials, and handed on byte by byte to grpcio's own socket, which lies in a folder that only root can enter. Each
connection to that one is made from an abstract address of its own, by which a call is traced to its caller; what comes
from any other address is nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from containarium.api.privatefolder import MADE
from containarium.api.who import Role, Who
from containarium.host import peers
from containarium.host.peers import Peer
from containarium.model.host import TerminalError
from containarium.report.log import Logger

CONNECTIONS = 256
PER_UID = 64
"""Connections that one account may have open."""
_CHUNK = 64 * 1024
_BACKLOG = 128
_PREFIX = "unix-abstract:"


class Relay:
    """Listens on ``path`` for those whom ``allowed`` lets in, from ``start`` to ``close``, in one thread of its own."""

    def __init__(
        self,
        path: Path,
        inner: Path,
        logger: Logger,
        *,
        allowed: Callable[[Peer], bool] = peers.may_administer,
        connections: int = CONNECTIONS,
        per_uid: int = PER_UID,
    ) -> None:
        """``inner`` is where grpcio listens; its folder has mode 0700. Nothing is opened yet."""
        self._path = path
        self._inner = inner
        self._logger = logger
        self._allowed = allowed
        self._connections = connections
        self._per_uid = per_uid
        self._callers: dict[str, Who] = {}
        self._open: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen. Raises TerminalError where the socket cannot be made."""
        listener = self._bind()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="relay", daemon=True)
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        """Stop listening and end every connection."""
        loop, stop = self._loop, self._stop
        if self._thread is not None and loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            self._thread.join()
            with contextlib.suppress(OSError):
                self._path.unlink()

    def who(self, peer: str) -> Who | None:
        """The caller behind what grpcio calls a peer, None where it did not come this way."""
        return self._callers.get(peer.removeprefix(_PREFIX)) if peer.startswith(_PREFIX) else None

    def _bind(self) -> socket.socket:
        """Made where only root can reach it and moved when its mode is right: nobody slips in between."""
        made = self._inner.with_name(MADE)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                made.unlink()
            listener.bind(os.fspath(made))
            peers.hand_to_admins(made)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            _refuse_other(self._path)
            made.replace(self._path)
        except OSError as error:
            listener.close()
            raise TerminalError(
                f"cannot listen on {self._path}: {error.strerror or error}",
                remedy="run it as root, or name another --socket", reason="SocketUnusable",
            ) from error  # fmt: skip
        except TerminalError:
            listener.close()
            raise
        return listener

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        with listener, asyncio.Runner() as runner:
            runner.run(self._serve(listener, ready))

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        accepting = asyncio.create_task(self._accept(listener))
        ready.set()
        await self._stop.wait()
        for task in (accepting, *self._tasks):
            task.cancel()
        await asyncio.gather(accepting, *self._tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # too many open files: they pass
                await asyncio.sleep(0.1)
                continue
            task = loop.create_task(self._admit(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _admit(self, connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            try:
                found = peers.peer(connection)
            except OSError:
                return
            if not self._allowed(found):
                self._logger.warning("refused", uid=found.uid, pid=found.pid, reason="NotAnAdmin")
                return
            if self._open.total() >= self._connections or self._open[found.uid] >= self._per_uid:
                self._logger.warning("refused", uid=found.uid, pid=found.pid, reason="TooManyConnections")
                return
            self._open[found.uid] += 1
            try:
                await self._hand_on(connection, found)
            finally:
                self._open[found.uid] -= 1

    async def _hand_on(self, connection: socket.socket, found: Peer) -> None:
        # Nobody can guess it, and so nobody can take it before us: who sees one connection knows none of the next.
        address = f"containarium-{secrets.token_hex(16)}"
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as inner:
            inner.setblocking(False)
            try:
                inner.bind(f"\0{address}")
            except OSError as error:
                self._logger.warning("refused", uid=found.uid, pid=found.pid, reason="NoAddress", error=str(error))
                return
            self._callers[address] = Who(peers.name_of(found.uid), Role.ADMIN, uid=found.uid)
            try:
                await loop.sock_connect(inner, os.fspath(self._inner))
                there = asyncio.create_task(_pump(connection, inner))
                back = asyncio.create_task(_pump(inner, connection))
                try:
                    # A connection of HTTP/2 that one side has closed is over.
                    await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (there, back):
                        task.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)
            except OSError:
                return
            finally:
                del self._callers[address]


def _refuse_other(path: Path) -> None:
    """Whatever else is at the socket's place stays there: somebody has mistyped a path. Raises TerminalError."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise TerminalError(
                f"{path} is there already and is no socket", remedy="name another --socket", reason="SocketUnusable"
            )


async def _pump(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, _CHUNK):
            await loop.sock_sendall(target, data)
