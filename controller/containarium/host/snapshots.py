"""Snapshots of an environment's files: made, listed, gone back to, removed. Ownership is checked before each of them.

Going back takes the files and nothing else: Incus would take settings over, too, and with them the marks, limits and
dates of then. So the settings of now are put back before anything starts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from containarium.host.command import run
from containarium.host.incus import Incus
from containarium.host.instances import Instances, runs
from containarium.host.nicfilters import NicFilters
from containarium.host.power import Power
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent
from containarium.plan.desired import ROOT_DEVICE
from containarium.plan.restored import objections

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a snapshot may be called. Those that others made may have other names; they are never ours to choose."""
REACHED_SNAPSHOT = "snapshot"
"""Stands where the digest of a finished environment stands: what differs from the manifest afterwards is no drift."""
_NEVER = "0001-01-01T00:00:00Z"
"""Incus' word for "does not expire"; without one it would take the schedule's own expiry."""
_CREATE_TIMEOUT = 600.0
_RESTORE_TIMEOUT = 1800.0
_ATTEMPTS = 4
_ONLY_LATEST = frozenset({"zfs"})
"""Pools on which a container only goes back to its latest snapshot."""
_OF_NOW = ("volatile.idmap.base", "volatile.idmap.next")
"""What Incus itself noted and is of today: another guest may have got the ids of then."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One of an instance. ``size`` in bytes, None where Incus does not know."""

    name: str
    created: datetime | None
    expires: datetime | None = None
    size: int | None = None


class Snapshots:
    """The snapshots of one host's environments."""

    def __init__(self, incus: Incus, instances: Instances, settings: HostSettings, power: Power | None = None) -> None:
        self._incus = incus
        self._instances = instances
        self._settings = settings
        self._power = power or Power.on_this_host(incus, instances, settings, run)

    @classmethod
    def on_this_host(cls, settings: HostSettings) -> Snapshots:
        """With a client of its own."""
        from containarium.host import command

        incus = Incus(settings)
        return cls(incus, Instances(incus, NicFilters(incus, command.run), settings), settings)

    def all(self, name: str) -> tuple[Snapshot, ...]:
        """Every snapshot of an environment, oldest first."""
        self._owned(name)
        return tuple(_snapshot(raw) for raw in self._raw(name))

    def create(self, name: str, snapshot: str, expires: datetime | None, progress: Progress = silent) -> None:
        """Keep the files as they are now; of a running environment as a power cut would leave them.

        ``expires`` None: it stays until it is removed. Raises TerminalError: Conflict where there is one of that name,
        SnapshotNoSpace where the environment's own disk is full.
        """
        check_name(snapshot)
        self._owned(name)
        if any(raw["name"] == snapshot for raw in self._raw(name)):
            raise TerminalError(
                f"{name} has a snapshot {snapshot} already", remedy="choose another name", reason="Conflict"
            )
        progress(f"taking the snapshot {snapshot} of {marks.instance_name(name)}")
        self._create(name, snapshot, expires)

    def delete(self, name: str, snapshot: str) -> None:
        """Remove one. Raises TerminalError (NotFound) where there is none of that name."""
        self._owned(name)
        self._found(name, snapshot)
        self._incus.delete("instances", marks.instance_name(name), "snapshots", snapshot, timeout=_CREATE_TIMEOUT)

    def restore(
        self,
        name: str,
        snapshot: str,
        safety: str = "",
        safety_until: datetime | None = None,
        progress: Progress = silent,
    ) -> None:
        """Give an environment its files of then: stop it, keep those of now as the snapshot ``safety`` (empty: do
        not), go back, put the settings of now back, and start it where it ran.

        The caller sees to it that nobody else works on it. Raises TerminalError: NotFound, Retired, SnapshotRefused,
        SnapshotNotLatest, SnapshotNoSpace; it runs again then where it ran. SettingsNotBack: it stays stopped, for
        with settings of then nothing starts.
        """
        there = self._owned(name)
        _refuse_retired(name, there)
        raw = self._found(name, snapshot)
        if against := objections(name, {**raw, "type": "container"}):
            raise TerminalError(
                f"{snapshot} is not gone back to, for it is not what {name} may be: {', '.join(against)}",
                remedy=f"where you trust it: incus snapshot restore {marks.instance_name(name)} {snapshot}",
                reason="SnapshotRefused",
            )
        self._refuse_if_too_old(name, snapshot, there, safety=bool(safety))
        ran = runs(there) or there.get("status") == "Frozen"
        instance = marks.instance_name(name)
        self._power.stop(instance, name, progress)
        settled = True
        try:
            before = self._owned(name)
            if safety:
                progress(f"keeping the files of now as {safety}")
                self._create(name, safety, safety_until)
            progress(f"going back to {snapshot}")
            settled = False
            try:
                self._incus.put("instances", instance, body={"restore": snapshot}, timeout=_RESTORE_TIMEOUT)
            finally:
                self._put_settings_back(instance, before, progress)
                settled = True
        except HostError as error:
            if settled:
                raise
            raise _not_settled(name, snapshot, error) from error
        finally:
            if ran and settled:
                self._power.start(instance, name, progress)

    def _owned(self, name: str) -> Mapping[str, Any]:
        there: Mapping[str, Any] = self._instances.owned(marks.instance_name(name), name).value
        return there

    def _raw(self, name: str) -> list[Mapping[str, Any]]:
        found = self._incus.get("instances", marks.instance_name(name), "snapshots", recursion="1") or []
        return sorted(found, key=lambda raw: (str(raw.get("created_at", "")), str(raw.get("name", ""))))

    def _found(self, name: str, snapshot: str) -> Mapping[str, Any]:
        for raw in self._raw(name):
            if raw["name"] == snapshot:
                return raw
        raise TerminalError(
            f"{name} has no snapshot {snapshot}", remedy=f"see containarium snapshot list {name}", reason="NotFound"
        )

    def _create(self, name: str, snapshot: str, expires: datetime | None) -> None:
        until = expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if expires else _NEVER
        body = {"name": snapshot, "stateful": False, "expires_at": until}
        try:
            self._incus.post("instances", marks.instance_name(name), "snapshots", body=body, timeout=_CREATE_TIMEOUT)
        except HostError as error:
            if error.reason != "QuotaExceeded":
                raise
            raise TerminalError(
                f"no snapshot of {name} can be taken, for its disk is full",
                remedy="free space in it, or raise resources.disk; nothing was changed",
                reason="SnapshotNoSpace",
            ) from error

    def _refuse_if_too_old(self, name: str, snapshot: str, there: Mapping[str, Any], *, safety: bool) -> None:
        """On some pools going back removes every later snapshot: what they hold would be lost with it."""
        devices: Mapping[str, Mapping[str, str]] = there.get("expanded_devices") or there.get("devices") or {}
        pool = devices.get(ROOT_DEVICE, {}).get("pool", self._settings.pool)
        driver = str(self._incus.get("storage-pools", pool).get("driver", ""))
        if driver not in _ONLY_LATEST:
            return
        names = [str(raw["name"]) for raw in self._raw(name)]
        later = names[names.index(snapshot) + 1 :]
        if later:
            raise TerminalError(
                f"on {driver} a container only goes back to its latest snapshot, and {', '.join(later)} came later",
                remedy=f"where what they hold may go, remove them (containarium snapshot delete {name} {later[-1]})",
                reason="SnapshotNotLatest",
            )
        if safety:
            raise TerminalError(
                f"on {driver} a container only goes back to its latest snapshot, so there can be none of the state now",
                remedy=f"make a backup (containarium backup {name}), then add --no-safety",
                reason="SnapshotNotLatest",
            )

    def _put_settings_back(self, instance: str, before: Mapping[str, Any], progress: Progress) -> None:
        """Settings and devices as they were a moment ago, of which Incus keeps its own notes about the files."""
        for attempt in range(1, _ATTEMPTS + 1):
            fresh = self._incus.get_versioned("instances", instance)
            body = settings_of_now(before, fresh.value)
            try:
                self._incus.put("instances", instance, body=body, etag=fresh.etag)
            except RetryableError as error:
                if error.reason != "Conflict" or attempt == _ATTEMPTS:
                    raise
            else:
                progress("its settings are those of now")
                return


