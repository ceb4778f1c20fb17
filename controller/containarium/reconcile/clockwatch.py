"""Notices a clock that jumps: a date that says "delete now" is believed only when the clock went there by itself."""

from __future__ import annotations

from datetime import datetime

JUMP = 600.0
"""Seconds that the two clocks may differ by between two passes."""
HOLD = 3600.0
"""Seconds for which nothing goes away after a jump: long enough for a person to see it, or for time to be set right."""


class ClockWatch:
    """Compares the clock that people read with one that never jumps."""

    def __init__(self) -> None:
        self._last: tuple[float, datetime] | None = None
        self._until = 0.0
        self._jump = 0.0

    def check(self, ticks: float, now: datetime) -> str:
        """What is wrong with the clock, in words; empty when nothing is."""
        if self._last is not None:
            jump = (now - self._last[1]).total_seconds() - (ticks - self._last[0])
            if abs(jump) > JUMP:
                self._jump, self._until = jump, ticks + HOLD
        self._last = (ticks, now)
        if ticks >= self._until:
            return ""
        way = "forward" if self._jump > 0 else "back"
        return f"the clock jumped {way} by {abs(self._jump):.0f} s"
