"""A backup back into a container: imported beside its place, looked at, and moved there only when it is harmless.

What is imported has another name until it was checked, so that neither a controller nor a person takes it for the
environment's container. Nothing starts it: Incus does not at an import, and autostart is off before it has its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import yaml

from containarium.host.backupfiles import CHECKSUM, noted_checksum, refuse_without_room
from containarium.host.bounded import Limits, Output, run_bounded
from containarium.host.faults import clean
from containarium.host.incus import Incus
from containarium.host.instances import parse
from containarium.host.lock import only_controller
from containarium.host.observe import Accounts
from containarium.host.reader import CHUNK, upload
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent
from containarium.plan.desired import AUTOSTART, NIC_DEVICE
from containarium.plan.restored import objections
from containarium.plan.retire import REACHED_RETIRED, policy

_INDEX = "backup/index.yaml"
_LARGEST_INDEX = 1 << 20
_INDEX_SECONDS = 60.0
_LISTING_SECONDS = 3600.0
_GUESTS_FILES = ("backup/container/rootfs/*", "backup/snapshots/*/rootfs/*")
"""What a guest may fill with whatever it likes."""
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_UPLOAD_SILENCE = 600.0
"""Seconds; Incus keeps the whole file before it answers."""
_IMPORT_TIMEOUT = 8 * 3600.0
_REMOVAL_TIMEOUT = 300.0
_LEAST_GRACE = timedelta(days=7)
"""For how long at least what was restored stays, where no manifest is brought back for it."""


def staging_name(environment: str) -> str:
    """What an instance is called until it was checked; no environment's container has such a name."""
    return f"{environment}-restore"


