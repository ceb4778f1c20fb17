"""What the hosts of a fleet know of one another: who has which environment, and under which address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Presence(StrEnum):
    """How an environment is on a host."""

    HERE = "here"
    """It lives there, running or not."""
    RETIRED = "retired"
    """Its manifest went away, and its data waits there for the end of the grace period."""
    LEAVING = "leaving"
    """It is stopped there, so that another host can fetch it."""
    ARRIVING = "arriving"
    """It is being fetched from another host, and not whole yet."""
    MOVED = "moved"
    """It lives on another host now; what is there is the copy that was left behind."""


@dataclass(frozen=True, slots=True)
class Box:
    """An environment as its host tells of it. Another host said all this: each part of it has been checked.

    ``address`` is its IPv4 address, empty while it has none. ``other`` is the host that it comes from or goes to, empty
    but for LEAVING, ARRIVING and MOVED.
    """

    name: str
    presence: Presence
    address: str = ""
    other: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of another host. ``error`` says why it cannot be asked at present, empty where it answered.

    ``boxes`` maps environments to what it told of them, at its last answer; None where it never answered.
    """

    name: str
    boxes: Mapping[str, Box] | None = field(default=None)
    error: str = ""

    @property
    def answers(self) -> bool:
        """Whether what it told is of now."""
        return self.boxes is not None and not self.error
