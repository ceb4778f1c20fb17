"""What wakes the loop: reasons gather until it comes for them, however many there were."""

from __future__ import annotations

import queue


class WakeUp:
    """Safe to call from any thread, and from a signal handler in the middle of anything."""

    def __init__(self) -> None:
        # The only queue whose put may interrupt its own get.
        self._reasons: queue.SimpleQueue[str] = queue.SimpleQueue()

    def wake(self, reason: str) -> None:
        """Give a reason to look."""
        self._reasons.put(reason)

    def wait(self, seconds: float) -> frozenset[str]:
        """Wait until there is a reason, at most ``seconds``; return all there are, and forget them."""
        found: set[str] = set()
        try:
            found.add(self._reasons.get(timeout=seconds) if seconds > 0 else self._reasons.get_nowait())
            while True:
                found.add(self._reasons.get_nowait())
        except queue.Empty:
            return frozenset(found)
