"""The simulated time: it moves only when it is told to, and never backwards."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class SimClock:
    """A clock that is advanced by hand."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = start
        self._elapsed = timedelta()
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed.total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards ({seconds} s)")
        with self._lock:
            self._elapsed += timedelta(seconds=seconds)

    def stamp(self) -> str:
        """The time of day as Incus writes it."""
        return self.now().isoformat(timespec="microseconds").replace("+00:00", "Z")

    def copy(self) -> SimClock:
        """Another clock that shows the same time."""
        twin = SimClock(self._start)
        twin._elapsed = self._elapsed
        return twin
