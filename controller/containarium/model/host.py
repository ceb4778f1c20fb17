"""The one door to a machine: a small protocol that the real host and the simulator both keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from containarium.model.action import Action
from containarium.model.fleet import Peer
from containarium.model.observed import Look, Observed
from containarium.model.status import IMAGE_BUILDING

if TYPE_CHECKING:  # a manifest's types take longer to load than a whole look
    from containarium.model.manifest import DeclaredHost

Progress = Callable[[str], None]
"""Receives short present-tense lines while an action runs ("installing git, tmux")."""


def silent(_message: str) -> None:
    """A Progress that tells nobody."""


Inside = Callable[[], frozenset[str] | None]
"""Says which environments are to be looked into; None: all."""


def everybody() -> None:
    """An Inside that looks into all."""


class HostError(Exception):
    """An action or a look failed. One line for a person, with what to do about it.

    ``reason`` is a constant in CamelCase, as conditions want it.
    """

    def __init__(self, message: str, *, remedy: str = "", reason: str = "HostError") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class RetryableError(HostError):
    """A passing fault (daemon restarting, lock held, timeout): the same action may succeed later."""


class TerminalError(HostError):
    """It will fail again until a person changes something: not retried by itself."""


class WaitingError(HostError):
    """Nothing is wrong, it is too early: try again after ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0, remedy: str = "", reason: str = "Waiting") -> None:
        super().__init__(message, remedy=remedy, reason=reason)
        self.retry_after = retry_after


class BuildingError(WaitingError):
    """What this needs is being made for somebody else already."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason=IMAGE_BUILDING)


class Host(Protocol):
    """A machine that can be looked at and changed. Safe to call from several threads."""

    def observe(self, look: Look = Look.DEEP, inside: Inside = everybody) -> Observed:
        """Look at everything and change nothing. Raises HostError when the look is not whole.

        A deep look reads the guests of those environments that ``inside`` says; it is asked once, while others answer.
        """
        ...

    def execute(self, action: Action, progress: Progress = silent) -> None:
        """Carry out one action, checking ownership first. Raises HostError; returning says only that it was tried:
        whether it worked is what the next look says.
        """
        ...

    def doubts(self) -> tuple[str, ...]:
        """Why nothing may be retired or deleted at present, in words; empty when nothing speaks against it.

        The pool is not online, or the clock is not set. Raises HostError when that cannot be found out.
        """
        ...

    def peers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """What the other declared hosts told, by name: one entry for each that is not this machine. Never raises; who
        cannot be asked has an ``error``.
        """
        ...

    def cancel(self) -> None:
        """End every running action early: each raises RetryableError (Cancelled), and so does every later one but
        StopInstance, until ``resume``.
        """
        ...

    def resume(self) -> None:
        """Take a ``cancel`` back."""
        ...
