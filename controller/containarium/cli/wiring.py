"""What the commands work with. ``main`` makes one for this machine, tests hand in their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import typer

from containarium.cli.errors import CommandError
from containarium.host.settings import HostSettings

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from containarium.cli.remote import Backend
    from containarium.host.audittrail import Who
    from containarium.host.backupnow import Made
    from containarium.host.bans import Bans
    from containarium.host.connections import Connection
    from containarium.host.doctor import Finding
    from containarium.host.figures import Figures
    from containarium.host.logins import Logs
    from containarium.host.peering.neighbours import Answer
    from containarium.host.prepare import Step
    from containarium.host.snapshots import Snapshot
    from containarium.host.usage import Disks
    from containarium.model.host import Host, Progress
    from containarium.model.manifest import Declaration, DeclaredHost
    from containarium.model.recipe import Baked, Recipe
    from containarium.plan.inventory import Seen


class Prepare(Protocol):
    """Makes a machine ready, see ``containarium.host.prepare``."""

    def __call__(
        self,
        settings: HostSettings,
        *,
        install: bool,
        service: bool,
        declaration: Declaration,
        patience: float,
        progress: Progress,
    ) -> Sequence[Step]: ...


class HostKeys(Protocol):
    """Where the public host keys come from that an exported known_hosts vouches for. Never from the network."""

    def of_guest(self, instance: str) -> Sequence[str]:
        """``type blob`` of every host key of a guest."""
        ...

    def of_jump_host(self) -> Sequence[str]:
        """``type blob`` of every host key of this machine's own sshd."""
        ...

    def jump_host_name(self) -> str:
        """The name or address under which others reach this machine."""
        ...


class Neighbours(Protocol):
    """The other hosts of the fleet, see ``containarium.host.peering.neighbours``."""

    @property
    def name(self) -> str:
        """This host's own."""
        ...

    def answers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Answer]:
        """What the others say now, by name. Never raises; takes a few seconds at most."""
        ...

    def keys(self, host: str, environment: str) -> Sequence[str]:
        """``type blob`` of every host key of a guest on one of them. Raises HostError."""
        ...


class Restore(Protocol):
    """Makes containers of backups, see ``containarium.host.restore``."""

    def restore(self, name: str, file: Path, *, unchecked: bool, progress: Progress) -> None:
        """Raises HostError; then nothing was made."""
        ...


class Recipes(Protocol):
    """Images that environments are made from, see ``containarium.host.recipes``. Each method may raise HostError."""

    def baked(self) -> tuple[Baked, ...]:
        """Those that are there."""
        ...

    def bake(self, recipe: Recipe, progress: Progress) -> Baked:
        """A recipe's image, made first where it is missing; waits for others who make it."""
        ...

    def prune(
        self, unused_for: timedelta, now: datetime, *, wanted: Collection[Recipe], dry: bool
    ) -> tuple[Baked, ...]:
        """Remove, or with ``dry`` only name, what nobody has used for so long and ``wanted`` does not name."""
        ...

    def tidy(self) -> tuple[str, ...]:
        """Remove what interrupted builds left; returns the names."""
        ...


class Snapshots(Protocol):
    """Snapshots of environments, see ``containarium.host.snapshots``. Each method may raise HostError."""

    def all(self, name: str) -> tuple[Snapshot, ...]: ...

    def create(self, name: str, snapshot: str, expires: datetime | None, progress: Progress) -> None: ...

    def delete(self, name: str, snapshot: str) -> None: ...

    def restore(
        self, name: str, snapshot: str, safety: str, safety_until: datetime | None, progress: Progress
    ) -> None: ...


class Backups(Protocol):
    """Backups that somebody asks for, see ``containarium.host.backupnow``."""

    def save(self, name: str, output: Path | None, *, stop: bool, progress: Progress) -> Made: ...


class Importer(Protocol):
    """Looks at what is on a host already, see ``containarium.host.importing``."""

    def seen(self, names: Collection[str]) -> Sequence[Seen]: ...

    def orphans(self) -> Sequence[str]: ...


class Suspension(Protocol):
    """Leaves environments alone, see ``containarium.host.suspension``."""

    def suspend(self, name: str, now: datetime) -> bool: ...

    def resume(self, name: str) -> bool: ...


def _suspension(settings: HostSettings) -> Suspension:
    from containarium.host.suspension import Suspension as OnHost

    return OnHost(settings)


def _machine(settings: HostSettings) -> Host:
    from containarium.host.accounts import Accounts
    from containarium.host.machine import Machine

    return Machine(settings, Accounts(settings))


def _host_keys(settings: HostSettings) -> HostKeys:
    from containarium.host.hostkeys import MachineHostKeys

    return MachineHostKeys(settings)


def _prepare(
    settings: HostSettings,
    *,
    install: bool,
    service: bool,
    declaration: Declaration,
    patience: float,
    progress: Progress,
) -> Sequence[Step]:
    from containarium.host.prepare import prepare

    return prepare(
        settings, install=install, service=service, declaration=declaration, patience=patience, progress=progress
    )


