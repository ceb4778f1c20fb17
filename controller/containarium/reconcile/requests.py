"""What others want of the loop, left here by their threads until it comes by."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """What had been left. ``ticket`` is that of the last request that is among it."""

    look_into: frozenset[str]
    restart: frozenset[str]
    hurry: bool
    reload: bool
    notice: str | None
    """The text of a spot notice, "" for its withdrawal, None for no news."""
    ticket: int


class Requests:
    """Safe to leave something in from any thread; ``stop`` and ``reload`` from a signal handler as well."""

    def __init__(self) -> None:
        self.stop = ""
        """Why to end; empty while nobody wants that."""
        self.reload = False
        self._lock = threading.Lock()
        self._tickets = 0
        self._forget()

    def _forget(self) -> None:
        self._look_into: set[str] = set()
        self._restart: set[str] = set()
        self._hurry = False
        self._notice: str | None = None

    def look_into(self, environment: str) -> None:
        """Look inside this one."""
        with self._lock:
            self._look_into.add(environment)

    def notice(self, text: str) -> None:
        """A spot notice, or its withdrawal ("")."""
        with self._lock:
            self._notice = text

    def hurry(self, restart: Iterable[str] = ()) -> int:
        """Try at once what waits, look into every guest, and restart these where a change needs it.

        Returns a ticket: what takes this, or a later one, has taken this over.
        """
        with self._lock:
            self._hurry = True
            self._restart.update(restart)
            self._tickets += 1
            return self._tickets

    def take(self) -> Taken:
        """Everything that was left; it is forgotten here."""
        with self._lock:
            reload, self.reload = self.reload, False
            taken = Taken(
                look_into=frozenset(self._look_into),
                restart=frozenset(self._restart),
                hurry=self._hurry or reload,
                reload=reload,
                notice=self._notice,
                ticket=self._tickets,
            )
            self._forget()
            return taken
