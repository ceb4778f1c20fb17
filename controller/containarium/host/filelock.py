"""An exclusive lock on a file, for processes and threads alike; it ends with its holder however they die."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL = 0.02


@contextmanager
def locked(path: Path, wait: float) -> Iterator[None]:
    """Hold the lock while the block runs. Not to be nested: whoever holds it would wait for themselves.

    The file is made where it is missing (mode 0600), and stays: one that is removed can be held twice. Raises OSError,
    of which TimeoutError says that others hold it for longer than ``wait`` seconds.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait
        while not _try(handle):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is locked")
            time.sleep(_POLL)
        yield
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
