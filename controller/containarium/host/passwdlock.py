"""The locks on the account files: who holds .pwd.lock, which lock files are stale, and our own lock beside them.

Two kinds exist. ``.pwd.lock`` is held with fcntl for as long as a process changes accounts; the file itself stays for
ever and says nothing. ``passwd.lock``, ``shadow.lock`` and their like are held by existing and name a process id. The
shadow tools make the second kind only while they hold the first, so whoever holds ``.pwd.lock`` knows that a lock file
still lying about was left by a killed tool, unless the process it names is older than the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from containarium.model.host import RetryableError

LOCK_FILES = tuple(f"{name}.lock" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"))
_SETTLED = 3.0
"""Seconds after which an empty or garbled lock file is no longer being written."""
_FLOCK = "hhqqi4x"

_threads = {"accounts": threading.Lock(), "keys": threading.Lock()}
"""Serialise the threads of this process, which share its locks on files."""


@contextlib.contextmanager
def our_turn(runtime: Path, *, wait: float, over: str = "accounts") -> Iterator[None]:
    """Serialise our own changes to accounts, across threads and processes, so that they do not fight each other.

    ``over`` is ``accounts``, or ``keys`` for what needs no account file changed: a key is withdrawn at once, also while
    somebody waits for the lock of those. ``wait`` is in seconds; past it RetryableError (PasswdLocked) is raised.
    """
    deadline = time.monotonic() + wait
    busy = RetryableError(
        f"other account changes of ours did not finish within {wait:.0f} s",
        remedy="see what holds the account files: containarium doctor",
        reason="PasswdLocked",
    )
    if not _threads[over].acquire(timeout=wait):
        raise busy
    try:
        runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(runtime / f"{over}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while not _try_flock(handle):
                if time.monotonic() > deadline:
                    raise busy
                time.sleep(0.02)
            yield
        finally:
            os.close(handle)
    finally:
        _threads[over].release()


def pwd_lock_holder(etc: Path) -> int | None:
    """The process id that holds ``.pwd.lock`` now; None when it is free, 0 when it is held outside our PID namespace.

    Call it only inside ``our_turn``, or where this process surely holds no lock on the file: closing it releases ours.
    """
    try:
        handle = os.open(etc / ".pwd.lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    finally:
        os.close(handle)
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def remove_stale_locks(etc: Path) -> list[str]:
    """Remove the lock files that a killed tool left behind; tells which. Does nothing while ``.pwd.lock`` is held.

    Call it only inside ``our_turn``.
    """
    try:
        handle = os.open(etc / ".pwd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return []
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return []
        return [name for name in LOCK_FILES if _remove_if_stale(etc / name)]
    finally:
        os.close(handle)


@contextlib.contextmanager
def hold_pwd_lock(etc: Path, *, wait: float = 20.0) -> Iterator[None]:
    """Hold ``.pwd.lock`` as the shadow tools do, for a change that none of them makes. Only inside ``our_turn``.

    Raises RetryableError (PasswdLocked) when others hold it for longer than ``wait`` seconds.
    """
    deadline = time.monotonic() + wait
    handle = os.open(etc / ".pwd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise RetryableError("others hold the account files locked", reason="PasswdLocked") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def stale_locks(etc: Path) -> list[str]:
    """The lock files that nobody can be behind any more, as far as that can be told without holding ``.pwd.lock``."""
    return [name for name in LOCK_FILES if _is_stale(etc / name)]


def lock_file_owners(etc: Path) -> dict[str, int]:
    """The lock files that name a process id, and which."""
    owners = {}
    for name in LOCK_FILES:
        with contextlib.suppress(OSError, ValueError):
            owners[name] = int((etc / name).read_bytes()[:64].rstrip(b"\0"))
    return owners


def _is_stale(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _content_is_stale(handle)
    finally:
        os.close(handle)


def _remove_if_stale(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not _content_is_stale(handle):
            return False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.lstat(path)):
                path.unlink()
                return True
        return False
    finally:
        os.close(handle)


def _content_is_stale(handle: int) -> bool:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or not _try_flock(handle):
        return False
    text = os.read(handle, 64).rstrip(b"\0")
    if not text.isdigit():
        return abs(time.time() - status.st_mtime) > _SETTLED
    started = _process_start(int(text))
    # A process younger than the file merely got the dead one's number (certain after a reboot).
    return started is None or started > status.st_mtime + _SETTLED


def _process_start(pid: int) -> float | None:
    """When the process started, in seconds since 1970; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # The clock, not /proc/uptime: lxcfs tells a container's own uptime there.
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _try_flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
