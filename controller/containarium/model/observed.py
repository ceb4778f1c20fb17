"""What a look at the host found. Plain, frozen, and never changed by the looking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Interface

from containarium.model.fleet import Peer


class Look(StrEnum):
    """How far a look goes: SHALLOW stays outside the guests, DEEP also reads inside the running ones."""

    SHALLOW = "shallow"
    DEEP = "deep"


class InstanceStatus(StrEnum):
    """Incus' own words for an instance's state."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    FROZEN = "Frozen"
    ERROR = "Error"
    OTHER = "Other"


class Password(StrEnum):
    """What a shadow entry allows, without its secret."""

    NONE = "*"
    """No password can match, keys are accepted: what a jump account should have."""
    LOCKED = "!"
    """Locked by ``!``: sshd refuses even keys where PAM is off."""
    EMPTY = "empty"
    """Anybody gets in without a password."""
    USABLE = "set"
    """A real hash."""
    MISSING = "missing"
    """There is no shadow entry: the account is half-made."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One Incus instance, ours or foreign, as ``GET /1.0/instances?recursion=1`` tells it.

    ``config`` and ``devices`` are the local ones (profiles not merged in). ``addresses`` holds every static
    IPv4 address on its NICs, profiles included. Times are RFC 3339 as Incus writes them.
    """

    name: str
    status: InstanceStatus
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    created_at: str = ""
    last_used_at: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """One account of the host, ours or foreign.

    ``expired`` is true when the expiry date lies in the past. ``keys`` are the lines of the jump account's keys
    file in the root-owned folder, None where there is no such file (or it is not ours to read).
    ``subordinate_ids`` is true when /etc/subuid or /etc/subgid hands the account any ids.
    """

    name: str
    uid: int
    group: str
    comment: str = ""
    home: str = ""
    shell: str = ""
    password: Password = Password.NONE
    expired: bool = False
    groups: frozenset[str] = frozenset()
    subordinate_ids: bool = False
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Guest:
    """The inside of a running guest, as far as it is managed. Nothing of it is trusted; all of it is bounded.

    ``keys`` are the lines inside our block of the user's authorized_keys, None where there is no such block.
    ``packages`` holds every installed package and what it provides.
    """

    user: bool = False
    shell: str = ""
    groups: frozenset[str] = frozenset()
    password: Password = Password.MISSING
    root_password: Password = Password.NONE
    sudo: bool = False
    keys: tuple[str, ...] | None = None
    packages: frozenset[str] = frozenset()
    docker: bool = False
    """The Docker service is enabled."""
    ssh: bool = False
    """The SSH service (or socket) is enabled."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What the kernel holds a running instance to, whatever its configuration says.

    None where it could not be read, which is never a difference. ``memory`` and ``disk`` in bytes (0: no limit),
    ``processes`` a count (0: no limit), ``cpus`` the ids of the processors that it may use.
    """

    memory: int | None = None
    processes: int | None = None
    cpus: frozenset[int] | None = None
    disk: int | None = None
    filters: bool | None = None
    """The bridge's firewall has the chains that hold it to its own addresses."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host offers. ``subnet`` is the bridge's own address with its prefix length.

    ``leases`` maps every address known to the bridge's DHCP server, leased or reserved, to the host name it was
    given to (empty where unknown).
    """

    name: str
    bridge: str
    subnet: IPv4Interface
    pool: str
    pool_driver: str = ""
    cpus: int = 1
    probe_key: str = ""
    """Public half (``type blob``) of the key that the controller's own SSH probe logs in with; empty: no probe."""
    leases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """One whole look. ``guests`` is keyed by instance name and holds only the guests that were looked into."""

    host: HostFacts
    instances: Mapping[str, Instance] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)
    guests: Mapping[str, Guest] = field(default_factory=dict)
    enforced: Mapping[str, Enforcement] = field(default_factory=dict)
    """What the kernel really holds, by instance name; only of guests that were looked into."""
    orphan_keys: frozenset[str] = frozenset()
    """Names with a keys file in our folder and no account."""
    held: frozenset[str] = frozenset()
    """Environments that a command has in its hands at this moment: they are left alone until it ends."""
    peers: Mapping[str, Peer] = field(default_factory=dict)
    """The other declared hosts by name, and what they tell; empty where there is no fleet."""
