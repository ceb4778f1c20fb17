"""Ending early what runs, from another thread: waits and pauses look at a ``Cancellation`` and raise."""

from __future__ import annotations

import threading
import time

from containarium.model.host import RetryableError

GLANCE = 0.25
"""Seconds between two looks at the cancellation, for what cannot be woken."""
PARTING = 0.5
"""Seconds that a command has to end in order before it is killed."""


class CancelledError(RetryableError):
    """An action that was ended early. What it left is what a killed controller leaves: the next pass finishes it."""

    def __init__(self) -> None:
        super().__init__(
            "it was ended early, because this machine or its controller is about to stop",
            remedy="it is gone on with afterwards",
            reason="Cancelled",
        )


class Never:
    """Nobody ends it early: for those who have no cancellation to heed."""

    @property
    def cancelled(self) -> bool:
        """Whether it is to end."""
        return False

    def check(self) -> None:
        """Raise CancelledError where it is to end."""
        if self.cancelled:
            raise CancelledError

    def sleep(self, seconds: float) -> None:
        """Pause, or raise CancelledError as soon as it is to end."""
        time.sleep(seconds)


class Cancellation(Never):
    """Said by one thread and heeded by all who were given it."""

    def __init__(self) -> None:
        self._said = threading.Event()

    def cancel(self) -> None:
        """End what runs, and let nothing begin."""
        self._said.set()

    def resume(self) -> None:
        """Take a ``cancel`` back."""
        self._said.clear()

    @property
    def cancelled(self) -> bool:
        """Whether it is to end."""
        return self._said.is_set()

    def sleep(self, seconds: float) -> None:
        """Pause, or raise CancelledError as soon as it is to end."""
        if self._said.wait(seconds):
            raise CancelledError


NEVER = Never()
