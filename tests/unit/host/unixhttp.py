"""HTTP on a unix socket, as Incus speaks it: what the daemons of a few lines in these tests are made of."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TypeVar


class UnixHandler(BaseHTTPRequestHandler):
    """Hands a request of whatever method to ``_answer``, which a test writes."""

    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)


class UnixServer(socketserver.ThreadingUnixStreamServer):
    """Serves on a path."""

    daemon_threads = True

    def __init__(self, path: Path, handler: type[UnixHandler]) -> None:
        super().__init__(str(path), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""


Server = TypeVar("Server", bound=UnixServer)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve while the block runs."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
