"""An environment in somebody's hands for a moment: while a command works on it, every controller leaves it alone.

A lock per environment, held on a file, so that it counts across processes and dies with its holder. What a pass sees of
it is part of its look (``Observed.held``), as the admin's word on the container is.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from containarium.model.host import RetryableError, TerminalError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_PATIENCE = 1.0
"""Seconds: a look that tries the lock has it for a moment, too."""
_POLL = 0.02


@contextmanager
def hold(runtime: Path, name: str) -> Iterator[None]:
    """Have every controller of this host leave an environment alone while the block runs, from its next look on.

    Raises RetryableError (Held) where another command has it.
    """
    if not _NAME.fullmatch(name):
        raise TerminalError(f"{name!r} is no environment's name", reason="InvalidName")
    folder = runtime / "held"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise TerminalError(f"no permission for {folder}", remedy="run it as root", reason="NotRoot") from error
    try:
        _acquire(handle, name)
        yield
    finally:
        # The file stays: a lock file that is removed can be held twice.
        os.close(handle)


def held(runtime: Path) -> frozenset[str]:
    """The environments that a command has in its hands now."""
    try:
        names = [entry.name for entry in os.scandir(runtime / "held") if _NAME.fullmatch(entry.name)]
    except OSError:
        return frozenset()
    return frozenset(name for name in names if _taken(runtime / "held" / name))


def _acquire(handle: int, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RetryableError(
                    f"another command works on {name}", remedy="try again when it has ended", reason="Held"
                ) from None
            time.sleep(_POLL)
        else:
            return


def _taken(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
