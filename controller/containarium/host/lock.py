"""One controller per host: whoever changes it holds an exclusive lock, which ends with its process however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from containarium.model.host import RetryableError, TerminalError

_POLL = 0.1


@contextmanager
def only_controller(runtime: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold ``<runtime>/lock`` while the block runs.

    Waits up to ``wait`` seconds for another controller, then raises RetryableError (Locked), which names it.
    """
    path = runtime / "lock"
    handle = _open(path)
    try:
        _acquire(handle, wait)
        with suppress(OSError):  # on a full disk the lock holds all the same, and nobody's name stands in it
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # The file stays: a lock file that is removed can be held twice.
        os.close(handle)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise TerminalError(f"no permission to lock {path}", remedy="run it as root", reason="NotRoot") from error
    except OSError as error:
        raise TerminalError(
            f"cannot open {path}: {error.strerror}", remedy="make it a plain file that root owns", reason="LockUnusable"
        ) from error


def _acquire(handle: int, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _held(handle) from None
            time.sleep(min(_POLL, max(0.0, deadline - time.monotonic())))
        else:
            return


def _held(handle: int) -> RetryableError:
    text = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
    who = f" (pid {text})" if text.isdecimal() else ""
    return RetryableError(
        f"another containarium{who} is working on this host", remedy="wait for it or stop it", reason="Locked"
    )
