"""The folder beside the unix socket that only root enters: what grpcio listens on lies there."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from containarium.host.files import make_folder
from containarium.model.host import TerminalError

INNER, MADE = "grpc.sock", "listening.sock"
_OURS = frozenset({INNER, MADE})
_MODE = 0o700


class PrivateFolder:
    """``.NAME.private`` beside the socket NAME. Nothing but our own two sockets is ever removed from it."""

    def __init__(self, unix: Path) -> None:
        self.path = unix.with_name(f".{unix.name}.private")

    def make(self) -> None:
        """Make it, or take over what a killed server has left. Raises TerminalError where it is anybody else's."""
        try:
            if not make_folder(self.path, _MODE):
                self._take_over()
        except OSError as error:
            raise TerminalError(
                f"cannot use the folder {self.path}: {error.strerror}",
                remedy="run it as root, or name another --socket",
                reason="FolderUnusable",
            ) from error

    def remove(self) -> None:
        """Remove it, unless somebody has put something there."""
        with contextlib.suppress(OSError):
            handle = self._open()
            try:
                _empty(handle)
            finally:
                os.close(handle)
            self.path.rmdir()

    def _take_over(self) -> None:
        handle = self._open()
        try:
            there = os.fstat(handle)
            strange = sorted(name for name in _names(handle) if not _is_ours(handle, name))
            if strange or there.st_uid != os.geteuid():
                what = f"holds {strange[0]!r}, which is not the service's" if strange else "belongs to another account"
                raise TerminalError(
                    f"{self.path} {what}", remedy="move it away, or name another --socket", reason="FolderTaken"
                )
            _empty(handle)
            os.fchmod(handle, _MODE)
        finally:
            os.close(handle)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_ours(handle: int, name: str) -> bool:
    return name in _OURS and stat.S_ISSOCK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode)


def _empty(handle: int) -> None:
    for name in _names(handle):
        if _is_ours(handle, name):
            os.unlink(name, dir_fd=handle)


def _names(handle: int) -> list[str]:
    with os.scandir(handle) as entries:
        return [entry.name for entry in entries]
