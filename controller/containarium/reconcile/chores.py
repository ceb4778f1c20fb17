"""What the host itself needs now and then: small checks that put right what they find, whoever's environment it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from containarium.model.host import HostError
from containarium.reconcile.execute import unexpected

_NEARLY = 0.2
"""A part of its period. Chores are done after passes, which come a little early or late themselves: what is due so soon
is done with this one, since the next may be a minute away.
"""


@dataclass(frozen=True, slots=True)
class Chore:
    """``do`` returns what it put right, in words, and nothing when all was well. ``every`` is in seconds."""

    name: str
    every: float
    do: Callable[[], str]


class Chores:
    """Does each chore when its time has come. Never raises: what failed is told once, and tried again."""

    def __init__(self, chores: Sequence[Chore], told: Callable[[str, str, bool], None]) -> None:
        """``told`` gets a chore's name, what there is to say of it, and whether it went well."""
        self._chores = tuple(chores)
        self._told = told
        self._due = dict.fromkeys((chore.name for chore in chores), 0.0)
        self._wrong: dict[str, str] = {}

    def do(self, clock: float) -> None:
        """Do what is due, or nearly; ``clock`` counts seconds and never jumps."""
        for chore in self._chores:
            if clock < self._due[chore.name] - chore.every * _NEARLY:
                continue
            self._due[chore.name] = clock + chore.every
            try:
                said, wrong = chore.do(), ""
            except Exception as error:  # noqa: BLE001 - a chore is no reason to end, whatever befell it
                said, wrong = "", str(error if isinstance(error, HostError) else unexpected(error))
            if said:
                self._told(chore.name, said, True)
            if wrong and wrong != self._wrong.get(chore.name):
                self._told(chore.name, wrong, False)
            self._wrong[chore.name] = wrong
