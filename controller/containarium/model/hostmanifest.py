"""The Host manifest: one machine of the fleet, as an admin declares it.

Host manifests stand beside the Environments, and every host reads all of them: they are the hosts that there are. Each
makes itself what the one with its own name says.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from containarium.model import fields
from containarium.model.base import InvalidValueError, ManifestModel, shown
from containarium.model.environment import KEY_PATTERN, KeySource, LabelKey, LabelValue
from containarium.model.quantity import Duration
from containarium.model.sshkey import SSHKey

KIND: Final = "Host"
SUBNET_LARGEST, SUBNET_SMALLEST = 16, 29
"""Prefix lengths that a bridge's subnet can have: the firewall names each of its addresses."""
MIN_RETENTION: Final = Duration.parse("1d")
MAX_RETENTION: Final = Duration.parse("3650d")

_DISK = re.compile(r"/dev(?:/[A-Za-z0-9_][A-Za-z0-9_.:+@-]*)+")
_URL = re.compile(
    r"(?:https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|file:(?://)?)(?:/[A-Za-z0-9._~+-]+)*/?"
)
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*(?:/[a-z0-9.-]+)*")
_ARMOUR = re.compile(
    r"\s*(?:-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:[A-Za-z0-9+/=:., -]*\n)+-----END PGP PUBLIC KEY BLOCK-----\s*)+"
)
_ADMIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_NO_ADMINS: Final = frozenset({"root", "nobody", "daemon", "bin", "sys", "sshd"})


class StorageDriver(StrEnum):
    """Incus' own names for its storage drivers."""

    ZFS = "zfs"
    BTRFS = "btrfs"
    DIR = "dir"


def check_host_name(name: str) -> str:
    """The name of a machine: its host name up to the first dot. Raises InvalidValueError."""
    if "." in name:
        raise InvalidValueError(
            f"{shown(name)} has a dot in it", f"write {name.partition('.')[0]}, what hostname -s says"
        )
    return fields.check_host(name)


def _driver(value: Any) -> Any:
    if isinstance(value, str) and value in StorageDriver.__members__.values():
        return StorageDriver(value)
    raise InvalidValueError(f"{shown(value)} is no storage driver", f"write {', '.join(StorageDriver)}")


def _disk(value: str) -> str:
    if not _DISK.fullmatch(value) or len(value) > 255:
        raise InvalidValueError(
            f"{shown(value)} is not a disk", "write its device, such as /dev/disk/by-id/google-data"
        )
    return value


def _subnet(value: Any) -> IPv4Interface:
    example = "write the bridge's own address and the length, such as 10.0.3.1/24"
    try:
        interface = IPv4Interface(value if isinstance(value, str | IPv4Interface) else "")
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidValueError(f"{shown(value)} is no IPv4 address with a prefix length", example) from None
    network = interface.network
    if not interface.is_private or interface.is_loopback or interface.is_link_local:
        raise InvalidValueError(f"{interface} is not an address of a private network", example)
    if not SUBNET_LARGEST <= network.prefixlen <= SUBNET_SMALLEST:
        raise InvalidValueError(
            f"/{network.prefixlen} is no size for a bridge", f"write /{SUBNET_LARGEST} to /{SUBNET_SMALLEST}"
        )
    if interface.ip in (network.network_address, network.broadcast_address):
        raise InvalidValueError(
            f"{interface} is not an address that a bridge can have", f"write {network[1]}/{network.prefixlen}"
        )
    return interface


def _url(value: str) -> str:
    if not _URL.fullmatch(value) or len(value) > 1024 or ".." in value.split("/"):
        raise InvalidValueError(f"{shown(value)} is not the address of a repository", "write https://HOST/PATH")
    return value


def _suite(value: str) -> str:
    if not _SUITE.fullmatch(value) or len(value) > 64:
        raise InvalidValueError(f"{shown(value)} is not the name of a suite", "write it like bookworm")
    return value


def _armour(value: str) -> str:
    if not _ARMOUR.fullmatch(value):
        raise InvalidValueError(
            "this is not an armoured OpenPGP public key", "paste what gpg --armor --export KEY prints, after key: |"
        )
    return value


def _admin(value: str) -> str:
    if not _ADMIN.fullmatch(value) or value in _NO_ADMINS or value.startswith(fields.RESERVED_PREFIXES):
        raise InvalidValueError(f"{shown(value)} cannot be an admin's account", "write a plain name, such as ops")
    return value


def _public_key(value: Any) -> SSHKey:
    return value if isinstance(value, SSHKey) else SSHKey.parse(value if isinstance(value, str) else "")


def _keys_unique(keys: tuple[SSHKey, ...]) -> tuple[SSHKey, ...]:
    if len({key.identity for key in keys}) < len(keys):
        raise InvalidValueError("a key is listed twice", "write it once")
    return keys


def _login_address(value: str) -> str:
    try:
        return str(IPv4Address(value))
    except AddressValueError:
        return fields.check_host(value.lower())


def _retention(value: Any) -> Duration:
    duration = Duration.parse(value)
    if not MIN_RETENTION.delta <= duration.delta <= MAX_RETENTION.delta:
        raise InvalidValueError(f"{duration} is no time to keep logs for", "write something from 1d to 3650d")
    return duration


def _admins_unique(admins: tuple[Admin, ...]) -> tuple[Admin, ...]:
    names = [admin.name for admin in admins]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidValueError(f"the admin {twice} is listed twice", "write all keys into one entry")
    return admins


