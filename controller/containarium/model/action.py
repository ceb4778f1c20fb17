"""Actions: what a plan asks the host to do. Frozen, sorted by the plan, serialisable as JSON.

Each one is idempotent: carried out twice, or again after a crash half-way, it ends in the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, ClassVar

from containarium.model.recipe import Recipe


class Impact(StrEnum):
    """What a change means for the person who is working in the environment."""

    LIVE = "live"
    RESTART = "restart"
    """Written now, acts at the next restart; no restart is made for it unless an admin asks."""
    RECREATE = "recreate"
    """Would need a new instance: reported, never done by itself."""
    PROTECTED = "protected"
    """Refused because protection stands on the live object."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field that is to change. ``drift`` says that the manifest did not change, so somebody else did it."""

    field: str
    before: str | None
    after: str | None
    impact: Impact = Impact.LIVE
    drift: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What all actions share. ``changes`` is what a reader is shown; the other fields are what is carried out."""

    kind: ClassVar[str] = ""
    environment: str
    changes: tuple[Change, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary in a stable order."""
        return {"kind": self.kind} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceAction(Action):
    """An action on the instance itself."""

    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateInstance(InstanceAction):
    """Create the instance from its image (fetched or built first where need be), without starting it.

    With ``packages`` it is made from the recipe of image, packages and Docker, which is baked first where it is not
    there; without, from the image itself. ``config`` carries the mark of ownership from the first moment on.
    """

    kind: ClassVar[str] = "CreateInstance"
    image: str
    config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]]
    packages: tuple[str, ...] = ()
    docker: bool = False

    @property
    def recipe(self) -> Recipe | None:
        """What is to be baked; None where the image is taken as it is."""
        return Recipe(self.image, self.packages, self.docker) if self.packages else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchInstance(InstanceAction):
    """Fetch the instance, snapshots included, from another host of the fleet, which stops it first, as it is there.

    It arrives stopped and with ``config`` over what it had: the mark of an arrival among it, until it is whole.
    ``devices`` replace those of the same name, for it gets an address of this host's subnet. Whatever an earlier
    attempt left is made whole or anew.
    """

    kind: ClassVar[str] = "FetchInstance"
    source: str
    """Name of the host that has it."""
    config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteInstance(InstanceAction):
    """Delete an instance of ours: half-born ones that can never start, and retired ones past their grace."""

    kind: ClassVar[str] = "DeleteInstance"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateInstance(InstanceAction):
    """Merge config keys ("" removes one) and replace whole devices, live."""

    kind: ClassVar[str] = "UpdateInstance"
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartInstance(InstanceAction):
    """Start (or thaw) the instance and wait until the guest lives and has its address."""

    kind: ClassVar[str] = "StartInstance"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopInstance(InstanceAction):
    """Stop the instance: gracefully first, by force when the guest does not go.

    ``patience`` is for how many seconds it may shut down in order; 0: by force at once, None: as long as usual.
    """

    kind: ClassVar[str] = "StopInstance"
    patience: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As for every action; ``patience`` only where it is not the usual."""
        plain = Action.to_json(self)
        if self.patience is None:
            del plain["patience"]
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartInstance(InstanceAction):
    """Stop and start again, because an admin asked for what acts only after a restart."""

    kind: ClassVar[str] = "RestartInstance"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptInstance(InstanceAction):
    """Make an instance ours that carries no mark yet: mark and managed keys in one change, or nothing at all.

    Refused where a mark of ours stands on it already.
    """

    kind: ClassVar[str] = "AdoptInstance"
    config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupInstance(InstanceAction):
    """Export the stopped instance to the folder of backups, with a checksum beside it, before its data goes.

    One that is there already, whole and made since the instance was retired, is kept.
    """

    kind: ClassVar[str] = "BackupInstance"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforceLimits(InstanceAction):
    """Make the kernel hold what the instance's configuration already says: it was found not to.

    ``config`` and ``devices`` are the configuration as it is, for exactly the keys that are not in force.
    """

    kind: ClassVar[str] = "EnforceLimits"
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUpUser(InstanceAction):
    """Make the person's account in the guest, or repair it: no password, sudo without one, in ``groups``.

    ``shell`` is for a new account; a person may choose another. ``without`` are groups to leave; any other that a
    person is in is their own affair. ``keys`` may be written on the way where the account is new: WriteGuestKeys, which
    follows, has nothing left to do then.
    """

    kind: ClassVar[str] = "SetUpUser"
    user: str
    shell: str
    groups: tuple[str, ...]
    without: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteGuestKeys(InstanceAction):
    """Write our block of the person's authorized_keys; lines outside the block are the person's own."""

    kind: ClassVar[str] = "WriteGuestKeys"
    user: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPackages(InstanceAction):
    """Install what is missing. Packages that a manifest no longer names are left where they are."""

    kind: ClassVar[str] = "InstallPackages"
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableService(InstanceAction):
    """Enable and start a systemd service in the guest (``docker`` or ``ssh``)."""

    kind: ClassVar[str] = "EnableService"
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockGuestRoot(InstanceAction):
    """Take the guest root's password away (field ``*``)."""

    kind: ClassVar[str] = "LockGuestRoot"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitLogin(InstanceAction):
    """Wait until the guest's SSH server answers on port 22 of ``address``."""

    kind: ClassVar[str] = "AwaitLogin"
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountAction(Action):
    """An action on the jump account, which is named like the environment."""

    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsureAccount(AccountAction):
    """Make the jump account, or repair it: nologin, password ``*``, our group only, no expiry, no subordinate ids.

    A half-made account of ours is completed. A foreign account of this name is an error, never changed.
    """

    kind: ClassVar[str] = "EnsureAccount"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAccountKeys(AccountAction):
    """Replace the account's keys file in the root-owned folder, atomically; no lines: the file is removed."""

    kind: ClassVar[str] = "WriteAccountKeys"
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockAccount(AccountAction):
    """Cut access: the account expires at once, whatever sshd and PAM are set to; its open sessions are ended."""

    kind: ClassVar[str] = "LockAccount"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAccount(AccountAction):
    """Remove a jump account of ours and its keys file."""

    kind: ClassVar[str] = "DeleteAccount"


ACTION_KINDS: tuple[type[Action], ...] = (
    CreateInstance,
    FetchInstance,
    DeleteInstance,
    UpdateInstance,
    StartInstance,
    StopInstance,
    RestartInstance,
    AdoptInstance,
    BackupInstance,
    EnforceLimits,
    SetUpUser,
    WriteGuestKeys,
    InstallPackages,
    EnableService,
    LockGuestRoot,
    AwaitLogin,
    EnsureAccount,
    WriteAccountKeys,
    LockAccount,
    DeleteAccount,
)
"""Every kind of action there is; a host carries out each of them."""


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
