"""The only thing that another host's key opens here: one line from it to the controller, and one line back.

It runs as an account that may do nothing else, for as long as the caller holds the line. It imports the standard
library alone: every neighbour starts it a few times a minute.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import time

SOCKET = "/run/containarium/peer.sock"
REQUEST_LINE = 4096
ANSWER_LINE = 1 << 20
PATIENCE = 5.0
"""Seconds for the caller's line."""
ANSWERING = 180.0
"""Seconds for the controller's: a guest may have to be stopped first."""
LONGEST = 25 * 3600.0
"""Seconds for which a caller may hold the line: that long a fetch may last."""


def relay(caller: str, socket_path: str = SOCKET, given: int = 0, out: int = 1) -> int:
    """Relay one request of ``caller`` from a descriptor, and the answer to another. Returns the exit code.

    The line is held until either side closes it: a caller that goes away takes its request back.
    """
    line = _line(given, REQUEST_LINE, PATIENCE)
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _told(out, "this request makes no sense")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(socket_path)
            connection.sendall(json.dumps({"from": caller, "request": request}).encode() + b"\n")
        except OSError:
            return _told(out, "its controller does not run", "systemctl start containarium there")
        answer = _line(connection.fileno(), ANSWER_LINE, ANSWERING, watched=given)
        if not answer.endswith(b"\n"):
            return _told(out, "its controller gives no answer", "see journalctl -u containarium there")
        _write(out, answer)
        _hold(connection.fileno(), given)
    return 0


def _line(source: int, limit: int, patience: float, watched: int = -1) -> bytes:
    """A line, or what came of it until the limit, the end or the deadline; nothing where ``watched`` broke off."""
    data = bytearray()
    deadline = time.monotonic() + patience
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        if watched >= 0:
            _register(selector, watched)
        while b"\n" not in data and len(data) < limit and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                piece = os.read(key.fd, min(65536, limit - len(data)))
                if key.fd == watched:
                    if not piece:
                        return b""
                elif not piece:
                    return bytes(data)
                else:
                    data += piece
    line, end, _ = bytes(data).partition(b"\n")
    return line + end


def _hold(connection: int, given: int) -> None:
    """Until one of both closes."""
    deadline = time.monotonic() + LONGEST
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        _register(selector, given)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if not os.read(key.fd, 4096):
                    return


def _register(selector: selectors.BaseSelector, source: int) -> None:
    with contextlib.suppress(PermissionError, ValueError):  # a plain file has no end that could be waited for
        selector.register(source, selectors.EVENT_READ)


def _told(out: int, error: str, remedy: str = "") -> int:
    _write(out, json.dumps({"error": error, "remedy": remedy}).encode() + b"\n")
    return 1


def _write(out: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(out, rest) :]


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        sys.exit(relay(sys.argv[1] if len(sys.argv) > 1 else ""))
