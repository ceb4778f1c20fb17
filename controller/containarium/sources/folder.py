"""The files of a folder of manifests, read from one resolved tree: links cannot lead out, and nothing can block.

The folder is resolved once. When it is swapped (git-sync, Kubernetes), changed or removed while it is read, ``intact``
says so afterwards.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

MAX_FILE_BYTES: Final = 1 << 20
MAX_TOTAL_BYTES: Final = 64 << 20
MAX_FILES: Final = 50_000
MAX_FOLDER_DEPTH: Final = 20
KEYS_FOLDER: Final = "keys"
SUFFIXES: Final = (".yaml", ".yml")

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class ReadError(Exception):
    """A file or folder cannot be read. ``whole``: so it is unknown what else there is (not just this file is lost)."""

    def __init__(self, message: str, remedy: str, *, whole: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.whole = whole


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A manifest file: its path as messages print it, and its bytes or why there are none."""

    path: str
    data: bytes = b""
    error: ReadError | None = None


class Tree:
    """A folder, resolved and held open. ``shown`` is the path that the user gave, which messages begin with."""

    def __init__(self, path: str, shown: str) -> None:
        """Open the folder. Raises OSError."""
        self.shown = shown
        self._given = path
        self._root = os.path.realpath(path, strict=True)
        self._fd = os.open(self._root, _FOLDER_FLAGS)
        self._folders: dict[tuple[int, int], tuple[str, int]] = {}
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)

    def files(self) -> Iterator[SourceFile]:
        """Every manifest file below, in sorted order. Hidden names and ``keys`` folders are passed over."""
        for count, file in enumerate(self._walk(os.dup(self._fd), "", self._root, 0)):
            self._bytes += len(file.data)
            if count >= MAX_FILES or self._bytes > MAX_TOTAL_BYTES:
                message = f"more than {MAX_FILES} files or {MAX_TOTAL_BYTES >> 20} MiB of manifests"
                yield SourceFile(self.show(""), error=ReadError(message, "split them over several hosts", whole=True))
                return
            yield file

    def intact(self) -> bool:
        """Whether the folder is still the one that was opened, and no name in it came or went since."""
        try:
            if os.path.realpath(self._given, strict=True) != self._root:
                return False
            for identity, (path, changed) in self._folders.items():
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) != identity or now.st_mtime_ns != changed:
                    return False
        except OSError:
            return False
        return True

    def read(self, relative: str, limit: int) -> bytes:
        """A regular file below the folder; links may lead elsewhere inside it. Raises ReadError."""
        try:
            try:
                fd = self._open_beneath(relative, _FILE_FLAGS)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                fd = self._open_link(relative)
            data = _read(fd, limit)
        except FileNotFoundError:
            raise ReadError("it is not there", "add it, or name another one") from None
        except OSError as error:
            raise _read_error(error) from None
        self._bytes += len(data)
        if self._bytes > MAX_TOTAL_BYTES:
            raise ReadError(
                f"more than {MAX_TOTAL_BYTES >> 20} MiB in all", "split them over several hosts", whole=True
            )
        return data

    def show(self, relative: str) -> str:
        """A path below the folder as messages print it."""
        if self.shown in ("", "."):
            text = relative or "."
        else:
            text = f"{self.shown.rstrip('/')}/{relative}" if relative else self.shown
        if text.isascii() and text.isprintable():
            return text
        text = os.fsencode(text).decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "?" for c in text)

    def _walk(self, fd: int, relative: str, real: str, depth: int) -> Iterator[SourceFile]:
        """Everything in one folder, whose descriptor is closed in the end."""
        try:
            for name, link, folder in self._entries(fd, real):
                path = f"{relative}/{name}" if relative else name
                target = f"{real}/{name}"
                try:
                    if link:
                        target, folder = self._resolve(target, name)  # noqa: PLW2901 (what the link stands for)
                    if folder:
                        if name != KEYS_FOLDER:
                            below = self._open_folder(fd, name, target, link, depth)
                            yield from self._walk(below, path, target, depth + 1)
                    elif name.lower().endswith(SUFFIXES):
                        opened = self._open_target(target) if link else os.open(name, _FILE_FLAGS, dir_fd=fd)
                        yield SourceFile(self.show(path), _read(opened, MAX_FILE_BYTES))
                except ReadError as error:
                    yield SourceFile(self.show(path), error=error)
                except OSError as error:
                    yield SourceFile(self.show(path), error=_read_error(error, folder=folder))
        finally:
            os.close(fd)

    def _entries(self, fd: int, real: str) -> list[tuple[str, bool, bool]]:
        """Name, is it a link, is it a folder: sorted, without what editors leave behind; none when seen before."""
        state = os.fstat(fd)
        identity = (state.st_dev, state.st_ino)
        if identity in self._folders:
            return []
        self._folders[identity] = (real, state.st_mtime_ns)
        with os.scandir(fd) as scan:
            return sorted(
                (entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False))
                for entry in scan
                if entry.name[0] not in ".#" and not entry.name.endswith("~")
            )

    def _resolve(self, path: str, name: str) -> tuple[str, bool]:
        """Where a link leads, and whether to a folder. Links that are none of ours count as files of no interest."""
        manifest = name.lower().endswith(SUFFIXES)
        try:
            real = os.path.realpath(path, strict=True)
            folder = stat.S_ISDIR(os.lstat(real).st_mode)
        except OSError as error:
            if not manifest:
                return path, False
            what = "a loop of links" if error.errno == errno.ELOOP else "a link to nothing"
            raise ReadError(f"this is {what}", "mend or delete the link") from None
        if (manifest or folder) and not self._inside(real):
            raise ReadError("this link leads out of the folder of the manifests", "put the file itself there")
        return real, folder

    def _inside(self, real: str) -> bool:
        return real == self._root or real.startswith(self._root.rstrip("/") + "/")

    def _open_folder(self, fd: int, name: str, target: str, link: bool, depth: int) -> int:
        if depth >= MAX_FOLDER_DEPTH:
            raise ReadError(f"folders nest more than {MAX_FOLDER_DEPTH} deep", "make the tree flatter", whole=True)
        if link:
            return os.dup(self._fd) if target == self._root else self._open_target(target, _FOLDER_FLAGS)
        return os.open(name, _FOLDER_FLAGS, dir_fd=fd)

    def _open_link(self, relative: str) -> int:
        real = os.path.realpath(f"{self._root}/{relative}", strict=True)
        if not self._inside(real):
            raise ReadError("it leads out of the folder of the manifests", "put the file itself there")
        return self._open_target(real)

    def _open_target(self, real: str, flags: int = _FILE_FLAGS) -> int:
        return self._open_beneath(real[len(self._root.rstrip("/")) + 1 :], flags)

    def _open_beneath(self, relative: str, flags: int) -> int:
        """Open a path without any link in it, step by step, so that nothing swapped in meanwhile can lead out."""
        *parents, name = relative.split("/")
        fd = self._fd
        try:
            for parent in parents:
                below = os.open(parent, _FOLDER_FLAGS, dir_fd=fd)
                if fd != self._fd:
                    os.close(fd)
                fd = below
            return os.open(name, flags, dir_fd=fd)
        finally:
            if fd != self._fd:
                os.close(fd)


def _read(fd: int, limit: int) -> bytes:
    """All of a regular file; closes it. Raises ReadError, and OSError."""
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise ReadError("this is not a regular file", "put a plain text file there")
        if state.st_size > limit:
            raise ReadError(f"this is larger than {limit >> 10} KiB", "split it, and keep only manifests and keys here")
        data = os.read(fd, state.st_size + 1)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if len(data) != state.st_size or (after.st_size, after.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
        raise ReadError("it changed while it was read", "nothing to do: it is read again", whole=True)
    return data


def _read_error(error: OSError, *, folder: bool = False) -> ReadError:
    match error.errno:
        case errno.ENOENT | errno.ELOOP | errno.ENOTDIR:
            return ReadError("it went away while it was read", "nothing to do: it is read again", whole=True)
        case errno.EACCES | errno.EPERM:
            return ReadError("it may not be read", "let the controller's account read it", whole=folder)
        case errno.ENXIO:
            return ReadError("this is not a regular file", "put a plain text file there")
        case _:
            return ReadError(f"it cannot be read ({error.strerror})", "look at the disk and the mount", whole=folder)
