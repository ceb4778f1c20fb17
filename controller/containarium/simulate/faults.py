"""Faults at the boundaries between the sub-steps of an action: errors, delays, meddling, and a sudden death.

A fault source is any callable that is asked at each boundary, in order, and answers with a fault or None. All of them
are deterministic: the same source, world and actions give the same story.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from containarium.model.action import Action
from containarium.model.host import RetryableError, WaitingError
from containarium.simulate.world import World

DONE = "done"
"""The boundary after the last sub-step: everything is done, and the controller has not heard of it yet."""

LOOK = "look"
"""The boundary before a look; it belongs to no action."""


class Crash(BaseException):
    """The controller was killed right here. Only a test catches it, and starts a new controller on the same world."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place where something can happen: before the sub-step that it names."""

    step: str
    action: Action | None = None

    def __str__(self) -> str:
        return f"{self.action.kind}: {self.step}" if self.action else self.step


@dataclass(frozen=True, slots=True)
class Kill:
    """The controller dies here; what earlier sub-steps did stays done."""


@dataclass(frozen=True, slots=True)
class Fail:
    """A passing fault: the daemon restarts, a lock is held, a time limit is reached."""

    reason: str = "Injected"


@dataclass(frozen=True, slots=True)
class Wait:
    """It is too early."""

    seconds: float = 1.0
    reason: str = "Injected"


@dataclass(frozen=True, slots=True)
class Delay:
    """It takes longer; the clock is advanced."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Meddle:
    """Somebody changes the world between two sub-steps."""

    act: Callable[[World], None]


Fault = Kill | Fail | Wait | Delay | Meddle
Faults = Callable[[Boundary], Fault | None]


def no_faults(_boundary: Boundary) -> Fault | None:
    """A source of no faults."""
    return None


class Scripted:
    """Faults by number: ``steps`` counts the boundaries of actions, ``looks`` those of looks, both from 1.

    The count goes on over the life of this object, so that a controller that is started anew goes on in the script.
    """

    def __init__(self, steps: Mapping[int, Fault] | None = None, *, looks: Mapping[int, Fault] | None = None) -> None:
        self._steps = dict(steps or {})
        self._looks = dict(looks or {})
        self.steps_passed = 0
        self.looks_passed = 0

    def __call__(self, boundary: Boundary) -> Fault | None:
        if boundary.action is None:
            self.looks_passed += 1
            return self._looks.get(self.looks_passed)
        self.steps_passed += 1
        return self._steps.get(self.steps_passed)


class Seeded:
    """Faults by chance, from a generator that is handed in. ``limit`` ends them, so that all can converge."""

    def __init__(
        self,
        rng: random.Random,
        *,
        rate: float = 0.05,
        faults: Sequence[Fault] = (Kill(), Fail(), Wait(), Delay(10.0)),
        limit: int | None = None,
    ) -> None:
        self._rng = rng
        self._rate = rate
        self._faults = tuple(faults)
        self._limit = limit
        self.raised = 0

    def __call__(self, _boundary: Boundary) -> Fault | None:
        if self._limit is not None and self.raised >= self._limit:
            return None
        if self._rng.random() >= self._rate:
            return None
        self.raised += 1
        return self._rng.choice(self._faults)


class Recorder:
    """Writes down every boundary that is passed, and asks another source for the fault."""

    def __init__(self, faults: Faults = no_faults) -> None:
        self._faults = faults
        self.passed: list[Boundary] = []

    def __call__(self, boundary: Boundary) -> Fault | None:
        self.passed.append(boundary)
        return self._faults(boundary)

    @property
    def of_actions(self) -> tuple[Boundary, ...]:
        """Those that belong to actions, in order; the first one has number 1 in a ``Scripted`` source."""
        return tuple(boundary for boundary in self.passed if boundary.action is not None)


def every(fault: Fault, count: int) -> Iterator[Scripted]:
    """One script per boundary: the fault at the first, at the second, and so on up to ``count``."""
    return (Scripted({number: fault}) for number in range(1, count + 1))


def strike(fault: Fault | None, boundary: Boundary, world: World) -> None:
    """Let a fault happen."""
    match fault:
        case None:
            return
        case Kill():
            raise Crash(str(boundary))
        case Fail(reason):
            raise RetryableError(f"injected fault at {boundary}", reason=reason)
        case Wait(seconds, reason):
            raise WaitingError(f"injected wait at {boundary}", retry_after=seconds, reason=reason)
        case Delay(seconds):
            world.clock.advance(seconds)
        case Meddle(act):
            with world.lock:
                act(world)
