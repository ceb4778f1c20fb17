"""One pass: look, decide, act, and look again, until the host is as declared or nothing moves any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from containarium.model.action import Action
from containarium.model.host import Host
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
) -> Result:
    """Carry the host to what the manifests declare.

    Every round looks afresh, so success is what the next look finds. An environment whose action failed waits for
    the next pass; the others go on. Raises HostError only when the host cannot be looked at.
    """
    told = reporter or Silent()
    book = _Book()
    first, observed = plan_once(load, host, clock(), settings)
    told.planned(first)
    last = first
    # Only the first round may restart: a second restart for the same reason would be a loop.
    later = replace(settings, restart=False)
    for _round in range(ROUNDS):
        todo = _open(last, settings.only, book)
        if not todo:
            break
        _carry_out(todo, host, told, book)
        book.previous = todo
        last, observed = plan_once(load, host, clock(), later)
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
    with ThreadPoolExecutor(max_workers=min(WORKERS, len(todo)), thread_name_prefix="environment") as pool:
        outcomes = pool.map(lambda environment: carry_out(environment, host, told), todo)
        for environment, failure in zip(todo, outcomes, strict=True):
            if failure is None:
                book.done.append(environment)
            else:
                book.failures[environment.name] = failure
