"""When an environment that failed is tried again: 1 s, doubling to 5 min, anew with every new manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from containarium.model.host import BuildingError, HostError, TerminalError, WaitingError
from containarium.reconcile.execute import Failure
from containarium.report.snapshot import Trouble

FIRST = 1.0
LONGEST = 300.0
"""Seconds. What only a person can mend is looked at again this often: not every mending is a new manifest."""
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class _Entry:
    trouble: Trouble
    revision: str
    due: float
    pause: float


class Retries:
    """The environments whose last attempt failed. Not safe for several threads: only the loop asks."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """``chance`` gives a number from 0 to 1, for the jitter."""
        self._chance = chance
        self._entries: dict[str, _Entry] = {}

    @property
    def troubles(self) -> Mapping[str, Trouble]:
        """What failed last, by environment."""
        return {name: entry.trouble for name, entry in sorted(self._entries.items())}

    def failed(self, failure: Failure, revision: str, clock: float, now: datetime) -> Trouble:
        """Note a failure, and when it is tried again. ``clock`` counts seconds and never jumps."""
        name, error = failure.environment, failure.error
        known = self._entries.get(name)
        if known is not None and known.revision != revision:
            known = None
        pause = self._pause(error, known)
        delay = pause * (1 + JITTER * (2 * self._chance() - 1))
        trouble = Trouble(
            action=failure.action,
            reason=error.reason,
            message=str(error),
            attempts=(known.trouble.attempts if known else 0) + (not isinstance(error, BuildingError)),
            since=known.trouble.since if known else now,
            retry_at=now + timedelta(seconds=delay),
            stalled=isinstance(error, TerminalError),
        )
        self._entries[name] = _Entry(trouble, revision, clock + delay, pause)
        return trouble

    def _pause(self, error: HostError, known: _Entry | None) -> float:
        if isinstance(error, TerminalError):
            return LONGEST
        if isinstance(error, WaitingError):
            return min(LONGEST, max(FIRST, error.retry_after))
        return min(LONGEST, known.pause * 2) if known else FIRST

    def may_try(self, name: str, revision: str, clock: float) -> bool:
        """Whether it is time: nothing failed, the pause is over, or there is another manifest now."""
        entry = self._entries.get(name)
        return entry is None or entry.revision != revision or entry.due <= clock

    def succeeded(self, name: str) -> bool:
        """Forget a failure. Returns whether there was one."""
        return self._entries.pop(name, None) is not None

    def forget_all_but(self, names: frozenset[str]) -> None:
        """Drop the failures of environments that need nothing any more."""
        for name in self._entries.keys() - names:
            del self._entries[name]

    def hurry(self) -> None:
        """Let everybody try at once: somebody asked for it."""
        self._entries = {
            name: _Entry(entry.trouble, entry.revision, 0.0, entry.pause) for name, entry in self._entries.items()
        }

    def next_due(self, busy: frozenset[str]) -> float | None:
        """When the next pause ends, on the clock that never jumps; None when there is none."""
        return min((entry.due for name, entry in self._entries.items() if name not in busy), default=None)
