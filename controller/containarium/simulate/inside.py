"""What the simulated images and guests are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from containarium.model.observed import Guest

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Image:
    """A base image: its packages, and how much of memory and disk a fresh guest uses."""

    packages: frozenset[str] = frozenset({"systemd", "bash", "passwd", "openssh-server"})
    memory: int = 32 * MIB
    disk: int = 300 * MIB


@dataclass(frozen=True, slots=True)
class Inside:
    """The root file system of one guest, whether it runs or not.

    ``guest`` is the managed part, ``own_lines`` the person's own lines of authorized_keys outside our block.
    ``memory`` is what is in use while the guest runs. A ``silent`` guest runs, but no command in it ever ends.
    """

    guest: Guest = field(default_factory=Guest)
    own_lines: tuple[str, ...] = ()
    memory: int = 32 * MIB
    disk: int = 300 * MIB
    silent: bool = False
    content: int = 0
    """What the person has made so far: the number of the last thing. A copy has what there was when it was made."""


IMAGES: Mapping[str, Image] = {
    "guest": Image(),
    "baked": Image(packages=Image().packages | {"sudo", "docker.io", "docker"}),
}
"""The local images of a new world."""

REMOTES = ("images:", "ubuntu:", "ubuntu-daily:", "bootstrap:")
"""Images named so can always be fetched or built."""

_ARCHIVE = """
bash-completion build-essential ca-certificates cmake curl docker-compose docker.io emacs-nox fish gcc git
golang hello htop iproute2 iputils-ping jq less make nano net-tools nodejs npm openssh-server procps python3
python3-pip python3-venv ripgrep rsync screen strace sudo tini tmux tree unzip vim wget zsh
"""

CATALOGUE: frozenset[str] = frozenset(_ARCHIVE.split())
"""The packages that the simulated archive holds."""

PROVIDES: Mapping[str, frozenset[str]] = {
    "docker.io": frozenset({"docker"}),
    "openssh-server": frozenset({"ssh-server"}),
    "vim": frozenset({"editor"}),
}
"""The virtual packages that come with a real one."""

SERVICES: Mapping[str, str] = {"docker": "docker.io", "ssh": "openssh-server"}
"""The package that each service comes from."""
