"""Backups, before a deletion or now: exported by Incus, streamed to a file of ours with its checksum, and read back.

NAME-20261122T120000Z.tar.zst (or .tar.gz) gets its name last of all: whatever has one is whole and was verified, and
its checksum stands beside it as sha256sum writes it. Snapshots are left out: each would be a whole copy.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from containarium.host import command
from containarium.host.backupfiles import (
    CHECKSUM,
    FILE,
    STAMP,
    checksum,
    files,
    mib,
    no_room,
    noted_checksum,
    refuse_without_room,
    saved,
)
from containarium.host.files import make_folder, sync_folder, write_atomically
from containarium.host.incus import Incus
from containarium.host.instances import Instances
from containarium.host.lock import only_controller
from containarium.host.reader import CHUNK, download
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import BackupInstance
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent

_PARTIAL = ".partial"
_OURS = "containarium"
"""Name of our backup at Incus; it is only there while one is made."""
_COMPRESSIONS = (("zstd", ".tar.zst"), ("gzip", ".tar.gz"))
"""In order of preference. Incus refuses those whose program it does not find."""
_EXPORT_TIMEOUT = 8 * 3600.0
_EXPIRY = timedelta(days=2)
"""After which Incus itself removes a backup that nobody fetched; longer than one can take."""
_STALL = 120.0
"""Seconds of silence after which a transfer has failed."""
_REMOVAL_TIMEOUT = 300.0
_MEASURE_TIMEOUT = 600.0
_MOST_HOLES = 1 << 40
"""Bytes that are on no disk, which Incus reads and packs like any other: some 140 MB in a second."""
_TOLD_EVERY = 1 << 28


def _utc() -> datetime:
    return datetime.now(UTC)


class Backups:
    """Makes the backups of one host."""

    def __init__(
        self,
        incus: Incus,
        instances: Instances,
        settings: HostSettings,
        run: command.Run = command.run,
        clock: Callable[[], datetime] = _utc,
        folder: Path | None = None,
    ) -> None:
        """``incus.cancellation`` also ends a transfer between two chunks. ``folder``: elsewhere than usual."""
        self._incus = incus
        self._instances = instances
        self._settings = settings
        self._folder = folder or settings.backups
        self._run = run
        self._clock = clock

    def save(self, action: BackupInstance, progress: Progress = silent) -> Path:
        """Back a stopped, retired instance of ours up, unless that was done since, and return the file.

        Raises RetryableError: Running where somebody started it, BackupNoSpace, BackupDamaged where what was written
        does not read back. Then nothing of the attempt is left.
        """
        name, instance = action.environment, action.instance
        there = self._stopped(action)

        def still_the_same() -> None:
            if self._stopped(action).get("last_used_at") != there.get("last_used_at"):
                raise RetryableError(
                    f"{instance} was started while it was backed up", remedy="it is tried again", reason="Running"
                )

        with self._alone(name, instance, progress):
            return self._kept(name, there, progress) or self._make(name, instance, "", progress, still_the_same)

    def save_now(self, name: str, called: str = "", progress: Progress = silent) -> Path:
        """Back an environment of ours up as it is now, whoever works in it, and return the file.

        ``called`` is the file's name, the usual one where it is empty. What runs has to be on a pool that gives Incus a
        frozen picture of it. Raises as ``save`` does, and RetryableError (Locked) while another backup of it is made.
        """
        instance = marks.instance_name(name)
        self._instances.owned(instance, name)
        with self._alone(name, instance, progress):
            return self._make(name, instance, called, progress, lambda: None)

    @contextlib.contextmanager
    def _alone(self, name: str, instance: str, progress: Progress) -> Iterator[None]:
        """Incus keeps one export of ours per instance, so one backup of it is made at a time."""
        with only_controller(self._settings.state / "locks" / f"backup-{name}"):
            with self._told_of_space(self._folder):
                make_folder(self._folder, 0o700)
                self._clear(name, instance, progress)
            yield

    def _make(self, name: str, instance: str, called: str, progress: Progress, sure: Callable[[], None]) -> Path:
        """``sure`` raises where what was written does not count after all."""
        self._refuse_if_it_cannot_fit(instance)
        began = self._clock()
        try:
            ending = self._export(instance, began, progress)
            final = self._folder / (called or f"{name}-{began.strftime(STAMP)}{ending}")
            digest = self._fetch(instance, final, progress)
            sure()
            self._commit(final, digest)
        finally:
            with contextlib.suppress(OSError, HostError):  # the next attempt clears up again, and waits where it must
                self._clear(name, instance, silent, patient=False)
        progress(f"backed up to {final}")
        return final

    def _stopped(self, action: BackupInstance) -> dict[str, Any]:
        there: dict[str, Any] = self._instances.owned(action.instance, action.environment).value
        if there.get("status") != "Stopped":
            raise RetryableError(f"{action.instance} is running", remedy="it is stopped first", reason="Running")
        return there

    def _kept(self, name: str, there: dict[str, Any], progress: Progress) -> Path | None:
        """A backup that holds what the instance holds: made since it was retired, and since it was last started."""
        retired = (there.get("config") or {}).get(marks.RETIRED, "")
        try:
            since = max(datetime.fromisoformat(retired), datetime.fromisoformat(there["last_used_at"]))
        except (ValueError, TypeError, KeyError):
            return None
        for one in saved(self._folder, name):
            if since <= one.moment <= self._clock():
                progress(f"verifying {one.path.name}")
                if self._reads_back(one.path, noted_checksum(one.path)):
                    return one.path
                progress(f"{one.path.name} is damaged, another one is made")
        return None

    def _reads_back(self, path: Path, digest: str | None) -> bool:
        try:
            return digest is not None and checksum(path, self._incus.cancellation) == digest
        except OSError:
            return False

    def _refuse_if_it_cannot_fit(self, instance: str) -> None:
        """Uncompressed, so that there is room whatever is in it."""
        size = self._size(instance)
        if (holes := self._counted(instance, "--apparent-size") - size) > _MOST_HOLES:
            raise RetryableError(  # a guest can make a file of any size in no time, and an export would never end
                f"the files of {instance} have {mib(holes)} of holes, which would be written out as zeros",
                remedy="bring its manifest back and remove its sparse files, or delete it yourself",
                reason="BackupTooSparse",
            )
        exports = self._settings.incus_dir / "backups"
        with contextlib.suppress(OSError):
            if exports.stat().st_dev == self._folder.stat().st_dev:
                return refuse_without_room(self._folder, 2 * size, f"the backup of {instance}")
        refuse_without_room(exports, size, f"the export of {instance}")
        refuse_without_room(self._folder, size, f"the backup of {instance}")
        return None

    def _size(self, instance: str) -> int:
        """Bytes on its disk. Incus leaves out what is shared with the image and snapshots, so its files are counted
        too, where its root file system can be seen (btrfs, dir).
        """
        state = self._incus.get("instances", instance, "state")
        told = (((state.get("disk") or {}).get("root")) or {}).get("usage") or 0
        return max(int(told), self._counted(instance))

    def _counted(self, instance: str, *how: str) -> int:
        """Bytes of its files; 0 where they cannot be counted."""
        root = self._settings.incus_dir / "containers" / instance / "rootfs"
        try:
            done = self._run(["du", "-s", "-B1", "-x", *how, "--", str(root)], timeout=_MEASURE_TIMEOUT, check=False)
        except RetryableError as error:
            if error.reason != "CommandTimeout":
                raise
            return 0
        counted = done.out.partition("\t")[0]
        return int(counted) if counted.isdecimal() else 0

    def _export(self, instance: str, began: datetime, progress: Progress) -> str:
        """Have Incus write the backup, and return the ending that its file should have."""
        progress(f"exporting {instance}")
        body = {
            "name": _OURS,
            "expires_at": (began + _EXPIRY).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "instance_only": True,
            "optimized_storage": False,  # so that a pool of any kind can take it back
        }
        *preferred, last = _COMPRESSIONS
        with self._told_of_space(self._settings.incus_dir / "backups"):
            for algorithm, ending in preferred:
                try:
                    self._create({**body, "compression_algorithm": algorithm}, instance, progress)
                except HostError as error:
                    if "isn't supported" not in error.message and "executable file not found" not in error.message:
                        raise
                else:
                    return ending
            self._create({**body, "compression_algorithm": last[0]}, instance, progress)
        return last[1]

    def _create(self, body: dict[str, Any], instance: str, progress: Progress) -> None:
        operation = self._incus.begin("instances", instance, "backups", body=body)
        self._incus.wait(operation["id"], _EXPORT_TIMEOUT, progress)

    def _fetch(self, instance: str, final: Path, progress: Progress) -> str:
        """Stream the export into the partial file, sync it, read it back; returns its SHA-256."""
        partial = final.with_name(final.name + _PARTIAL)
        digest = hashlib.sha256()
        where = ("instances", instance, "backups", _OURS, "export")
        with self._told_of_space(self._folder), download(self._incus.socket, where, timeout=_STALL) as body:
            refuse_without_room(self._folder, body.size or 0, f"the backup of {instance}")
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb", buffering=0) as file:
                for number, chunk in enumerate(body.chunks()):
                    self._incus.cancellation.check()
                    if number * CHUNK % _TOLD_EVERY == 0:
                        progress(f"writing {final.name}: {mib(number * CHUNK)} of {mib(body.size or 0)}")
                    digest.update(chunk)
                    _write_all(file.fileno(), chunk)
                os.fsync(file.fileno())
        progress(f"verifying {final.name}")
        if not self._reads_back(partial, digest.hexdigest()):
            raise RetryableError(
                f"{final.name} does not read back as it was written",
                remedy=f"see whether the disk below {self._folder} is failing; nothing was deleted",
                reason="BackupDamaged",
            )
        return digest.hexdigest()

    def _commit(self, final: Path, digest: str) -> None:
        """Checksum first, name last: a file that has its name has a checksum."""
        with self._told_of_space(self._folder):
            write_atomically(final.with_name(final.name + CHECKSUM), f"{digest}  {final.name}\n", 0o600)
            final.with_name(final.name + _PARTIAL).replace(final)
            sync_folder(self._folder)

    def _clear(self, name: str, instance: str, progress: Progress, *, patient: bool = True) -> None:
        """Remove what attempts left: partial files, checksums of nothing, our export at Incus.

        An export that is still being written can only be removed by who is ``patient``.
        """
        for path, _ in files(self._folder, name, FILE + re.escape(_PARTIAL)):
            path.unlink(missing_ok=True)
        for path, _ in files(self._folder, name, FILE + re.escape(CHECKSUM)):
            if not path.with_name(path.name.removesuffix(CHECKSUM)).exists():
                path.unlink(missing_ok=True)
        for path, _ in files(self._folder, f".{name}", FILE + re.escape(CHECKSUM) + r"\..*"):
            path.unlink(missing_ok=True)
        self._remove_export(instance, progress, patient=patient)

    def _remove_export(self, instance: str, progress: Progress, *, patient: bool) -> None:
        if not self._incus.exists("instances", instance, "backups", _OURS):
            return
        for operation in self._incus.get("operations", recursion="1").get("running") or ():
            backups = (operation.get("resources") or {}).get("backups") or ()
            if f"/1.0/instances/{instance}/backups/{_OURS}" in backups:
                if not patient:
                    return
                progress("waiting for the end of an earlier export")
                with contextlib.suppress(TerminalError):  # however it ended, it has
                    self._incus.wait(operation["id"], _EXPORT_TIMEOUT, progress)
        try:
            self._incus.delete("instances", instance, "backups", _OURS, timeout=_REMOVAL_TIMEOUT)
        except TerminalError as error:
            if error.reason != "NotFound":
                raise

    @contextlib.contextmanager
    def _told_of_space(self, folder: Path) -> Iterator[None]:
        """Make the errors of a full disk say so, and those of any other a line with a remedy."""
        try:
            yield
        except HostError as error:
            if error.reason != "QuotaExceeded":
                raise
            raise no_room(f"the disk below {folder} is full: {error.message}") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise no_room(f"the disk below {folder} is full") from error
            raise RetryableError(
                f"cannot write to {folder}: {error.strerror}",
                remedy="make it a folder that root can write to; nothing was deleted",
                reason="BackupFailed",
            ) from error


def _write_all(handle: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(handle, rest) :]
