"""Public SSH host keys, read where they lie, never asked for over the network: a known_hosts of them can be trusted."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Protocol

from containarium.host.incus import GuestFile, Incus
from containarium.host.settings import HostSettings
from containarium.host.sshd import Sshd
from containarium.model.sshkey import SSHKey

_KINDS = ("ed25519", "ecdsa", "rsa")
_LARGEST = 16 * 1024
_NOWHERE = "192.0.2.1"
"""An address for documentation: a UDP socket that is connected to it sends nothing, and shows our own address."""


class _Files(Protocol):
    """Reads the files of guests."""

    def read_file(self, instance: str, path: str, limit: int) -> GuestFile | None: ...


class MachineHostKeys:
    """The host keys of this machine and of its guests."""

    def __init__(self, settings: HostSettings, incus: _Files | None = None) -> None:
        self._settings = settings
        self._incus = incus or Incus(settings)

    def of_guest(self, instance: str) -> tuple[str, ...]:
        """``type blob`` of every host key of a guest, running or not. What is not a strong key is left out."""
        texts = []
        for kind in _KINDS:
            file = self._incus.read_file(instance, f"/etc/ssh/ssh_host_{kind}_key.pub", _LARGEST)
            if file is not None and file.kind == "file":
                texts.append(file.data)
        return _keys(texts)

    def of_jump_host(self) -> tuple[str, ...]:
        """``type blob`` of every host key in /etc/ssh."""
        return tuple(Sshd(self._settings).host_keys())

    def jump_host_name(self) -> str:
        """The full host name, or the address from which this machine reaches others where it has no full name."""
        name = socket.getfqdn()
        if "." in name and not name.startswith(("localhost", "ip6-")) and not name.endswith(".localdomain"):
            return name
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((_NOWHERE, 9))
            except OSError:
                return socket.gethostname()
            return str(probe.getsockname()[0])


def _keys(texts: Iterable[bytes]) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(SSHKey.parse(text.decode("ascii")).identity)
        except ValueError:
            continue
    return tuple(found)
