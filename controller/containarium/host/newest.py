"""The newest lines of a log that anybody can fill: so many of each kind, so that a flood of one hides no other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Generic, TypeVar

from containarium.host.loglines import Line

T = TypeVar("T")

Sift = Callable[[Line], tuple[str, T] | None]
"""What a line comes to, with its kind; None where nobody wants it."""


class Newest(Generic[T]):
    """Keeps what lines come to, of each kind at most so many. ``whole`` says whether that was all."""

    def __init__(self, sift: Sift[T], most: Mapping[str, int]) -> None:
        self._sift = sift
        self._left = dict(most)
        self._kept: list[T] = []
        self.whole = True

    def put(self, line: Line) -> bool:
        """One that is older than all that came before it. Says whether there is room for any other."""
        found = self._sift(line)
        if found is None:
            return True
        kind, item = found
        if not self._left[kind]:
            self.whole = False
            return any(self._left.values())
        self._left[kind] -= 1
        self._kept.append(item)
        return True

    def put_block(self, lines: Iterable[Line]) -> None:
        """Some that are older than all that came before them, among themselves the oldest first."""
        block: dict[str, deque[tuple[int, T]]] = {kind: deque(maxlen=left) for kind, left in self._left.items()}
        for number, line in enumerate(lines):
            found = self._sift(line)
            if found is not None:
                kind, item = found
                self.whole &= len(block[kind]) < self._left[kind]
                block[kind].append((number, item))
        for kind, kept in block.items():
            self._left[kind] -= len(kept)
        ordered = sorted(chain.from_iterable(block.values()), key=lambda pair: pair[0], reverse=True)
        self._kept.extend(item for _, item in ordered)

    def oldest_first(self) -> tuple[T, ...]:
        """All that was kept."""
        return tuple(reversed(self._kept))
