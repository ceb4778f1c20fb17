"""Something a person has to mend: where it stands, what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a manifest. Line and column count from 1; 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One refusal: an environment (or file) that stays exactly as it is until a person acts.

    ``reason`` is a constant in CamelCase, ``field`` a dotted path as the manifest spells it
    (``spec.resources.memory``), ``environment`` empty while the name is unknown.
    """

    location: Location
    field: str
    message: str
    remedy: str
    reason: str = "Invalid"
    environment: str = ""

    def __str__(self) -> str:
        where = f"{self.location}: {self.field}" if self.field else str(self.location)
        return f"{where}: {self.message}; {self.remedy}" if self.remedy else f"{where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a manifest came from: its file and the position of every field in it."""

    file: str
    positions: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def locate(self, path: str) -> Location:
        """Location of a field, or of its nearest ancestor that is written down."""
        while path:
            if path in self.positions:
                return Location(self.file, *self.positions[path])
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return Location(self.file, *self.positions.get("", (1, 1)))