class Restorer:
    """Restores backups on one host."""

    def __init__(self, incus: Incus, accounts: Accounts, settings: HostSettings) -> None:
        self._incus = incus
        self._accounts = accounts
        self._settings = settings

    def restore(self, name: str, file: Path, *, unchecked: bool = False, progress: Progress = silent) -> None:
        """Make NAME-container of a backup, stopped, without the dates of its retirement.

        The checksum beside the file has to fit; without one only ``unchecked`` does. Raises TerminalError: Conflict
        where something has the place, BackupDamaged, BackupUnchecked, BackupUnreadable, BackupRefused where it is of
        somebody else or asks for more than an environment may have. Then nothing of it is left.
        """
        with only_controller(self._settings.runtime / "restore"), _opened(file) as source:
            self._refuse_conflicts(name)
            digest = self._checked(file, source, progress, unchecked=unchecked)
            _refuse(file, name, _index(file))
            _refuse_links(file)
            self._clear(name, progress)
            try:
                self._import(name, file, source, digest, progress)
                self._settle(name, file)
            except BaseException:
                with contextlib.suppress(HostError):
                    self._remove(staging_name(name))
                raise

    def _refuse_conflicts(self, name: str) -> None:
        instance = marks.instance_name(name)
        if self._incus.exists("instances", instance):
            raise TerminalError(
                f"there is an instance {instance}",
                remedy=f"rename it first (incus rename {instance} NEW), if the backup is to take its place",
                reason="Conflict",
            )
        account = self._accounts.observe()[0].get(name)
        if account and not marks.owns_account(account.name, account.group, account.comment, account.home):
            raise TerminalError(
                f"an account {name} (uid {account.uid}) exists on the host and is not ours",
                remedy="rename or remove it first",
                reason="Conflict",
            )

    def _checked(self, file: Path, source: IO[bytes], progress: Progress, *, unchecked: bool) -> str:
        """The SHA-256 of the file, which is the noted one."""
        noted = noted_checksum(file)
        if noted is None and not unchecked:
            raise TerminalError(
                f"{file} has no checksum of its own in {file.name}{CHECKSUM}",
                remedy="copy it from where the backup was made, or trust the file with --no-checksum",
                reason="BackupUnchecked",
            )
        progress(f"verifying {file.name}")
        digest = hashlib.sha256()
        for chunk in _chunks(source):
            digest.update(chunk)
        if noted is not None and digest.hexdigest() != noted:
            raise _damaged(file)
        return digest.hexdigest()

    def _clear(self, name: str, progress: Progress) -> None:
        """Remove what a killed restore of this environment left; nothing else has a name like that and our mark."""
        staging = staging_name(name)
        try:
            there = self._incus.get("instances", staging)
        except TerminalError as error:
            if error.reason == "NotFound":
                return
            raise
        if (there.get("config") or {}).get(marks.ENVIRONMENT) != name:
            raise TerminalError(
                f"there is an instance {staging} without the mark of {name}",
                remedy=f"look at it, and rename or delete it (incus delete {staging})",
                reason="Conflict",
            )
        progress("removing what an interrupted restore left")
        self._remove(staging)

    def _import(self, name: str, file: Path, source: IO[bytes], digest: str, progress: Progress) -> None:
        """Give Incus exactly the bytes that were checked."""
        size = os.fstat(source.fileno()).st_size
        refuse_without_room(self._settings.incus_dir / "backups", size, f"the import of {file.name}")
        progress(f"importing {file.name}")
        sent = hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            for chunk in _chunks(source):
                sent.update(chunk)
                yield chunk

        headers = {"X-Incus-name": staging_name(name), "X-Incus-pool": self._settings.pool}
        reply = upload(self._incus.socket, ("instances",), chunks(), size, headers, timeout=_UPLOAD_SILENCE)
        self._incus.wait(reply.json()["metadata"]["id"], _IMPORT_TIMEOUT, progress)
        if sent.hexdigest() != digest:
            raise RetryableError(f"{file} was changed while it was read", remedy="try again", reason="Changed")

    def _settle(self, name: str, file: Path) -> None:
        """Look at what came out, take the dates of its retirement off, and give it its name."""
        staging, instance = staging_name(name), marks.instance_name(name)
        for snapshot in self._incus.get("instances", staging, "snapshots", recursion="1") or ():
            # going back to one takes its settings over, too
            _refuse(file, name, {**snapshot, "type": "container"})
        self._forget_templates(staging)
        fresh = self._incus.get_versioned("instances", staging)
        there: Mapping[str, Any] = fresh.value
        _refuse(file, name, there)
        if there.get("status") != "Stopped":
            raise TerminalError(f"{staging} was started by somebody", remedy="try again", reason="Running")
        config = dict.fromkeys((marks.RETIRED, marks.PRUNE_AFTER, marks.SUSPENDED, marks.RESTART), "")
        # not the digest of a finished one: what differs from its manifest now is no drift
        config |= {marks.APPLIED: REACHED_RETIRED, AUTOSTART: "false"}
        config |= _unhurried(there.get("config") or {})
        body: dict[str, Any] = {"config": config}
        if self._address_is_taken(staging, there):
            body["devices"] = {NIC_DEVICE: {"type": "none"}}  # it gets a free one when its manifest is back
        self._incus.patch("instances", staging, body=body, etag=fresh.etag)
        self._incus.post("instances", staging, body={"name": instance}, timeout=_REMOVAL_TIMEOUT)
        with contextlib.suppress(HostError):  # or its first start would write the image's host name and hosts anew
            self._incus.patch("instances", instance, body={"config": {"volatile.apply_template": ""}})

    def _forget_templates(self, staging: str) -> None:
        """Files that Incus itself writes at a start, as root. The image's were used when the container was made."""
        metadata = self._incus.get("instances", staging, "metadata") or {}
        if metadata.get("templates"):
            self._incus.put("instances", staging, "metadata", body={**metadata, "templates": {}})

    def _address_is_taken(self, staging: str, there: Mapping[str, Any]) -> bool:
        wanted = set(parse(there).addresses)
        others = self._incus.get("instances", recursion="1")
        return any(wanted & set(parse(other).addresses) for other in others if other["name"] != staging)

    def _remove(self, staging: str) -> None:
        """Delete what was imported, whatever its own file says about protection."""
        if not self._incus.exists("instances", staging):
            return
        self._incus.patch("instances", staging, body={"config": {"security.protection.delete": ""}})
        self._incus.delete("instances", staging, timeout=_REMOVAL_TIMEOUT)


