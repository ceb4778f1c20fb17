"""Manifest files on the disk: replaced whole or not at all, and never over somebody else's change."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from containarium.sources.edittext import EditRefusedError
from containarium.sources.folder import MAX_FILE_BYTES

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MODE: Final = 0o644
_AGAIN: Final = "look at it and run the command again"


def content(path: Path) -> bytes:
    """The bytes of a plain file. Raises EditRefusedError where it is none, or too large for a manifest; OSError."""
    handle = os.open(path, _FLAGS)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise EditRefusedError(f"{path} is not a plain file", "put a plain text file there")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise EditRefusedError(f"{path} is larger than {MAX_FILE_BYTES >> 10} KiB", "split it")
    return data


def absent(path: Path) -> None:
    """Raise EditRefusedError where a file that is to be new has come to be meanwhile."""
    if os.path.lexists(path):
        raise EditRefusedError(f"{path} exists already", _AGAIN)


def swap(path: Path, before: bytes | None, after: bytes | None) -> None:
    """Put ``after`` in the place of ``before``; None is no file. Mode and owner stay. Synced to the disk.

    Raises EditRefusedError where something else stands there by now, and OSError; then nothing was changed.
    """
    if before is None and after is not None:
        _create(path, after)
    elif before is not None and after is None:
        _unchanged(path, before)
        path.unlink()
    elif before is not None and after is not None and before != after:
        _replace(path, before, after)
    _sync(path.parent)


def take_link(path: Path, target: str) -> None:
    """Take a link away that leads to ``target``. Synced to the disk.

    Raises EditRefusedError where something else stands there by now, and OSError; then nothing was changed.
    """
    try:
        same = str(path.readlink()) == target
    except OSError:
        same = False
    if not same:
        raise _meddled(path)
    path.unlink()
    _sync(path.parent)


def put_link(path: Path, target: str) -> None:
    """Make a link to ``target`` where there is nothing. Raises OSError."""
    path.symlink_to(target)
    _sync(path.parent)


def _create(path: Path, data: bytes) -> None:
    new = _written(path, data, _MODE)
    try:
        path.hardlink_to(new)
    except FileExistsError:
        raise EditRefusedError(f"{path} exists already", _AGAIN) from None
    finally:
        new.unlink()


def _replace(path: Path, before: bytes, after: bytes) -> None:
    found = path.lstat()
    new = _written(path, after, stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid))
    try:
        _unchanged(path, before)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def _unchanged(path: Path, before: bytes) -> None:
    try:
        same = content(path) == before
    except FileNotFoundError:
        same = False
    if not same:
        raise _meddled(path)


def _meddled(path: Path) -> EditRefusedError:
    return EditRefusedError(f"{path} was changed by somebody else meanwhile", _AGAIN)


def _written(path: Path, data: bytes, mode: int, owner: tuple[int, int] | None = None) -> Path:
    """A synced file beside ``path`` that no load takes for a manifest."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(handle, *owner)
            os.fchmod(handle, mode)
            os.fsync(handle)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        if isinstance(error, OSError):
            error.filename = error.filename or os.fspath(path)
        raise
    return Path(name)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
