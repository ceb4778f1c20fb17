"""Reads files below a folder that belongs to somebody hostile: a guest's root, seen from the host.

Every path is resolved by openat2(2) as if that folder were ``/``, so no link leads out of it. A file is first opened
as a mere reference, and read only when that turns out to be a regular file: a pipe would hang, a device act.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_SYS_OPENAT2 = 437
"""The same on every architecture that Debian supports."""
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _IN_ROOT = 0x02, 0x04, 0x08, 0x10
_REFERENCE = os.O_PATH | os.O_CLOEXEC
_ATTEMPTS = 4
_SETTLED = 100_000_000
"""Nanoseconds after a file's last change from which its time stamps tell every later change apart."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_HOW_SIZE = ctypes.sizeof(_OpenHow)


def _how(flags: int, resolve: int) -> ctypes._Pointer[_OpenHow]:
    return ctypes.pointer(_OpenHow(flags, 0, resolve | _NO_MAGICLINKS))


_FOLLOWING = _how(_REFERENCE, _IN_ROOT)
_STRICT = _how(_REFERENCE | os.O_NOFOLLOW, _BENEATH | _NO_SYMLINKS)
_LINK_ITSELF = _how(_REFERENCE | os.O_NOFOLLOW, _IN_ROOT)


class NotSupportedError(OSError):
    """The kernel has no openat2 (it came with 5.6), or a sandbox forbids it."""


Identity = tuple[int, int, int, int, int]
"""Device, inode, times of modification and change, size: the same as long as the content is. The guest can set the
one time, but not the other."""


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file: what it is, and a descriptor to read it with while the tree is open."""

    descriptor: int
    mode: int
    size: int
    identity: Identity
    settled: bool
    """False just after a change: another one might leave the same time stamps."""


class Tree:
    """A folder seen as the root of a file system. A context manager; all it opened is closed with it."""

    def __init__(self, folder: Path | str) -> None:
        """Raises OSError when there is no such folder."""
        self._open = [os.open(folder, _REFERENCE | os.O_DIRECTORY | os.O_NOFOLLOW)]

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def file(self, path: str) -> Found | None:
        """A regular file; None for anything else, and for what cannot be reached."""
        return self._regular(self._resolve(self._open[0], path, _FOLLOWING))

    def private_file(self, folder: str, path: str) -> Found | None:
        """A regular file below ``folder`` on a way without links, on which nobody but the owner can write.

        ``folder`` itself may be reached through links.
        """
        base = self._resolve(self._open[0], folder, _FOLLOWING)
        for part in path.split("/"):
            if base is None:
                return None
            base = self._resolve(base, part, _STRICT)
            if base is not None and os.fstat(base).st_mode & 0o022:
                return None
        return self._regular(base)

    def link_target(self, path: str) -> str | None:
        """Where a symbolic link points to, None where there is none."""
        descriptor = self._resolve(self._open[0], path, _LINK_ITSELF)
        if descriptor is None or not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            return None
        return os.readlink("", dir_fd=descriptor)

    def read(self, found: Found, limit: int) -> bytes | None:
        """The file's content, None when it is larger than ``limit`` bytes or cannot be read."""
        if found.size > limit:
            return None
        try:
            descriptor = os.open(f"/proc/self/fd/{found.descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = os.read(descriptor, limit + 1)
            while len(data) <= limit and (more := os.read(descriptor, limit + 1 - len(data))):
                data += more
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return data if len(data) <= limit else None

    def _regular(self, descriptor: int | None) -> Found | None:
        if descriptor is None:
            return None
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return None
        identity = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
        settled = time.time_ns() - facts.st_ctime_ns > _SETTLED
        return Found(descriptor, facts.st_mode, facts.st_size, identity, settled)

    def _resolve(self, base: int, path: str, how: ctypes._Pointer[_OpenHow]) -> int | None:
        for _ in range(_ATTEMPTS):
            descriptor: int = _syscall(_SYS_OPENAT2, base, os.fsencode(path), how, _HOW_SIZE)
            if descriptor >= 0:
                self._open.append(descriptor)
                return descriptor
            code = ctypes.get_errno()
            if code == errno.ENOSYS or (code == errno.EPERM and base == self._open[0]):
                raise NotSupportedError(code, os.strerror(code))
            if code not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: somebody renames folders on the way
                return None
        return None
