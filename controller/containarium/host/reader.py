"""Plain GETs over Incus' unix socket with the standard library.

A look at the host needs nothing else, and pylxd with what it imports takes longer than a whole look.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from containarium.host.faults import classify, timed_out, unreachable

CONNECT_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with its status already judged."""

    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header's value, however the other side writes its name; empty where it is missing."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")

    def json(self) -> Any:
        """The whole answer, decoded."""
        return json.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("incus", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_TIMEOUT)
        self.sock.connect(str(self._path))
        self.sock.settimeout(self.timeout)


def read(path: Path, where: Sequence[str], params: Mapping[str, str] | None = None, *, timeout: float) -> Reply:
    """GET ``/1.0/<where>`` on a connection of its own. ``timeout`` is in seconds, for the silence of the other side.

    Raises the HostError that fits.
    """
    url = "/".join(("/1.0", *(quote(segment, safe="") for segment in where)))
    connection = _UnixConnection(path, timeout)
    try:
        connection.request("GET", f"{url}?{urlencode(params)}" if params else url)
        response = connection.getresponse()
        body = response.read()
    except TimeoutError as error:
        raise timed_out(timeout) from error
    except (http.client.HTTPException, OSError) as error:
        raise unreachable(path, error) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise _refused(response.status, body)
    return Reply(dict(response.headers), body)


def _refused(status: int, body: bytes) -> Exception:
    try:
        answer = json.loads(body)
        return classify(int(answer.get("error_code") or status), str(answer.get("error") or "no reason given"))
    except (ValueError, AttributeError):
        return classify(status, body[:500].decode(errors="replace") or "no reason given")
