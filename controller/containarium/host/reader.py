"""Plain GETs over Incus' unix socket with the standard library, and the two transfers that are too big for memory.

A look at the host needs nothing else, and pylxd with what it imports takes longer than a whole look.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from containarium.host.faults import classify, timed_out, unreachable

CONNECT_TIMEOUT = 5.0
CHUNK = 1 << 20
"""Bytes that a transfer holds in memory at once."""


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


class Download:
    """The body of an answer, chunk by chunk."""

    def __init__(self, response: http.client.HTTPResponse, path: Path, timeout: float) -> None:
        self._response = response
        self._path = path
        self._timeout = timeout
        self.size = response.length
        """Bytes to come in all; None where the other side did not say."""

    def chunks(self) -> Iterator[bytes]:
        """At most CHUNK bytes each. Raises the HostError that fits, also where the body ends before its size."""
        left = self.size
        while True:
            with _judged(self._path, self._timeout):
                data = self._response.read(CHUNK)
                if not data and left:
                    raise http.client.IncompleteRead(b"", left)
            if not data:
                return
            left = None if left is None else left - len(data)
            yield data


def read(path: Path, where: Sequence[str], params: Mapping[str, str] | None = None, *, timeout: float) -> Reply:
    """GET ``/1.0/<where>`` on a connection of its own. ``timeout`` is in seconds, for the silence of the other side.

    Raises the HostError that fits.
    """
    url = _url(where)
    connection = _UnixConnection(path, timeout)
    try:
        with _judged(path, timeout):
            connection.request("GET", f"{url}?{urlencode(params)}" if params else url)
            response = connection.getresponse()
            body = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise _refused(response.status, body)
    return Reply(dict(response.headers), body)


@contextmanager
def download(path: Path, where: Sequence[str], *, timeout: float) -> Iterator[Download]:
    """GET something that is too big for memory, while the block runs. ``timeout`` as for ``read``."""
    connection = _UnixConnection(path, timeout)
    try:
        with _judged(path, timeout):
            connection.request("GET", _url(where))
            response = connection.getresponse()
            body = b"" if response.status == http.client.OK else response.read(CHUNK)
        if response.status != http.client.OK:
            raise _refused(response.status, body)
        yield Download(response, path, timeout)
    finally:
        connection.close()


def upload(
    path: Path,
    where: Sequence[str],
    chunks: Iterable[bytes],
    size: int,
    headers: Mapping[str, str],
    *,
    timeout: float,
) -> Reply:
    """POST ``size`` bytes to ``/1.0/<where>`` without ever holding all of them. ``timeout`` as for ``read``.

    Raises the HostError that fits, and whatever ``chunks`` raises.
    """
    connection = _UnixConnection(path, timeout)
    try:
        with _judged(path, timeout):
            connection.putrequest("POST", _url(where))
            for name, value in {**headers, "Content-Type": "application/octet-stream", "Content-Length": size}.items():
                connection.putheader(name, str(value))
            connection.endheaders()
        for chunk in chunks:
            with _judged(path, timeout):
                connection.send(chunk)
        with _judged(path, timeout):
            response = connection.getresponse()
            body = response.read()
    finally:
        connection.close()
    if response.status not in (http.client.OK, http.client.ACCEPTED):
        raise _refused(response.status, body)
    return Reply(dict(response.headers), body)


def _url(where: Sequence[str]) -> str:
    return "/".join(("/1.0", *(quote(segment, safe="") for segment in where)))


@contextmanager
def _judged(path: Path, timeout: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timed_out(timeout) from error
    except (http.client.HTTPException, OSError) as error:
        raise unreachable(path, error) from error


def _refused(status: int, body: bytes) -> Exception:
    try:
        answer = json.loads(body)
        return classify(int(answer.get("error_code") or status), str(answer.get("error") or "no reason given"))
    except (ValueError, AttributeError):
        return classify(status, body[:500].decode(errors="replace") or "no reason given")
