"""What the commands work with. ``main`` makes one for this machine, tests hand in their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import typer

from containarium.cli.errors import CommandError
from containarium.host.settings import HostSettings

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from containarium.host.doctor import Finding
    from containarium.host.prepare import Step
    from containarium.model.host import Host, Progress
    from containarium.model.recipe import Baked, Recipe


class Prepare(Protocol):
    """Makes a machine ready, see ``containarium.host.prepare``."""

    def __call__(
        self, settings: HostSettings, *, install: bool, service: bool, progress: Progress
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


def _prepare(settings: HostSettings, *, install: bool, service: bool, progress: Progress) -> Sequence[Step]:
    from containarium.host.prepare import prepare

    return prepare(settings, install=install, service=service, progress=progress)


def _examine(settings: HostSettings) -> Sequence[Finding]:
    from containarium.host.doctor import examine

    return examine(settings)


def _restorer(settings: HostSettings) -> Restore:
    from containarium.host.accounts import Accounts
    from containarium.host.incus import Incus
    from containarium.host.restore import Restorer

    return Restorer(Incus(settings), Accounts(settings), settings)


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
    examine: Callable[[HostSettings], Sequence[Finding]] = _examine
    restorer: Callable[[HostSettings], Restore] = _restorer
    suspension: Callable[[HostSettings], Suspension] = _suspension
    recipes: Callable[[HostSettings], Recipes] = _recipes
    clock: Callable[[], datetime] = _utc
    is_root: Callable[[], bool] = _root

    def require_root(self, command: str) -> None:
        """Refuse in one line what only root can do."""
        if not self.is_root():
            raise CommandError(f"needs root: sudo containarium {command}")


def wiring(context: typer.Context) -> Wiring:
    """The wiring of the running command."""
    found = context.find_object(Wiring)
    return found if found is not None else Wiring()