def settings_of_now(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What to write over an instance that went back: ``before`` with what Incus noted about the files of ``after``."""
    now, then = before.get("config") or {}, after.get("config") or {}
    config = {key: value for key, value in now.items() if not key.startswith("volatile.")}
    config |= {key: value for key, value in then.items() if key.startswith("volatile.") and key not in _OF_NOW}
    config |= {key: now[key] for key in _OF_NOW if key in now}
    if marks.APPLIED in config:
        config[marks.APPLIED] = REACHED_SNAPSHOT
    kept = {key: before[key] for key in ("architecture", "description", "ephemeral", "profiles") if key in before}
    return {**kept, "config": config, "devices": before.get("devices") or {}}


def check_name(snapshot: str) -> None:
    """Raise TerminalError (InvalidName) for what no snapshot of ours is called."""
    if not NAME.fullmatch(snapshot):
        raise TerminalError(
            f"{snapshot!r} cannot be a snapshot's name",
            remedy="write at most 63 letters, digits, dots, - and _, a letter or digit first",
            reason="InvalidName",
        )


def _not_settled(name: str, snapshot: str, error: HostError) -> TerminalError:
    # plan/diff.py has the changes of an instance before its start.
    return TerminalError(
        f"{name} stays stopped, for its settings may be those of {snapshot}: {error.message}",
        remedy="the controller's next pass puts them right and starts it then; where none runs: containarium apply",
        reason="SettingsNotBack",
    )


def _refuse_retired(name: str, there: Mapping[str, Any]) -> None:
    if (there.get("config") or {}).get(marks.RETIRED):
        raise TerminalError(
            f"{name} is retired",
            remedy=f"bring its manifest back first: containarium undelete {name}",
            reason="Retired",
        )


def _snapshot(raw: Mapping[str, Any]) -> Snapshot:
    size = raw.get("size")
    return Snapshot(
        name=str(raw.get("name", "")),
        created=_moment(raw.get("created_at")),
        expires=_moment(raw.get("expires_at")),
        size=size if isinstance(size, int) and size > 0 else None,
    )


def _moment(text: Any) -> datetime | None:
    """A time as Incus writes it; None for its year 1, which means never, and for anything else."""
    with contextlib.suppress(ValueError, TypeError):
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None and moment.year > 1 else None
    return None
