"""The client's side: a channel to a server, calls that fail in one line, and why a connection does not come about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from containarium.api import registry
from containarium.api.diagnosis import why_not
from containarium.api.errors import Told, told
from containarium.model.host import HostError, RetryableError, TerminalError

PORT = 50051
_LARGEST_ANSWER = 16 << 20
_UNIX = "unix:"
_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGEST_ANSWER),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_retries", 0),
)
_FILES = ("ca.crt", "client.crt", "client.key")


@dataclass(frozen=True, slots=True)
class Target:
    """A server: ``HOST:PORT`` with the folder of certificates for it, or ``unix:PATH`` without."""

    server: str
    certificates: Path = Path()

    @classmethod
    def parse(cls, text: str, certificates: Path) -> Target:
        """From ``HOST``, ``HOST:PORT``, ``[::1]:PORT``, ``unix:PATH`` or ``/PATH``. Raises TerminalError."""
        if text.startswith(("/", _UNIX)):
            return cls(_UNIX + text.removeprefix(_UNIX).replace("//", "/"))
        host, colon, port = text.rpartition(":")
        if not colon or (":" in host and not host.startswith("[")) or text.endswith("]"):
            host, port = text, str(PORT)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        if not host or not port.isdecimal() or not 0 < int(port) < 65536 or not host.isprintable() or "/" in host:
            raise TerminalError(
                f"{text!r} is no server", remedy=f"write HOST:PORT, such as jump-1:{PORT}", reason="BadServer"
            )
        return cls(f"{host}:{port}", certificates)

    @property
    def local(self) -> bool:
        """Whether it is this machine's own socket."""
        return self.server.startswith(_UNIX)

    @property
    def host(self) -> str:
        """The name or address, without brackets."""
        return self.server.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.server.rpartition(":")[2])


class Client:
    """A connection, made at the first call. Calls raise HostError in the words of the server."""

    def __init__(self, target: Target) -> None:
        """Raises TerminalError where the certificates are not there."""
        self.target = target
        self._channel = grpc.insecure_channel(target.server, _OPTIONS) if target.local else _secure(target)

    def close(self) -> None:
        """End it."""
        self._channel.close()

    def ask(self, name: str, request: Any, timeout: float, *, original: bool = False) -> Any:
        """One answer. ``original`` calls the original's service. ``timeout`` in seconds."""
        try:
            return self._caller(name, original=original)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise self._explained(error) from None

    def follow(self, name: str, request: Any, timeout: float | None) -> Iterator[Any]:
        """Answers as they come."""
        answers = self._caller(name, original=False)(request, timeout=timeout)
        try:
            yield from answers
        except grpc.RpcError as error:
            raise self._explained(error) from None
        finally:
            answers.cancel()

    def _caller(self, name: str, *, original: bool) -> Any:
        return registry.caller(self._channel, registry.CONTAINERS if original else registry.CONTROLLER, name)

    def _explained(self, error: grpc.RpcError) -> HostError:
        found = told(error)
        if found.reason:
            return _in_words(found)
        server = self.target.server
        match found.code:
            case grpc.StatusCode.UNAVAILABLE:
                return (
                    why_not(self.target.host, self.target.port, self.target.certificates)
                    if (not self.target.local)
                    else _no_socket(server)
                )
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return RetryableError(
                    f"{server} did not answer in time", remedy="it may be busy: try again", reason="Late"
                )
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return RetryableError(
                    f"{server} has too much to do, or the request is too large ({found.message})",
                    remedy="try again in a moment", reason="TooMuch",
                )  # fmt: skip
            case grpc.StatusCode.UNIMPLEMENTED:
                return TerminalError(
                    f"{server} does not know this call", remedy="bring both to the same version", reason="NoMethod"
                )
        return TerminalError(f"{server}: {found.message or found.code.name}", reason="CallFailed")


def _in_words(found: Told) -> HostError:
    remedy = found.info.get("remedy", "")
    message = found.message.removesuffix(f"; {remedy}") if remedy else found.message
    place = found.info.get("file", "")
    if place:
        line = found.info.get("line", "0")
        message = f"{place}:{line}: {message}" if line != "0" else f"{place}: {message}"
    kind = RetryableError if found.code is grpc.StatusCode.UNAVAILABLE else TerminalError
    return kind(message, remedy=remedy, reason=found.reason)


def _no_socket(server: str) -> HostError:
    path = server.removeprefix(_UNIX)
    with contextlib.suppress(OSError):
        if Path(path).exists():
            return TerminalError(
                f"{path} lets nobody in but root and the group containarium-admin, or nobody answers there",
                remedy="usermod -aG containarium-admin YOU, log in anew, and see systemctl status containarium-api",
                reason="NotAnAdmin",
            )
    return TerminalError(f"there is no {path}", remedy="systemctl enable --now containarium-api", reason="NoServer")


def _secure(target: Target) -> grpc.Channel:
    texts = []
    for name in _FILES:
        try:
            texts.append((target.certificates / name).read_bytes())
        except OSError as error:
            raise TerminalError(
                f"cannot read {target.certificates / name}: {error.strerror}",
                remedy="name the folder that containarium cert has made for you: --certs-dir FOLDER",
                reason="NoCertificates",
            ) from error
    authority, certificate, key = texts
    return grpc.secure_channel(target.server, grpc.ssl_channel_credentials(authority, key, certificate), _OPTIONS)
