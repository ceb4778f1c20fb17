"""A line to another host: ssh with its declared host keys, our one key, and nothing of anybody's configuration."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containarium.host.bounded import Limits, begun, kill
from containarium.host.cancel import GLANCE, NEVER, Never
from containarium.host.faults import clean
from containarium.host.files import make_folder, read_small, write_atomically
from containarium.host.peering.wire import ANSWER_LINE
from containarium.host.settings import HostSettings
from containarium.host.sshd import PEER_ACCOUNT
from containarium.model.host import HostError, RetryableError, TerminalError
from containarium.model.hostmanifest import HostManifest

_CONNECT = 4
"""Seconds."""
_LONGEST = 25 * 3600.0
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_HOST_KEY = re.compile(r"host key verification failed|host identification has changed|host key is known", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OpenLine:
    """A line that was answered and is held open."""

    answer: bytes
    host: HostManifest
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raise RetryableError (PeerSilent) where the other host has closed it, or is gone."""
        if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            raise _silent(self.host, "the line to it broke")


class Channel:
    """Opens lines to other hosts. Safe to share between threads."""

    def __init__(self, settings: HostSettings, program: Sequence[str] = ("ssh",), cancellation: Never = NEVER) -> None:
        """``program`` is what speaks ssh; tests hand in their own."""
        self._settings = settings
        self._program = tuple(program)
        self._cancellation = cancellation

    def ask(self, host: HostManifest, request: Mapping[str, Any], seconds: float) -> bytes:
        """One request, and the line that answers it. Raises RetryableError: PeerSilent, PeerHostKey, PeerKeyRefused,
        PeerUnclear; TerminalError (NoPeer) where the two hosts are not declared to know one another.
        """
        with self._opened(host, request, seconds, NEVER) as line:
            return line.answer

    def opened(
        self, host: HostManifest, request: Mapping[str, Any], seconds: float
    ) -> contextlib.AbstractContextManager[OpenLine]:
        """As ``ask``; the line stays open while the block runs, and the other host ends what it does for it then.

        The cancellation ends the wait for the answer.
        """
        return self._opened(host, request, seconds, self._cancellation)

    @contextlib.contextmanager
    def _opened(
        self, host: HostManifest, request: Mapping[str, Any], seconds: float, cancellation: Never
    ) -> Iterator[OpenLine]:
        args = [*self._program, *self._options(host)]
        limits = Limits(seconds=_LONGEST, output=ANSWER_LINE)
        with begun(args, limits, env=_ENVIRONMENT, stdin=subprocess.PIPE) as process:
            try:
                assert process.stdin is not None  # noqa: S101 (a pipe)
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
                    process.stdin.flush()
                line, errors = _read(process, host, time.monotonic() + seconds, cancellation)
                if not line.endswith(b"\n"):
                    raise _failed(host, process, errors)
                yield OpenLine(line, host, process)
            finally:
                kill(process)
                with contextlib.suppress(BrokenPipeError):
                    process.communicate(timeout=5)

    def _options(self, host: HostManifest) -> list[str]:
        """ssh's arguments. What it would learn from anybody's files, agents or the network is turned off."""
        address, identity = host.spec.network.address, host.spec.identity
        if address is None or identity is None:
            raise TerminalError(
                f"the Host manifest of {host.name} has no {'network.address' if address is None else 'identity'}",
                remedy=f"commit what containarium host manifest prints on {host.name}",
                reason="NoPeer",
            )
        if not self._settings.peer_key.exists():
            raise TerminalError(
                "this host has no key to ask others with", remedy="containarium host prepare", reason="NoPeerKey"
            )
        known = self._known_hosts(host.name, str(address), [key.identity for key in identity.host_keys])
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": f'"{known}"',
            "GlobalKnownHostsFile": "none",
            "VerifyHostKeyDNS": "no",
            "UpdateHostKeys": "no",
            "CheckHostIP": "no",
            "IdentityFile": f'"{self._settings.peer_key}"',
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "ConnectTimeout": str(_CONNECT),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ControlPath": "none",
            "ProxyCommand": "none",
            "PermitLocalCommand": "no",
            "CanonicalizeHostname": "no",
            "EscapeChar": "none",
            "RequestTTY": "no",
            "LogLevel": "ERROR",
            "KexAlgorithms": "^curve25519-sha256",  # what ssh prefers by itself costs seven times as much
        }
        arguments = [f"-o{keyword}={value}" for keyword, value in options.items()]
        return ["-F", "none", "-T", *arguments, "-l", PEER_ACCOUNT, "--", str(address)]

    def _known_hosts(self, name: str, address: str, keys: Sequence[str]) -> Path:
        """A file of this host's declared keys alone."""
        path = self._settings.peer_key.parent / "known" / name
        text = "".join(f"{address} {key}\n" for key in keys)
        try:
            if read_small(path) != text:
                make_folder(path.parent, 0o700)
                write_atomically(path, text, 0o600)
        except OSError as error:
            raise TerminalError(
                f"cannot write {path}: {error.strerror}", remedy="run it as root", reason="NotRoot"
            ) from error
        return path


def _read(
    process: subprocess.Popen[bytes], host: HostManifest, deadline: float, cancellation: Never
) -> tuple[bytes, str]:
    """The first line that it says, or what it said until it ended; and what it complained of."""
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    line, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            cancellation.check()
            left = deadline - time.monotonic()
            if left <= 0:
                raise _silent(host, "it says nothing")
            for key, _ in selector.select(min(GLANCE, left)):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fd == process.stderr.fileno():
                    errors += data[: max(0, 8192 - len(errors))]
                else:
                    line += data
            end = line.find(b"\n")
            if end >= 0:
                return bytes(line[: end + 1]), ""
            if len(line) > ANSWER_LINE:
                raise RetryableError(
                    f"{host.name} told more than {ANSWER_LINE} bytes; nothing of it is believed",
                    remedy=f"look after {host.name}",
                    reason="PeerUnclear",
                )
    return bytes(line), errors.decode(errors="replace")


def _failed(host: HostManifest, process: subprocess.Popen[bytes], errors: str) -> HostError:
    """Why there was no answer, in ssh's own last words."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    if process.returncode in (126, 127):
        return TerminalError("ssh cannot be run", remedy="install openssh-client", reason="CommandMissing")
    if _HOST_KEY.search(errors):
        return RetryableError(
            f"{host.name} has another SSH host key than its Host manifest says",
            remedy=f"compare with what containarium host manifest prints there, and commit that if it is {host.name}",
            reason="PeerHostKey",
        )
    if "Permission denied" in errors:
        return RetryableError(
            f"{host.name} does not accept this host's key",
            remedy=f"see that {host.name} has the manifests with this host's identity, and was prepared since",
            reason="PeerKeyRefused",
        )
    # what the account has no home for is said at every login
    lines = [line for line in errors.splitlines() if line.strip() and not line.startswith("Could not chdir to home")]
    return _silent(host, clean(lines[-1], 200) if lines else "the connection ended without an answer")


def _silent(host: HostManifest, why: str) -> RetryableError:
    return RetryableError(
        f"{host.name} does not answer ({why})",
        remedy=f"see that it runs, and that {host.spec.network.address} is reached from here",
        reason="PeerSilent",
    )
