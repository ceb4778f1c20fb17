"""Work that several want and one does: the first makes it, the others are told to come back.

A lock per piece of work, held on a file, so that it counts across threads and processes and dies with its holder.
What failed is not begun anew by each of those who wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from containarium.model.host import BuildingError, HostError, TerminalError, WaitingError

AT_ONCE = 2
"""Pieces of work that one process does at the same time; whoever has none of them can still be served."""
_FIRST = 2.0
_LONGEST = 30.0
"""Seconds for which a failure stands, doubling with each: whoever has mended something waits no longer."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: HostError
    until: float
    pause: float


class Flights:
    """Safe to share between threads."""

    def __init__(self, folder: Path, at_once: int = AT_ONCE, ticks: Callable[[], float] = time.monotonic) -> None:
        """``folder`` holds the lock files; ``ticks`` counts seconds and never jumps."""
        self._folder = folder
        self._seats = threading.BoundedSemaphore(at_once)
        self._ticks = ticks
        self._failures: dict[str, _Failure] = {}

    @contextlib.contextmanager
    def claim(self, key: str, what: str) -> Iterator[None]:
        """Do this piece of work alone. ``key`` is part of a file name; ``what`` is for people.

        Raises BuildingError while another thread or process does it, or this process does too much already; and, for
        a while, the error in which it ended the last time.
        """
        if not self._seats.acquire(blocking=False):
            raise BuildingError(f"other images are being built before {what}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / f"{key}.lock").open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BuildingError(f"{what} is being built") from None
                self._refuse_again(key)
                with self._judged(key):
                    yield
        finally:
            self._seats.release()

    def _refuse_again(self, key: str) -> None:
        failure = self._failures.get(key)
        if failure is None or self._ticks() >= failure.until:
            return
        error = failure.error
        if isinstance(error, TerminalError):
            raise TerminalError(error.message, remedy=error.remedy, reason=error.reason)
        left = failure.until - self._ticks()
        raise WaitingError(error.message, retry_after=left, remedy=error.remedy, reason=error.reason)

    @contextlib.contextmanager
    def _judged(self, key: str) -> Iterator[None]:
        try:
            yield
        except WaitingError:
            raise
        except HostError as error:
            if error.reason != "Cancelled":
                before = self._failures.get(key)
                pause = min(_LONGEST, before.pause * 2) if before else _FIRST
                self._failures[key] = _Failure(error, self._ticks() + pause, pause)
            raise
        self._failures.pop(key, None)