def _unhurried(config: Mapping[str, str]) -> dict[str, str]:
    """Where it was deleted at once, that wish was carried out: whoever restores it wants to have it for a while."""
    wish = policy(config.get(marks.DELETION, ""))
    if wish.keep or wish.grace >= _LEAST_GRACE:
        return {}
    return {marks.DELETION: f"Retire;{_LEAST_GRACE.days}d" + (";backup" if wish.backup else "")}


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The file, which has to be a plain one."""
    try:
        source = file.open("rb", buffering=0)
    except OSError as error:
        raise TerminalError(
            f"{file} cannot be read: {error.strerror}", remedy="name a backup file", reason="BackupUnreadable"
        ) from error
    with source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise TerminalError(f"{file} is no plain file", remedy="name a backup file", reason="BackupUnreadable")
        yield source


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    source.seek(0)
    while chunk := source.read(CHUNK):
        yield chunk


def _index(file: Path) -> Mapping[str, Any]:
    """What the backup says of its instance, read without unpacking it. Only a first sieve: Incus reads another copy."""
    done = _tar(file, _INDEX_SECONDS, "--extract", "--to-stdout", "--occurrence=1", "--", _INDEX)
    try:
        index: Any = yaml.safe_load(done.out) if done.code == 0 else None
        container = index["config"]["container"]
        if not isinstance(container, Mapping):
            raise TypeError
    except (yaml.YAMLError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise _unreadable(file, done) from error
    return container


def _refuse_links(file: Path) -> None:
    """Refuse a backup in which what Incus keeps beside a guest's files is anything but plain files.

    Incus follows a link in the place of its own metadata, and writes through it as root.
    """
    patterns = [f"--exclude={pattern}" for pattern in _GUESTS_FILES]
    shape = ("--anchored", "--wildcards", "--wildcards-match-slash", "--quoting-style=c")
    done = _tar(file, _LISTING_SECONDS, "--list", "--verbose", *shape, *patterns)
    if done.code != 0:
        raise _unreadable(file, done)
    odd = [line for line in done.out.splitlines() if line[:1] not in (b"-", b"d")]
    if odd:
        raise _refused(file, f"it holds a link or a device: {clean(odd[0].decode(errors='replace'), 200)}")


def _tar(file: Path, seconds: float, *args: str) -> Output:
    command = ["tar", "--force-local", f"--file={file.absolute()}", *args]
    return run_bounded(command, Limits(seconds=seconds, output=_LARGEST_INDEX), env=_ENVIRONMENT)


def _unreadable(file: Path, done: Output) -> TerminalError:
    lines = done.err.strip().splitlines()
    return TerminalError(
        f"{file} is no backup of a container" + (f" ({clean(lines[0], 200)})" if lines else ""),
        remedy="name a file that incus export or containarium has made (one in .zst needs zstd on this host)",
        reason="BackupUnreadable",
    )


def _refuse(file: Path, name: str, found: Mapping[str, Any]) -> None:
    if against := objections(name, found):
        raise _refused(file, f"it is not what {name} may be: {', '.join(against)}")


def _refused(file: Path, why: str) -> TerminalError:
    return TerminalError(
        f"{file.name} is not restored, for {why}",
        remedy="where you trust it, import it under another name (incus import) and look at it there",
        reason="BackupRefused",
    )


def _damaged(file: Path) -> TerminalError:
    return TerminalError(
        f"{file} is damaged or was changed: its checksum is not the one in {file.name}{CHECKSUM}",
        remedy="use another backup",
        reason="BackupDamaged",
    )
