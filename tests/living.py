"""A controller that lives on a simulated host: it makes passes when a test says so, dies, and is born again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from containarium.model.action import Action
from containarium.model.manifest import Load
from containarium.plan.decision import EnvironmentPlan
from containarium.plan.terms import Approval
from containarium.reconcile.controller import Controller
from containarium.reconcile.execute import Failure
from containarium.reconcile.rhythm import Rhythm
from containarium.reconcile.senses import Senses
from containarium.reconcile.workers import Ended, Workers
from containarium.report.snapshot import Snapshot, Trouble
from tests.builders import Site


class Declared:
    """A source whose content a test puts in."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: Load | None = None
        self.generation = 0

    def load(self) -> Load:
        if self._known != self._site.load:
            self._known = self._site.load
            self.generation += 1
        return self._site.load

    def revision(self, name: str) -> str:
        found = next((m for m in self._site.load.manifests if m.name == name), None)
        return hashlib.sha256(repr((found.environment, found.keys)).encode()).hexdigest() if found else ""


class OnDemand(Executor):
    """Jobs that run when ``work`` is called; with ``at_once`` when they are handed in."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self._jobs: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            future.set_result(fn(*args, **kwargs))

        if self.at_once:
            run()
        else:
            self._jobs.append(run)
        return future

    def work(self, count: int | None = None) -> None:
        """Run the oldest jobs."""
        for _ in range(len(self._jobs) if count is None else count):
            if self._jobs:
                self._jobs.pop(0)()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if wait and not cancel_futures:
            self.work()


@dataclass
class Heard:
    """What the audience of a controller was told."""

    drift: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    edits: list[tuple[str, float]] = field(default_factory=list)
    surprises: list[Exception] = field(default_factory=list)
    actions: list[tuple[str, str]] = field(default_factory=list)

    def drifted(self, plan: EnvironmentPlan, by: str) -> None:
        self.drift.append((plan.name, tuple(c.field for c in plan.changes if c.drift), by))

    def over(self, ended: Ended, trouble: Trouble | None) -> None:
        self.ended.append(ended)
        if trouble is not None:
            self.troubles.append(trouble)

    def edited(self, name: str, seconds: float) -> None:
        self.edits.append((name, seconds))

    def started(self, environment: str, action: Action) -> None:
        self.actions.append((environment, action.kind))

    def progress(self, environment: str, message: str) -> None:
        """Nothing."""

    def finished(self, environment: str, failure: Failure | None) -> None:
        """Nothing."""


class Audience:
    """Hands on to what was heard."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def drifted(self, plan: EnvironmentPlan, by: str) -> None:
        self._heard.drifted(plan, by)

    def ended(self, ended: Ended, trouble: Trouble | None) -> None:
        self._heard.over(ended, trouble)

    def edited(self, name: str, seconds: float) -> None:
        self._heard.edited(name, seconds)

    def surprised(self, error: Exception) -> None:
        self._heard.surprises.append(error)


class Living:
    """A site with a controller on it."""

    def __init__(self, site: Site, *, at_once: bool = True, rhythm: Rhythm | None = None) -> None:
        self.site = site
        self.heard = Heard()
        self.source = Declared(site)
        self.pool = OnDemand(at_once=at_once)
        self.approvals: frozenset[Approval] = frozenset()
        self.elapsed = 1000.0
        self.blame: Callable[[str, datetime], str] = lambda _instance, _since: ""
        self.on_finished: Callable[[], None] = lambda: None
        self._rhythm = rhythm or Rhythm(jitter=0.0)
        self.controller = self.born()

    def born(self) -> Controller:
        """A new controller, which remembers nothing."""
        self.workers = Workers(
            self.site.host,
            self.heard,
            lambda: self.on_finished(),  # noqa: PLW0108 - a test may replace it later
            clock=lambda: self.site.now,
            ticks=lambda: self.elapsed,
            pools=lambda _size, _name: self.pool,
        )
        senses = Senses(
            clock=lambda: self.site.now,
            ticks=lambda: self.elapsed,
            chance=lambda: 0.5,
            approvals=lambda _now: self.approvals,
            blame=lambda *who: self.blame(*who),  # noqa: PLW0108 - a test may replace it later
        )
        self.controller = Controller(
            self.site.host, self.source, self.workers, senses, Audience(self.heard), self._rhythm
        )
        return self.controller

    def wait(self, seconds: float) -> None:
        """Let time go by, on both clocks."""
        self.elapsed += seconds
        self.site.wait(seconds=seconds)

    def make_pass(self, *triggers: str) -> Snapshot:
        """One pass; whatever it begins at once is over when this returns."""
        return self.controller.make_pass(frozenset(triggers or {"resync"}))

    def live(self, seconds: float = 30.0) -> Snapshot:
        """Go on as the loop does, waking when it wants to or when work has ended, for so long."""
        end = self.elapsed + seconds
        shown = self.make_pass()
        while True:
            began = len(self.heard.ended)
            working = bool(self.workers.working)
            if not self.pool.at_once:
                self.pool.work()
            pause = 0.0 if self._news(began) or working else self.controller.pause()[0]
            if self.elapsed + pause >= end:
                self.wait(max(0.0, end - self.elapsed))
                return shown
            self.wait(max(pause, 0.05))
            shown = self.make_pass()

    def _news(self, _began: int) -> bool:
        return bool(self.workers._ended)  # what waits to be collected would have woken the loop
