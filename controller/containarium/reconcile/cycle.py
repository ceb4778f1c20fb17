"""One pass: look, decide, act, and look again, until the host is as declared or nothing moves any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from containarium.model.action import Action
from containarium.model.host import BuildingError, Host
from containarium.model.manifest import Load
from containarium.model.observed import Look, Observed
from containarium.plan.decision import EnvironmentPlan, Plan, Verb
from containarium.plan.terms import EVERYBODY, Approval, Terms
from containarium.reconcile.decide import decide
from containarium.reconcile.execute import Failure, Listener, carry_out

ROUNDS = 5
"""Looks that one pass takes at most. A start reveals an inside that a second round may have to mend; rarely a third."""

WORKERS = 4
"""Environments that are worked on at the same time."""
PATIENCE = 2400
"""Looks that find nothing to do but to wait for images that others build, a pause of PAUSE seconds before each."""
PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What an admin allows one pass to do. ``approved`` holds confirmed sets and their digests."""

    approved: frozenset[str | Approval] = frozenset()
    restart: bool = False
    only: frozenset[str] = frozenset()
    """Names to act on; empty: all."""
    look: Look = Look.DEEP

    @property
    def terms(self) -> Terms:
        """The same for the plan."""
        return Terms(self.approved, EVERYBODY if self.restart else frozenset())


@dataclass(frozen=True, slots=True)
class Result:
    """How a pass ended. ``first`` is the plan that it set out with, ``last`` what was left to do at its end."""

    first: Plan
    last: Plan
    observed: Observed
    failures: tuple[Failure, ...] = ()
    done: tuple[EnvironmentPlan, ...] = ()
    """Environment plans that were carried out to their end, in order."""

    @property
    def converged(self) -> bool:
        """Nothing failed, nothing is refused or held back, and the last look found nothing to do."""
        return not (self.failures or self.last.pending or self.last.problems or self.last.interlocks)


class Reporter(Listener, Protocol):
    """Is told the plan as well."""

    def planned(self, plan: Plan) -> None: ...


class Silent:
    """A Reporter that tells nobody."""

    def planned(self, plan: Plan) -> None:
        """Nothing."""

    def started(self, environment: str, action: Action) -> None:
        """Nothing."""

    def progress(self, environment: str, message: str) -> None:
        """Nothing."""

    def finished(self, environment: str, failure: Failure | None) -> None:
        """Nothing."""


@dataclass(slots=True)
class _Book:
    """What happened so far in this pass."""

    failures: dict[str, Failure] = field(default_factory=dict)
    done: list[EnvironmentPlan] = field(default_factory=list)
    previous: tuple[EnvironmentPlan, ...] = ()
    waiting: dict[str, Failure] = field(default_factory=dict)
    """Who waits for an image that somebody else builds."""


def plan_once(load: Load, host: Host, now: datetime, settings: Settings) -> tuple[Plan, Observed]:
    """Look and decide, change nothing. Raises HostError when the host cannot be looked at."""
    observed = host.observe(settings.look)
    return decide(load, observed, host, now, settings.terms), observed


def converge(
    load: Load,
    host: Host,
    clock: Callable[[], datetime],
    settings: Settings,
    reporter: Reporter | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Result:
    """Carry the host to what the manifests declare.

    Every round looks afresh, so success is what the next look finds. An environment whose action failed waits for
    the next pass; the others go on. One whose image is being built already has its turn when that is over; ``pause``
    waits so many seconds. Raises HostError only when the host cannot be looked at.
    """
    told = reporter or Silent()
    book = _Book()
    first, observed = plan_once(load, host, clock(), settings)
    told.planned(first)
    last = first
    # Only the first round may restart: a second restart for the same reason would be a loop.
    later = replace(settings, restart=False)
    rounds = waits = 0
    while rounds < ROUNDS and waits < PATIENCE and (todo := _open(last, settings.only, book)):
        _carry_out(todo, host, told, book)
        book.previous = tuple(environment for environment in todo if environment.name not in book.waiting)
        if book.previous:
            rounds += 1
        else:
            waits += 1
            pause(PAUSE)
        last, observed = plan_once(load, host, clock(), later)
    book.failures.update(book.waiting)
    failures = tuple(book.failures[name] for name in sorted(book.failures))
    return Result(first, last, observed, failures, tuple(book.done))


def _open(plan: Plan, only: frozenset[str], book: _Book) -> tuple[EnvironmentPlan, ...]:
    """What is left to do and has neither failed in this pass nor been tried in just the same way before."""
    todo = (
        environment
        for environment in plan.environments
        if environment.actions
        and environment.name not in book.failures
        and environment not in book.previous
        and (not only or environment.name in only)
    )
    # Whoever has to go goes first: guests that dawdle may keep every worker busy.
    return tuple(sorted(todo, key=lambda environment: environment.verb not in (Verb.RETIRE, Verb.PRUNE)))


def _carry_out(todo: Sequence[EnvironmentPlan], host: Host, told: Reporter, book: _Book) -> None:
    book.waiting.clear()
    with ThreadPoolExecutor(max_workers=min(WORKERS, len(todo)), thread_name_prefix="environment") as pool:
        outcomes = pool.map(lambda environment: carry_out(environment, host, told), todo)
        for environment, failure in zip(todo, outcomes, strict=True):
            if failure is None:
                book.done.append(environment)
            elif isinstance(failure.error, BuildingError):
                book.waiting[environment.name] = failure
            else:
                book.failures[environment.name] = failure
