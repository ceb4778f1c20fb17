"""Places for calls: how many are carried out at once, how many wait for their turn, and how many one caller has.

A caller who has all places that one caller gets holds up nobody but themselves.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from containarium.api.errors import CallError
from containarium.api.who import Who

_AGAIN = 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """Places for those who are carried out at once, of all callers and of one; likewise for those who wait.

    ``patience`` is in seconds: who waits for longer is refused.
    """

    at_once: int
    per_caller: int
    waiting: int = 0
    waiting_per_caller: int = 0
    patience: float = 0.0

    @property
    def threads(self) -> int:
        """How many calls may be in it."""
        return self.at_once + self.waiting


@dataclass(slots=True, eq=False)
class _Ticket:
    key: str
    called: threading.Event = field(default_factory=threading.Event)
    """Set when its turn has come, and when nobody waits for it any more."""
    admitted: bool = False


class Room:
    """Counts who is in it and who waits. Safe to share between threads."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._by: Counter[str] = Counter()
        self._queue: list[_Ticket] = []

    @contextmanager
    def place(self, who: Who, left: float, when_over: Callable[[Callable[[], None]], bool]) -> Iterator[None]:
        """A place while the block runs; where there is none, wait for one, ``left`` seconds at most.

        ``when_over`` has something called when the call ends, and returns False where it has ended already. Raises
        CallError where there is no place.
        """
        ticket = _Ticket(who.key)
        with self._lock:
            self._enter(ticket)
        if not ticket.admitted:
            self._await(ticket, left, when_over)
        try:
            yield
        finally:
            with self._lock:
                self._leave(ticket.key)

    def _enter(self, ticket: _Ticket) -> None:
        size, mine = self._size, self._by[ticket.key]
        if mine < size.per_caller and self._by.total() < size.at_once:
            self._admit(ticket)
            return
        queued = sum(1 for other in self._queue if other.key == ticket.key)
        if queued >= size.waiting_per_caller or len(self._queue) >= size.waiting:
            yours = mine >= size.per_caller
            raise _full("you have" if yours else "the server has", mine + queued if yours else self._by.total())
        self._queue.append(ticket)

    def _await(self, ticket: _Ticket, left: float, when_over: Callable[[Callable[[], None]], bool]) -> None:
        if when_over(ticket.called.set):
            ticket.called.wait(max(0.0, min(self._size.patience, left)))
        with self._lock:
            if ticket.admitted:
                return
            self._queue.remove(ticket)
            mine, all_ = self._by[ticket.key], self._by.total()
        yours = mine >= self._size.per_caller
        raise _full("you have" if yours else "the server has", mine if yours else all_)

    def _admit(self, ticket: _Ticket) -> None:
        self._by[ticket.key] += 1
        ticket.admitted = True
        ticket.called.set()

    def _leave(self, key: str) -> None:
        self._by[key] -= 1
        if not self._by[key]:
            del self._by[key]
        while self._by.total() < self._size.at_once:
            may = [ticket for ticket in self._queue if self._by[ticket.key] < self._size.per_caller]
            if not may:
                return
            # Whoever has least comes first, and of those who came first.
            chosen = min(may, key=lambda ticket: self._by[ticket.key])
            self._queue.remove(chosen)
            self._admit(chosen)


def _full(whose: str, number: int) -> CallError:
    return CallError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"{whose} {number} such calls under way already",
        "try again in a moment", reason="TooManyWaiting", retry_after=_AGAIN,
    )  # fmt: skip
