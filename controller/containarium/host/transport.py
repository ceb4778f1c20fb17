"""HTTP over Incus' unix socket, through pylxd's raw API. The only module that imports pylxd, and so loaded late."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import urllib3
from pylxd.client import _APINode
from pylxd.exceptions import ClientConnectionFailed, LXDAPIException
from requests.adapters import HTTPAdapter

from containarium.host.faults import classify, timed_out, unreachable
from containarium.host.reader import CONNECT_TIMEOUT, Reply
from containarium.model.host import HostError

_CONNECTIONS = 16


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT)
        self._path = path

    def _new_conn(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        return sock


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", maxsize=_CONNECTIONS)
        self._path = path

    def _new_conn(self) -> Any:
        return _UnixConnection(self._path)


class _UnixAdapter(HTTPAdapter):
    """One pool for the socket. pylxd's own adapter keeps a pool per URL, and closes the oldest under its users."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _UnixPool(path)

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> Any:
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> str:  # noqa: ARG002 - requests' signature
        return str(request.path_url)

    def close(self) -> None:
        self._pool.close()
        super().close()


class Transport:
    """Sends one request and judges the answer. Safe to share between threads."""

    def __init__(self, path: Path, timeout: float) -> None:
        """Connects (one ``GET /1.0``, pylxd's own). ``timeout`` is in seconds, for the silence of the other side."""
        self._path = path
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http+unix://", _UnixAdapter(str(path)))
        self._endpoint = f"http+unix://{quote(str(path), safe='')}"
        with self._judged(timeout):
            # What pylxd.Client calls ``api``. The client itself would import all its models and what they need for
            # certificates of remote servers: 8 MiB, and the longer half of the import.
            self._api = _APINode(f"{self._endpoint}/1.0", session=self._session, timeout=(CONNECT_TIMEOUT, timeout))
            self._api.get()

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def send(
        self,
        method: str,
        path: Sequence[str],
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int | None = None,
    ) -> Reply:
        """One request to ``/1.0/<path>``; every segment is quoted here.

        ``body`` is sent as it is when it is bytes, a file or a stream, and as JSON otherwise. With ``limit``, at most
        one byte more than that is read. Raises the HostError that fits.
        """
        wait = self._timeout if timeout is None else timeout
        options: dict[str, Any] = {"timeout": (CONNECT_TIMEOUT, wait), "headers": dict(headers or {})}
        if params:
            options["params"] = dict(params)
        if isinstance(body, dict | list):
            options["json"] = body
        elif body is not None:
            options["data"] = body
        with self._judged(wait):
            if method == "HEAD":
                return self._head(path, options)
            node = self._api
            for segment in path:
                node = node[quote(segment, safe="")]
            if method == "GET":
                # is_api=False: pylxd would decode the JSON once more, only to look at its type
                return _read(node.get(is_api=False, stream=True, **options), limit)
            response = getattr(node, method.lower())(**options)
            return Reply(response.headers, response.content)

    def _head(self, path: Sequence[str], options: Mapping[str, Any]) -> Reply:
        url = "/".join([self._endpoint, "1.0", *(quote(segment, safe="") for segment in path)])
        response = self._session.head(url, **options)
        if response.status_code != 200:
            raise classify(response.status_code, f"Incus answered {response.status_code}")
        return Reply(response.headers, b"")

    @contextmanager
    def _judged(self, timeout: float) -> Iterator[None]:
        try:
            yield
        except LXDAPIException as error:
            raise _answered(error.response) from error
        except (ClientConnectionFailed, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _is_timeout(error):
                raise timed_out(timeout) from error
            raise unreachable(self._path, error) from error


def _read(response: Any, limit: int | None) -> Reply:
    with response:
        if limit is None:
            return Reply(response.headers, response.raw.read(decode_content=True))
        chunks, size = [], 0
        while size <= limit and (chunk := response.raw.read(min(65536, limit + 1 - size), decode_content=True)):
            chunks.append(chunk)
            size += len(chunk)
        return Reply(response.headers, b"".join(chunks))


def _answered(response: Any) -> HostError:
    try:
        answer = response.json()
        status = int(answer.get("error_code") or response.status_code)
        return classify(status, str(answer.get("error") or "no reason given"))
    except (ValueError, AttributeError):
        return classify(response.status_code, response.text[:500] or "no reason given")


def _is_timeout(error: BaseException) -> bool:
    """A read timeout reaches us in several wrappings, most of them a plain ConnectionError."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        item = pending.pop()
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
            return True
        pending += [*item.args, item.__cause__, item.__context__, getattr(item, "reason", None)]
    return False
