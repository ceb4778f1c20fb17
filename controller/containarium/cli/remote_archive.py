"""The service's backups and snapshots, sessions and audit: what the commands do, with their refusals as statuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from containarium.api.errors import CallError, invalid
from containarium.cli import audit, backup, sessions, snapshot
from containarium.cli.errors import CommandError
from containarium.cli.wiring import Wiring
from containarium.model.host import Progress

_SINCE = "7d"


class HostArchive:
    """See ``api.operations.Archive``."""

    def __init__(self, wired: Wiring) -> None:
        self._wired = wired

    def backup(self, name: str, tell: Progress, *, stop: bool) -> str:
        """Into the host's own folder, and nowhere else."""
        _refuse_unprintable(name=name)
        with _in_words():
            return backup.keep(self._wired, name, None, stop=stop, tell=tell)

    def restore(self, name: str, backup_: str, tell: Progress) -> str:
        """From the host's own folder, and from nowhere else; with its checksum."""
        _refuse_unprintable(name=name, backup=backup_)
        folder = self._wired.settings.backups
        if Path(backup_).name != backup_.removeprefix(f"{folder}/") or Path(backup_).name == "..":
            raise invalid("backup", f"{backup_} is not in {folder}", "name a file there, or none for the newest")
        source = folder / Path(backup_).name if backup_ else None
        with _in_words():
            return backup.bring_back(self._wired, name, source, unchecked=False, tell=tell)

    def undelete(self, name: str, tell: Progress) -> str:
        """Into the host's own folder of manifests; where git brings that, it is told for somebody to commit."""
        _refuse_unprintable(name=name)
        with _in_words():
            try:
                return backup.rewrite(self._wired, name, self._wired.settings.manifests, tell)
            except backup.NotWrittenError as error:
                tell(error.text.rstrip("\n"))
                raise

    def snapshots(self, name: str) -> list[dict[str, Any]]:
        """Oldest first."""
        _refuse_unprintable(name=name)
        with _in_words():
            return [snapshot.plain(one) for one in snapshot.listed(self._wired, name)]

    def take(self, name: str, snapshot_: str, expires: str, tell: Progress) -> str:
        """A new one."""
        _refuse_unprintable(name=name, snapshot=snapshot_, expires=expires)
        with _in_words():
            return snapshot.take(self._wired, name, snapshot_ or None, expires or None, tell)

    def go_back(self, name: str, snapshot_: str, tell: Progress, *, safety: bool) -> str:
        """With nobody else at it."""
        _refuse_unprintable(name=name, snapshot=snapshot_)
        with _in_words():
            return snapshot.go_back(self._wired, name, snapshot_, safety=safety, tell=tell)

    def drop(self, name: str, snapshot_: str) -> str:
        """One less."""
        _refuse_unprintable(name=name, snapshot=snapshot_)
        with _in_words():
            return snapshot.drop(self._wired, name, snapshot_)


class HostTrail:
    """See ``api.operations.Trail``."""

    def __init__(self, wired: Wiring) -> None:
        self._wired = wired

    def sessions(self, name: str) -> list[dict[str, Any]]:
        """Who is connected now."""
        return sessions.connected(self._wired, name)

    def audit(self, name: str, since: str, until: str) -> dict[str, Any]:
        """Logins, changes and bans."""
        _refuse_unprintable(name=name, since=since, until=until)
        with _in_words():
            return audit.told(self._wired, name, since or _SINCE, until or None)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise CallError(grpc.StatusCode.FAILED_PRECONDITION, str(error), reason="Refused") from None


def _refuse_unprintable(**fields: str) -> None:
    """No name, file or time has such characters, and a NUL ends below as an error that nobody put into words."""
    for field, text in fields.items():
        if not text.isprintable():
            raise invalid(field, f"{text!r} has characters that cannot be printed", "write it without them")