Suite = Annotated[str, AfterValidator(_suite)]
AdminName = Annotated[str, AfterValidator(_admin), WithJsonSchema({"type": "string", "pattern": f"^{_ADMIN.pattern}$"})]
PublicKey = Annotated[
    SSHKey,
    PlainValidator(_public_key),
    PlainSerializer(lambda key: key.line),
    WithJsonSchema({"type": "string", "pattern": KEY_PATTERN}),
]
HostKeys = Annotated[tuple[PublicKey, ...], Field(strict=False, min_length=1), AfterValidator(_keys_unique)]
Subnet = Annotated[
    IPv4Interface,
    PlainValidator(_subnet),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+/(1[6-9]|2[0-9])$"}),
]


class HostMetadata(ManifestModel):
    """Which machine it is."""

    name: Annotated[
        str,
        AfterValidator(check_host_name),
        WithJsonSchema({"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}),
    ] = Field(description="The machine's host name, as hostname -s says it.", examples=["jump-1"])
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="For people and programs that select.", examples=[{"zone": "a"}]
    )


class Repository(ManifestModel):
    """An apt repository of Incus' upstream."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="Its address.", examples=["https://packages.example.org/incus/stable"]
    )
    key: Annotated[str, AfterValidator(_armour)] = Field(
        description="The public key that it is signed with, in ASCII armour: nothing else is installed from there."
    )
    suite: Suite | None = Field(
        default=None, description="Absent: the code name of this machine's release.", examples=["bookworm"]
    )
    components: Annotated[tuple[Annotated[str, AfterValidator(_suite)], ...], Field(strict=False, min_length=1)] = (
        Field(default=("main",), description="Its components.")
    )


class IncusSource(ManifestModel):
    """Where Incus comes from."""

    repository: Repository | None = Field(
        default=None, description="Absent: the distribution's own packages (Debian 12: its backports)."
    )


class Storage(ManifestModel):
    """Where containers and Incus' database are."""

    driver: Annotated[StorageDriver, BeforeValidator(_driver)] = Field(
        default=StorageDriver.BTRFS, description="What makes the pool. dir holds nobody to a disk limit."
    )
    disk: Annotated[str, AfterValidator(_disk)] | None = Field(
        default=None,
        description="A whole disk for the pool, Incus' database and the host's SSH keys, so that a new boot disk "
        "changes nothing. It is taken when it holds ours, made when it is blank, and refused when it holds anything "
        "else. Absent: the disk that /var/lib/incus is on.",
        examples=["/dev/disk/by-id/google-containarium-data"],
    )


class HostNetwork(ManifestModel):
    """The bridge that the containers are on, and where the other hosts reach this one."""

    subnet: Subnet = Field(
        default=IPv4Interface("10.0.3.1/24"),
        description="The bridge's own address; each host of a fleet has a subnet of its own.",
        examples=["10.0.3.1/24"],
    )
    address: Annotated[IPv4Address, BeforeValidator(fields.check_ipv4)] | None = Field(
        default=None,
        description="This host's address in the network of the fleet. Absent: it is nobody's peer.",
        examples=["10.128.0.2"],
    )


class Login(ManifestModel):
    """What people connect to."""

    address: Annotated[str, AfterValidator(_login_address)] = Field(
        description="Name or IPv4 address: this host's own, or that of the balancer before all of them.",
        examples=["jump.example.org"],
    )
    port: int = Field(default=22, ge=1, le=65535, description="Port of SSH there.")


class Admin(ManifestModel):
    """Somebody who runs this machine."""

    name: Annotated[
        str, AfterValidator(_admin), WithJsonSchema({"type": "string", "pattern": f"^{_ADMIN.pattern}$"})
    ] = Field(description="The account, made where it is missing, with sudo.", examples=["ops"])
    ssh_keys: Annotated[tuple[KeySource, ...], Field(strict=False, min_length=1)] = Field(
        description="Public keys, or files of them beside the manifests. Lines of its own in authorized_keys stay.",
        examples=[[{"file": "keys/ops.pub"}]],
    )


class Logs(ManifestModel):
    """What happened on the host: the journal, and the logs of logins and changes."""

    retention: Annotated[Duration, BeforeValidator(_retention)] = Field(
        default=Duration.parse("90d"), description="How long it is kept.", examples=["90d"]
    )


class Identity(ManifestModel):
    """How the others know this host. All of it is public; ``containarium host manifest`` prints it."""

    host_keys: HostKeys = Field(description="The host keys of its SSH server.")
    peer_key: PublicKey = Field(description="The key with which it asks the others.")


class HostSpec(ManifestModel):
    """What the machine should be."""

    incus: IncusSource = Field(default=IncusSource(), description="Where Incus comes from.")
    storage: Storage = Field(default=Storage(), description="Where containers and Incus' database are.")
    network: HostNetwork = Field(default=HostNetwork(), description="The bridge, and the network of the fleet.")
    login: Login | None = Field(default=None, description="What people connect to. Absent: what export is told.")
    admins: Annotated[tuple[Admin, ...], Field(strict=False), AfterValidator(_admins_unique)] = Field(
        default=(), description="Who runs it. Whoever is not named any more loses keys and sudo, not their files."
    )
    logs: Logs = Field(default=Logs(), description="How long logs are kept.")
    identity: Identity | None = Field(
        default=None, description="How the others know it. Absent: it takes no part in a fleet yet."
    )


class HostManifest(ManifestModel):
    """One machine that environments run on."""

    api_version: Literal["containarium.dev/v1"] = Field(description="Version of this format.")
    kind: Literal["Host"] = Field(description="What this document declares.")
    metadata: HostMetadata = Field(description="Which machine it is.")
    spec: HostSpec = Field(default=HostSpec(), description="What it should be.")

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def network(self) -> IPv4Network:
        """The subnet that its containers are in."""
        return self.spec.network.subnet.network
