"""Backup files: NAME-20261122T120000Z.tar.zst (or .tar.gz), and its checksum beside it as sha256sum writes it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from containarium.host.cancel import NEVER, Never
from containarium.host.files import read_small
from containarium.model.host import RetryableError

CHECKSUM = ".sha256"
STAMP = "%Y%m%dT%H%M%SZ"
FILE = r"-(\d{8}T\d{6}Z)\.tar\.(?:zst|gz)"
"""What follows the environment's name; no name of another one can look like it, for names are in lowercase."""
_CHUNK = 1 << 20
_RESERVE = 256 << 20
"""Bytes that a backup leaves free: Incus' database may be on the same file system."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole backup. ``moment`` is when it was begun."""

    path: Path
    moment: datetime


def saved(folder: Path, name: str) -> tuple[Saved, ...]:
    """The whole backups of an environment, newest first."""
    found = [
        Saved(path, _moment(match[1]))
        for path, match in files(folder, name, FILE)
        if path.with_name(path.name + CHECKSUM).is_file()
    ]
    return tuple(sorted(found, key=lambda one: one.moment, reverse=True))


def noted_checksum(path: Path) -> str | None:
    """The SHA-256 in the file that stands beside a backup, as sha256sum writes it; None where there is none."""
    for line in (read_small(path.with_name(path.name + CHECKSUM)) or "").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if match and match[2] == path.name:
            return match[1]
    return None


def checksum(path: Path, cancellation: Never = NEVER) -> str:
    """The SHA-256 of a file as its disk has it, read in chunks. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        with contextlib.suppress(OSError):  # only asks for more than a look at what was just written from memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := file.read(_CHUNK):
            cancellation.check()
            digest.update(chunk)
    return digest.hexdigest()


def refuse_without_room(folder: Path, needed: int, what: str) -> None:
    """Raise RetryableError (BackupNoSpace) where ``needed`` bytes and a reserve are not free."""
    try:
        state = os.statvfs(folder)
    except FileNotFoundError:
        return
    free = state.f_bavail * state.f_frsize
    if free < needed + _RESERVE:
        raise no_room(f"{what} needs {mib(needed + _RESERVE)} in {folder}, and {mib(free)} are free")


def no_room(message: str) -> RetryableError:
    """There is no space; it is tried again, for nobody has to tell us when there is."""
    return RetryableError(
        message, remedy="free space there, or mount a larger disk; nothing was deleted", reason="BackupNoSpace"
    )


def files(folder: Path, name: str, ending: str) -> Iterator[tuple[Path, re.Match[str]]]:
    """The plain files of the folder that are called ``name`` and then what the expression ``ending`` says, sorted."""
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return
    for entry in entries:
        if match := re.fullmatch(re.escape(name) + ending, entry):
            yield folder / entry, match


def _moment(stamp: str) -> datetime:
    """When a file was begun, as its name says; long ago where the name says nothing."""
    try:
        return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def mib(size: int) -> str:
    """A number of bytes as people read it, rounded up."""
    return f"{-(-size // (1 << 20))} MiB"
