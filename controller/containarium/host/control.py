"""The controller's local socket: one line of JSON asks, one line of JSON answers. Root's alone.

It carries requests to look, never facts: what is to be done always follows from manifests and host.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from containarium.model.host import HostError, RetryableError, TerminalError

LINE = 64 * 1024
"""Bytes that a request or an answer may have."""
_PATIENCE = 5.0
_AT_ONCE = 8

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlServer:
    """Serves until it is closed; every request in a thread of its own, a few at once."""

    def __init__(self, path: Path, answer: Answer) -> None:
        """Binds at once, in place of a socket that a dead controller left. ``answer`` may take its time.

        Raises TerminalError when the socket cannot be made. The caller holds the controller's lock.
        """
        self._path = path
        self._answer = answer
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            # The folder is root's; the mode is right before anybody can connect, because nobody listens yet.
            self._socket.bind(str(path))
            path.chmod(0o600)
            self._socket.listen(_AT_ONCE)
        except OSError as error:
            self._socket.close()
            raise TerminalError(
                f"cannot listen on {path}: {error.strerror}", remedy="run it as root", reason="SocketUnusable"
            ) from error
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening. Requests that are being answered are left to end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._talk, args=(connection,), name="control-request", daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_PATIENCE)
                reply = self._reply(_line(connection))
                connection.settimeout(_PATIENCE)
                connection.sendall(json.dumps(reply).encode() + b"\n")
        except OSError:
            pass  # whoever asked has gone
        finally:
            self._slots.release()

    def _reply(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return {"error": "that is no request"}
        try:
            return self._answer(request)
        except HostError as error:
            return {"error": str(error)}


def ask(path: Path, request: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
    """Ask the running controller. Raises TerminalError (NoController) when there is none.

    Raises RetryableError when it does not answer within ``timeout`` seconds, or says no.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_line(connection))
        except PermissionError as error:
            raise TerminalError(f"no permission for {path}", remedy="run it as root", reason="NotRoot") from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise TerminalError(
                "no controller runs on this host",
                remedy="systemctl start containarium, or containarium apply",
                reason="NoController",
            ) from error
        except (OSError, ValueError) as error:
            raise RetryableError(
                "the controller does not answer", remedy="see journalctl -u containarium", reason="ControllerSilent"
            ) from error
    if not isinstance(answer, dict) or answer.get("error"):
        message = str(answer["error"]) if isinstance(answer, dict) else "something that makes no sense"
        raise RetryableError(f"the controller says: {message}", reason="ControllerRefused")
    return answer


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < LINE:
        chunk = connection.recv(LINE - len(data))
        if not chunk:
            break
        data += chunk
    return data
