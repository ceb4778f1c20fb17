"""The jump accounts' key files: one per account in a root-owned folder, replaced atomically, no link ever followed."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from containarium.host.files import make_folder
from containarium.model.host import TerminalError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LARGEST = 1 << 20
"""Bytes of a keys file that are read at most; ours have a few hundred."""
_RACY = 2_000_000_000
"""Nanoseconds for which a file's times do not prove yet that it stays as it was read."""
UNSAFE = "# not a plain root-owned file"
"""Stands for the content of a file that sshd would refuse or somebody else could write: it equals no wanted keys."""


Known = dict[str, tuple[tuple[int, ...], tuple[str, ...]]]
"""What earlier reads found, with the identity and times that the file had then: most files never change."""


def read_all_keys(folder: Path, known: Known | None = None) -> dict[str, tuple[str, ...]]:
    """The lines of every keys file, by account name. A missing folder is empty; other files are left out.

    ``known`` is kept by the caller between reads; files that are the same by inode and all times are not read again.
    Raises TerminalError (NotRoot) where the folder may not be read.
    """
    known = {} if known is None else known
    found: Known = {}
    try:
        with _opened_folder(folder) as handle:
            for name in filter(_NAME.fullmatch, os.listdir(handle)):  # noqa: PTH208 - of the handle
                with contextlib.suppress(FileNotFoundError):
                    found[name] = _read_if_changed(handle, name, known.get(name))
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise TerminalError(f"cannot read {folder}", remedy="run it as root", reason="NotRoot") from error
    known.clear()
    known.update(found)
    return {name: lines for name, (_, lines) in found.items()}


def _read_if_changed(
    folder: int, name: str, before: tuple[tuple[int, ...], tuple[str, ...]] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    seen: tuple[int, ...] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if before and before[0] == seen:
        return before
    if time.time_ns() - status.st_ctime_ns < _RACY:
        seen = ()  # written just now: a second write may leave the same times
    lines = _read(folder, name)
    if lines is None:
        raise FileNotFoundError(name)
    return seen, lines


def write_keys_file(folder: Path, name: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the keys file of ``name``; no lines: remove it. The folder is made where it is missing.

    Returns the lines that stood there before. Raises TerminalError where the folder belongs to somebody else or a line
    is not one line.
    """
    if any(not line or any(ord(char) < 32 or ord(char) == 127 for char in line) for line in lines):
        raise TerminalError(f"a key line of {name} is empty or holds control characters", reason="InvalidKey")
    before: tuple[str, ...] = ()
    if not lines:
        with contextlib.suppress(FileNotFoundError), _opened_folder(folder) as handle:
            before = _read(handle, name) or ()
            os.unlink(name, dir_fd=handle)
            os.fsync(handle)
        return before
    make_folder(folder)
    try:
        with _opened_folder(folder) as handle:
            before = _read(handle, name) or ()
            if lines != before:
                _replace(handle, name, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise TerminalError(
            f"cannot write {folder / name}: {error.strerror}", remedy="see containarium doctor", reason="KeysNotWritten"
        ) from error
    return before


def _replace(folder: int, name: str, content: bytes) -> None:
    temporary = f".{name}.new"  # one fixed name: what a kill leaves behind does not pile up
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    handle = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, 0o644)
            os.fsync(handle)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)


def _read(folder: int, name: str) -> tuple[str, ...] | None:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:
        return (UNSAFE,)
    try:
        status = os.fstat(handle)
        owned = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
        if not stat.S_ISREG(status.st_mode) or not owned or status.st_mode & 0o444 != 0o444 or status.st_nlink != 1:
            return (UNSAFE,)
        text = os.read(handle, min(status.st_size, _LARGEST)).decode(errors="replace")
    finally:
        os.close(handle)
    return tuple(line for line in text.split("\n") if line)


@contextlib.contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise _foreign_folder(folder, "is not a folder, or a link") from error
    try:
        status = os.fstat(handle)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise _foreign_folder(folder, "can be written by others than root")
        yield handle
    finally:
        os.close(handle)


def _foreign_folder(folder: Path, fault: str) -> TerminalError:
    return TerminalError(
        f"{folder} {fault}, so its keys cannot be trusted",
        remedy=f"look at what it holds, then make it a folder owned by root with mode 0755 (ls -ld {folder})",
        reason="UnsafeFolder",
    )