def _mount_disk(settings: HostSettings, wait: float, progress: Progress) -> bool:
    from containarium.host.prepare import mount_disk

    return mount_disk(settings, wait=wait, progress=progress)


def _peer_key(settings: HostSettings) -> str:
    from containarium.host.prepare.peerkey import public_half

    return public_half(settings)


def _examine(settings: HostSettings) -> Sequence[Finding]:
    from containarium.host.doctor import examine
    from containarium.host.hostname import own_name
    from containarium.model.manifest import Declaration, Load
    from containarium.sources.directory import load
    from containarium.sources.ownhost import RefusedError, declaration

    found = load(settings.manifests) if settings.manifests.exists() else Load(complete=True)
    try:
        return examine(settings, declaration=declaration(found, settings.host_manifest, own_name()))
    except RefusedError as error:
        return examine(settings, declaration=Declaration(), refused=str(error))


def _restorer(settings: HostSettings) -> Restore:
    from containarium.host.accounts import Accounts
    from containarium.host.incus import Incus
    from containarium.host.restore import Restorer

    return Restorer(Incus(settings), Accounts(settings), settings)


def _snapshots(settings: HostSettings) -> Snapshots:
    from containarium.host.snapshots import Snapshots as OnHost

    return OnHost.on_this_host(settings)


def _backups(settings: HostSettings) -> Backups:
    from containarium.host.backupnow import BackupNow
    from containarium.host.incus import Incus

    return BackupNow(Incus(settings), settings)


def _importer(settings: HostSettings) -> Importer:
    from containarium.host.accounts import Accounts
    from containarium.host.importing import Importer as OnHost
    from containarium.host.incus import Incus

    return OnHost(Incus(settings), Accounts(settings), settings)


def _connections(accounts: Mapping[str, int]) -> Sequence[Connection]:
    from containarium.host.connections import connections

    return connections(accounts)


def _disks(settings: HostSettings) -> Disks:
    from containarium.host.usage import disks

    return disks(settings)


def _figures(settings: HostSettings, instance: str) -> Figures:
    from containarium.host.figures import figures

    return figures(settings, instance)


def _logs() -> Logs:
    from containarium.host.logins import Logs

    return Logs()


def _bans() -> Bans:
    from containarium.host.bans import bans

    return bans()


def _trail(who: Who, action: str, details: Mapping[str, Any] | None = None, **more: Any) -> bool:
    from containarium.host.audittrail import record

    return record(who, action, details, **more)


def _neighbours(settings: HostSettings) -> Neighbours:
    from containarium.host.hostname import own_name
    from containarium.host.peering.channel import Channel
    from containarium.host.peering.neighbours import Neighbours as Others

    return Others(own_name(), Channel(settings))


def _recipes(settings: HostSettings) -> Recipes:
    from containarium.host.accounts import Accounts
    from containarium.host.machine import Machine

    return Machine(settings, Accounts(settings)).recipes


def _utc() -> datetime:
    return datetime.now(UTC)


def _root() -> bool:
    return os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class Wiring:
    """Collaborators of the commands, each made only when a command asks for it."""

    settings: HostSettings = field(default_factory=HostSettings)
    host: Callable[[HostSettings], Host] = _machine
    host_keys: Callable[[HostSettings], HostKeys] = _host_keys
    prepare: Prepare = _prepare
    mount_disk: Callable[[HostSettings, float, Progress], bool] = _mount_disk
    peer_key: Callable[[HostSettings], str] = _peer_key
    examine: Callable[[HostSettings], Sequence[Finding]] = _examine
    restorer: Callable[[HostSettings], Restore] = _restorer
    suspension: Callable[[HostSettings], Suspension] = _suspension
    snapshots: Callable[[HostSettings], Snapshots] = _snapshots
    backups: Callable[[HostSettings], Backups] = _backups
    importer: Callable[[HostSettings], Importer] = _importer
    connections: Callable[[Mapping[str, int]], Sequence[Connection]] = _connections
    logs: Callable[[], Logs] = _logs
    disks: Callable[[HostSettings], Disks] = _disks
    figures: Callable[[HostSettings, str], Figures] = _figures
    bans: Callable[[], Bans] = _bans
    trail: Callable[..., bool] = _trail
    recipes: Callable[[HostSettings], Recipes] = _recipes
    neighbours: Callable[[HostSettings], Neighbours] = _neighbours
    clock: Callable[[], datetime] = _utc
    is_root: Callable[[], bool] = _root
    remote: Backend | None = None
    """The server that commands are carried out on; None: this host."""
    sleep: Callable[[float], None] = time.sleep

    def require_root(self, command: str) -> None:
        """Refuse in one line what only root can do."""
        if not self.is_root():
            raise CommandError(f"needs root: sudo containarium {command}")


def wiring(context: typer.Context) -> Wiring:
    """The wiring of the running command."""
    found = context.find_object(Wiring)
    return found if found is not None else Wiring()
