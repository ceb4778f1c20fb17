"""How often what is looked at, in seconds, and whose turn it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rhythm:
    """The loop's beats. What is noticed wakes it at once; these are for what nobody is told of."""

    resync: float = 60.0
    """Between two looks at everything, give or take the jitter."""
    jitter: float = 0.1
    deep: float = 300.0
    """Between two looks inside the same guest."""
    settle: float = 2.0
    """For so long the manifests have to stay as they are before anybody is missed: files come and go one by one."""
    look_again: float = 1.0
    """After a look that failed, doubling up to ``look_again_at_most``."""
    look_again_at_most: float = 30.0


class Turns:
    """Whose guest is looked into: everybody's once in a while, spread evenly, and at once where something happened."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._due: dict[str, float] = {}
        self._asked: set[str] = set()

    def ask(self, names: Iterable[str]) -> None:
        """Look into these next time."""
        self._asked.update(names)

    @property
    def asked(self) -> bool:
        """Whether anybody has to be looked into now."""
        return bool(self._asked)

    def due(self, names: Iterable[str], clock: float) -> frozenset[str]:
        """Those of ``names`` whose turn it is."""
        return frozenset(name for name in names if name in self._asked or self._due.get(name, 0.0) <= clock)

    def done(self, names: Iterable[str], clock: float) -> None:
        """They were looked into."""
        for name in names:
            self._asked.discard(name)
            # Everybody has a place of their own in the period, whenever the controller was started.
            place = _share(name) * self._every
            self._due[name] = clock + self._every - (clock - place) % self._every

    def forget_all_but(self, names: frozenset[str]) -> None:
        """Drop those that are gone."""
        self._asked &= names
        for name in self._due.keys() - names:
            del self._due[name]


def _share(name: str) -> float:
    """A number from 0 to 1, always the same for the same name."""
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest(), "big") / 2**32
