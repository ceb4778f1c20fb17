"""The Environment manifest: one person's Linux environment, as an admin declares it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from containarium.model import fields
from containarium.model.base import InvalidValueError, ManifestModel, shown
from containarium.model.quantity import Cpu, Duration, Size

API_VERSION: Final = "containarium.dev/v1"
KIND: Final = "Environment"

ANNOTATION_PREFIX: Final = "containarium.dev/"
SUSPEND_ANNOTATION: Final = ANNOTATION_PREFIX + "suspend"
ADOPT_ANNOTATION: Final = ANNOTATION_PREFIX + "adopt"
KNOWN_ANNOTATIONS: Final = (SUSPEND_ANNOTATION, ADOPT_ANNOTATION)

MIN_MEMORY: Final = Size.parse("64MiB")
MIN_DISK: Final = Size.parse("256MiB")
KEY_PATTERN: Final = (
    r"^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
    r" [A-Za-z0-9+/]+=*( .*)?$"
)
_Model = TypeVar("_Model", bound=ManifestModel)


def _shared(default: _Model) -> Callable[[], _Model]:
    """A default that all manifests have in common: it is frozen, and thousands of copies would only take room."""
    return lambda: default


def _at_least(minimum: Size) -> Callable[[Size], Size]:
    def check(size: Size) -> Size:
        if size.bytes < minimum.bytes:
            raise InvalidValueError(f"{size} is too little for a system to run", f"write {minimum} or more")
        return size

    return check


def _unique(packages: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(packages)) < len(packages):
        twice = next(package for package in packages if packages.count(package) > 1)
        raise InvalidValueError(f"the package {twice} is listed twice", "write it once")
    return packages


def _annotations(annotations: dict[str, str]) -> dict[str, str]:
    for key, value in annotations.items():
        if key in KNOWN_ANNOTATIONS:
            if value not in ("true", "false"):
                raise InvalidValueError(f"{key} is {shown(value)}", 'write "true" or "false", in quotes')
        elif key.startswith(ANNOTATION_PREFIX):
            raise InvalidValueError(f"{shown(key)} means nothing here", f"known are {', '.join(KNOWN_ANNOTATIONS)}")
    return annotations


class KeyFile(ManifestModel):
    """A file of public keys, one per line."""

    file: Annotated[str, AfterValidator(fields.check_key_path)] = Field(
        description="Path of the file, from the folder of the manifests.", examples=["keys/alice.pub"]
    )


def _key_source(value: Any) -> str | KeyFile:
    if isinstance(value, str | KeyFile):
        return value
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("file"), str):
        return KeyFile(file=fields.check_key_path(value["file"]))
    raise InvalidValueError(
        f"{shown(value)} is not a key", "write the line of a .pub file as text, or {file: keys/NAME.pub}"
    )


def _key_data(source: str | KeyFile) -> str | dict[str, str]:
    return source if isinstance(source, str) else {"file": source.file}


def _some_keys(keys: tuple[str | KeyFile, ...]) -> tuple[str | KeyFile, ...]:
    if not keys:
        raise InvalidValueError("there is no key, so nobody could log in", "write at least one public key")
    return keys


def _policy(value: Any) -> Any:
    if isinstance(value, str) and value in DeletionPolicy.__members__.values():
        return DeletionPolicy(value)
    raise InvalidValueError(f"{shown(value)} is no deletion policy", f"write {' or '.join(DeletionPolicy)}")


class DeletionPolicy(StrEnum):
    """What happens when the manifest goes away: RETIRE keeps the data for a while, RETAIN for ever."""

    RETIRE = "Retire"
    RETAIN = "Retain"


_KEY_SCHEMA = {
    "oneOf": [
        {"type": "string", "pattern": KEY_PATTERN, "description": "The line of a .pub file."},
        {
            "type": "object",
            "description": "A file of public keys, one per line, beside the manifests.",
            "properties": {
                "file": {
                    "type": "string",
                    "description": "Path from the folder of the manifests.",
                    "pattern": "^[^/.]",
                    "examples": ["keys/alice.pub"],
                }
            },
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}

LabelKey = Annotated[str, AfterValidator(fields.check_label_key)]
LabelValue = Annotated[
    str, AfterValidator(fields.check_label_value), WithJsonSchema({"type": "string", "pattern": fields.LABEL_PATTERN})
]
Package = Annotated[
    str, AfterValidator(fields.check_package), WithJsonSchema({"type": "string", "pattern": fields.PACKAGE_PATTERN})
]
KeySource = Annotated[
    str | KeyFile, PlainValidator(_key_source), PlainSerializer(_key_data), WithJsonSchema(_KEY_SCHEMA)
]


class Metadata(ManifestModel):
    """Who the environment is for."""

    name: Annotated[
        str,
        AfterValidator(fields.check_name),
        WithJsonSchema({"type": "string", "pattern": fields.NAME_PATTERN, "maxLength": fields.NAME_MAX}),
    ] = Field(
        description="Names the container NAME-container and the accounts on the host and in the guest: "
        "lowercase letters, digits and single hyphens, a letter first.",
        examples=["alice"],
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="For selecting and grouping, as in Kubernetes.", examples=[{"team": "ml"}]
    )
    annotations: Annotated[dict[LabelKey, str], AfterValidator(_annotations)] = Field(
        default_factory=dict,
        description=f'Free text. {SUSPEND_ANNOTATION}: "true" leaves the environment exactly as it is; '
        f'{ADOPT_ANNOTATION}: "true" takes over an existing instance of this name.',
        examples=[{SUSPEND_ANNOTATION: "true"}],
    )

    @property
    def suspended(self) -> bool:
        """Whether the controller leaves this environment alone."""
        return self.annotations.get(SUSPEND_ANNOTATION) == "true"

    @property
    def adopts(self) -> bool:
        """Whether an existing, foreign instance of this name may be taken over."""
        return self.annotations.get(ADOPT_ANNOTATION) == "true"


class Resources(ManifestModel):
    """What the environment may use. Units follow Incus: MB is 1000-based, MiB is 1024-based."""

    cpu: Cpu = Field(
        default=Cpu.parse(4),
        description="A number of CPUs, or the ids of the CPUs to be pinned to (0-3, 2-4, 1,3).",
        examples=[4, "0-3"],
    )
    memory: Annotated[Size, AfterValidator(_at_least(MIN_MEMORY))] = Field(
        default=Size.parse("4GiB"), description="Memory limit.", examples=["8GiB", "512MiB"]
    )
    disk: Annotated[Size, AfterValidator(_at_least(MIN_DISK))] = Field(
        default=Size.parse("50GiB"), description="Disk quota. Grows live, never shrinks.", examples=["50GiB"]
    )
    processes: int = Field(
        default=4096, ge=64, le=4194304, description="Most processes and threads at once.", examples=[4096]
    )


class Network(ManifestModel):
    """Where the environment is on the bridge."""

    ipv4: Annotated[IPv4Address, BeforeValidator(fields.check_ipv4)] | None = Field(
        default=None,
        description="Fixed address in the bridge's subnet. Absent: one is chosen and kept.",
        examples=["10.0.3.100"],
    )


class Snapshots(ManifestModel):
    """Automatic snapshots, taken by Incus."""

    schedule: Annotated[
        str,
        AfterValidator(fields.check_schedule),
        WithJsonSchema({"type": "string", "pattern": fields.SCHEDULE_PATTERN}),
    ] = Field(
        default="@daily",
        description=f"When: {', '.join(fields.SCHEDULES)}, or five numeric cron fields (host's time zone).",
        examples=["@daily", "30 3 * * *"],
    )
    keep: Duration = Field(
        default=Duration.parse("30d"), description="How long each snapshot is kept.", examples=["30d"]
    )


class Placement(ManifestModel):
    """Where the environment runs, when there are several hosts."""

    host: Annotated[
        str, AfterValidator(fields.check_host), WithJsonSchema({"type": "string", "pattern": fields.HOST_PATTERN})
    ] = Field(description="Name of the host.", examples=["jump-1"])


class Deletion(ManifestModel):
    """What happens when the manifest goes away or expires."""

    policy: Annotated[DeletionPolicy, BeforeValidator(_policy)] = Field(
        default=DeletionPolicy.RETIRE,
        description="Retire: access is withdrawn at once, the data is deleted after the grace period. "
        "Retain: access is withdrawn, the data is never deleted.",
    )
    grace: Duration = Field(
        default=Duration.parse("7d"), description="How long the data of a retired environment is kept.", examples=["7d"]
    )
    backup: bool = Field(default=False, description="Make a backup before the data is deleted.")
    protect: bool | None = Field(
        default=None,
        description="Protect the live container from deletion. Absent: left as it is on the container itself.",
    )


class Spec(ManifestModel):
    """What the environment should be."""

    image: Annotated[
        str, AfterValidator(fields.check_image), WithJsonSchema({"type": "string", "pattern": fields.IMAGE_PATTERN})
    ] = Field(
        default="images:ubuntu/24.04",
        description="What the system is made from: images:, ubuntu:, ubuntu-daily:, a local alias, "
        "or bootstrap:debian/12 (built on the host from the distribution's mirror).",
        examples=["images:ubuntu/24.04", "bootstrap:debian/12"],
    )
    resources: Resources = Field(default_factory=_shared(Resources()), description="Limits.")
    ssh_keys: Annotated[tuple[KeySource, ...], Field(strict=False), AfterValidator(_some_keys)] = Field(
        description="Public keys of the person, at least one: the line of a .pub file, or a file beside the manifests.",
        examples=[[{"file": "keys/alice.pub"}]],
        json_schema_extra={"minItems": 1},
    )
    docker: bool = Field(default=False, description="Docker inside the environment.")
    packages: Annotated[tuple[Package, ...], Field(strict=False), AfterValidator(_unique)] = Field(
        default=(), description="Debian packages to install.", examples=[["git", "tmux"]]
    )
    autostart: bool = Field(default=True, description="Start with the host.")
    running: bool = Field(default=True, description="Keep it running; false stops it and keeps it stopped.")
    network: Network = Field(default_factory=_shared(Network()), description="Address on the bridge.")
    snapshots: Snapshots | None = Field(default=None, description="Automatic snapshots. Absent: none.")
    placement: Placement | None = Field(default=None, description="On which host it runs. Absent: chosen.")
    expires: Annotated[date, BeforeValidator(fields.check_date)] | None = Field(
        default=None, description="Last day; retires by itself after it.", examples=["2026-12-31"]
    )
    deletion: Deletion = Field(
        default_factory=_shared(Deletion()), description="What happens when the manifest goes away."
    )
    class_name: (
        Annotated[
            str,
            AfterValidator(fields.check_class_name),
            WithJsonSchema({"type": "string", "pattern": fields.NAME_PATTERN, "maxLength": fields.NAME_MAX}),
        ]
        | None
    ) = Field(
        default=None,
        alias="class",
        description="The EnvironmentClass that says what is not said here. Absent: the defaults do.",
        examples=["student"],
    )


class Environment(ManifestModel):
    """A Linux environment of one person, behind SSH."""

    api_version: Literal["containarium.dev/v1"] = Field(description="Version of this format.")
    kind: Literal["Environment"] = Field(description="What this document declares.")
    metadata: Metadata = Field(description="Who it is for.")
    spec: Spec = Field(description="What it should be.")
