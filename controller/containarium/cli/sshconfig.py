"""The text of an ssh client configuration for one environment, and of the known_hosts that goes with it. Pure.

Some of it comes from a server, which may have been taken over: nothing gets into a line that is not what it has to be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from containarium.cli.errors import CommandError
from containarium.model.base import InvalidValueError
from containarium.model.fields import check_name

HEADER = "# Written by containarium export"
"""First line of every file that export writes, and may write again."""

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?")
_KEY = re.compile(r"[a-z0-9][a-z0-9@.-]{0,63} [A-Za-z0-9+/]{1,16384}={0,2}")
_SHOWN = 60
"""Characters of what a server sent that an error quotes."""


@dataclass(frozen=True, slots=True)
class Route:
    """How a person reaches an environment: the jump host's name and port, and the container behind it.

    With neither name nor address it is nobody's yet, and only says whether a way could be written. Raises CommandError
    for what has no place in a configuration.
    """

    name: str
    address: str
    jump_host: str
    jump_port: int
    key: str
    known_hosts: tuple[str, ...]
    """Files; ssh reads all that are there."""

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.jump_host):
            raise CommandError(f"{self.jump_host!r} is neither a host name nor an address", "correct --jump-host")
        if self.name or self.address:
            _check_whose(self.name, self.address)

    @property
    def jump_alias(self) -> str:
        """What the jump host is called in the configuration."""
        return f"{self.name}-jump"

    @property
    def jump_pattern(self) -> str:
        """What ssh calls the jump host in known_hosts."""
        return self.jump_host if self.jump_port == 22 else f"[{self.jump_host}]:{self.jump_port}"

    @property
    def key_alias(self) -> str:
        """What the container is called in known_hosts: its address means another machine behind another jump host."""
        return f"{self.name}-container.{self.jump_host}"


def config(route: Route) -> str:
    """Two Host blocks. ``IdentitiesOnly``: a laptop with many keys would be banned before the right one is tried."""
    shared = [
        f"    User {route.name}",
        f"    IdentityFile {quoted(route.key)}",
        "    IdentitiesOnly yes",
        f"    UserKnownHostsFile {' '.join(map(quoted, route.known_hosts))}",
    ]
    lines = [
        f"Host {route.name}",
        f"    HostName {route.address}",
        f"    HostKeyAlias {route.key_alias}",
        f"    ProxyJump {route.jump_alias}",
        *shared,
        "",
        f"Host {route.jump_alias}",
        f"    HostName {route.jump_host}",
        f"    Port {route.jump_port}",
        *shared,
    ]
    return "\n".join(lines) + "\n"


def portable(route: Route, file: str) -> str:
    """What ``file`` holds: the configuration, for the computer of whoever gets it with its known_hosts beside it."""
    return (
        f"{HEADER} {route.name}\n"
        f"# Put this file and {file}.known_hosts into ~/.ssh, and log in with: ssh -F ~/.ssh/{file} {route.name}\n"
        f"{config(route)}"
    )


def beside(output: Path) -> tuple[str, ...]:
    """Where the known_hosts of an exported file may be: in a user's .ssh, where they are, and where it was written."""
    name = f"{output.name}.known_hosts"
    return f"~/.ssh/{name}", name, str(output.with_name(name).absolute())


def known_hosts(route: Route, guest: Sequence[str], jump_host: Sequence[str]) -> str:
    """One line per host key, each ``type blob``. Raises CommandError for one that is anything else."""
    for key in (*jump_host, *guest):
        if not _KEY.fullmatch(key):
            raise CommandError(f"{key[:_SHOWN]!r} is no host key", "nothing was written; look after that host")
    lines = [f"{route.jump_pattern} {key}" for key in jump_host]
    lines += [f"{route.key_alias} {key}" for key in guest]
    return "".join(f"{line}\n" for line in lines)


def _check_whose(name: str, address: str) -> None:
    try:
        check_name(name)
    except InvalidValueError as error:
        raise CommandError(error.message, error.remedy) from None
    try:
        if "%" in address:  # a zone may be any text at all
            raise ValueError
        ip_address(address)
    except ValueError:
        raise CommandError(
            f"{address[:_SHOWN]!r} is not the address of a container", "nothing was written; look after that host"
        ) from None


def quoted(path: str) -> str:
    """A file name as ssh_config wants it: blanks in quotes, and no percent sign taken for a token."""
    if not path or not path.isprintable() or any(char in path for char in "\"'\\"):
        raise CommandError(f"ssh cannot be told a file name such as {path!r}", "use one without quotes and backslashes")
    doubled = path.replace("%", "%%")
    return f'"{doubled}"' if " " in path or "#" in path else doubled
