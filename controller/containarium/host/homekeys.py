"""Our block of an admin's authorized_keys on this host. The home is theirs: no link in it is followed, and other lines
in the file stay.

Every step is taken from the folder that was opened before it, so nobody can put another one in its place meanwhile.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from containarium.host import guestfiles
from containarium.model.host import TerminalError

_FOLDER, _FILE, _BESIDE = ".ssh", "authorized_keys", ".authorized_keys.containarium"
_LARGEST = 256 << 10
_QUOTED = re.compile(rb'"(?:\\.|[^"\\])*"')
_KEY = re.compile(rb"(?:(?P<options>\S+)[ \t]+)?(?:ssh-|ecdsa-|sk-)\S+[ \t]+\S+")
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Home:
    """Whose home it is, and where."""

    path: Path
    uid: int
    gid: int


ROOT = Home(Path("/root"), 0, 0)


def write(home: Home, keys: tuple[str, ...]) -> bool:
    """Have our block hold exactly these keys; without keys it is taken away. Returns whether anything changed.

    Raises TerminalError (OddKeysFile) where a link, a device or somebody else's file stands in the way, OSError.
    """
    with _home(home) as base:
        if keys:
            with suppress(FileExistsError):
                os.mkdir(_FOLDER, 0o700, dir_fd=base)
                os.chown(_FOLDER, home.uid, home.gid, dir_fd=base, follow_symlinks=False)
        with _opened(base, _FOLDER, home) as folder:
            if folder is None:
                return False
            before = _read(folder, home)
            after = guestfiles.write_block(before or b"", keys) if keys else _without_block(before or b"")
            if after == (before or b""):
                return False
            _replace(folder, home, after)
            return True


def read(home: Home) -> bytes:
    """The whole file; empty where there is none. Raises as ``write`` does."""
    with _home(home) as base, _opened(base, _FOLDER, home) as folder:
        return (_read(folder, home) or b"") if folder is not None else b""


def opens(home: Home, *, ours: bool = True) -> bool:
    """Whether a key in the file lets its owner do what they like; False where it cannot be told.

    A line with a forced command does not, such as the one by which a cloud tells root to log in as somebody else.
    Without ``ours``, our own block does not count.
    """
    try:
        data = read(home)
        lines = (data if ours else _without_block(data)).splitlines()
    except (TerminalError, OSError):
        return False
    return any(map(_lets_in, lines))


def _lets_in(line: bytes) -> bool:
    found = _KEY.match(_QUOTED.sub(b'""', line.strip()))
    if found is None or line.lstrip().startswith(b"#"):
        return False
    options = (found["options"] or b"").lower().split(b",")
    return not any(option.startswith(b"command=") for option in options)


def holds(home: Home, keys: tuple[str, ...]) -> bool:
    """Whether our block holds exactly these keys."""
    try:
        return guestfiles.read_block(read(home)) == keys
    except (TerminalError, OSError):
        return False


def _without_block(data: bytes) -> bytes:
    if guestfiles.BEGIN not in data:
        return data
    empty = guestfiles.BEGIN + b"\n" + guestfiles.END + b"\n"
    return guestfiles.write_block(data, ()).replace(empty, b"")


@contextmanager
def _home(home: Home) -> Iterator[int]:
    try:
        base = os.open(home.path, _OPEN_FOLDER)
    except OSError as error:
        raise _odd(home.path, error.strerror or "it cannot be opened") from error
    try:
        if os.fstat(base).st_uid not in (home.uid, 0):
            raise _odd(home.path, "it is somebody else's")
        yield base
    finally:
        os.close(base)


@contextmanager
def _opened(base: int, name: str, home: Home) -> Iterator[int | None]:
    try:
        folder = os.open(name, _OPEN_FOLDER, dir_fd=base)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise _odd(home.path / name, error.strerror or "it cannot be opened") from error
    try:
        if os.fstat(folder).st_uid not in (home.uid, 0):
            raise _odd(home.path / name, "it is somebody else's")
        yield folder
    finally:
        os.close(folder)


def _read(folder: int, home: Home) -> bytes | None:
    path = home.path / _FOLDER / _FILE
    try:
        handle = os.open(_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _odd(path, error.strerror or "it cannot be opened") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid not in (home.uid, 0):
            raise _odd(path, "it is no plain file of theirs")
        if status.st_size > _LARGEST:
            raise _odd(path, f"it is larger than {_LARGEST >> 10} KiB")
        return os.read(handle, _LARGEST + 1)
    finally:
        os.close(handle)


def _replace(folder: int, home: Home, data: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(_BESIDE, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(_BESIDE, flags, 0o600, dir_fd=folder)
    with os.fdopen(handle, "wb") as file:
        os.fchown(handle, home.uid, home.gid)
        file.write(data)
        file.flush()
        os.fsync(handle)
    os.rename(_BESIDE, _FILE, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _odd(path: Path, why: str) -> TerminalError:
    return TerminalError(
        f"{path}: {why}", remedy="look at it and move it away; the keys are written anew", reason="OddKeysFile"
    )
