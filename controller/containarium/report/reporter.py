"""The one that the loop tells everything: it keeps status, events, metrics and log in step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from containarium.model.action import Action
from containarium.model.host import HostError
from containarium.plan.decision import EnvironmentPlan
from containarium.report import events, log, statusfile
from containarium.report.events import Event, Reason
from containarium.report.journal import Journal
from containarium.report.metrics import Metrics
from containarium.report.process import Daemon, this_process
from containarium.report.snapshot import Done, Snapshot, Trouble
from containarium.report.status import build
from containarium.report.statusfile import Status

STALE_AFTER = 180.0
"""Seconds without the end of a pass after which the loop counts as stuck: three resyncs."""


class FailedAction(Protocol):
    """The action at which it ended, see ``reconcile.execute.Failure``."""

    @property
    def action(self) -> str: ...

    @property
    def error(self) -> HostError: ...


class FinishedWork(Protocol):
    """One environment's work that is over, see ``reconcile.workers.Ended``."""

    @property
    def plan(self) -> EnvironmentPlan: ...

    @property
    def seconds(self) -> float: ...

    @property
    def failure(self) -> FailedAction | None: ...

    @property
    def surprise(self) -> BaseException | None: ...


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Reporter:
    """What the loop calls. ``passed``, ``drifted``, ``ended`` and ``edited`` are for the loop's thread alone;
    ``started``, ``progress`` and ``finished`` come from the workers' threads.

    Nothing here may stop the loop: a status that cannot be written is logged, and so is an event.
    """

    path: Path
    """The status file; its folder has to be there."""
    journal: Journal
    metrics: Metrics
    logger: log.Logger
    daemon: Daemon = field(default_factory=this_process)
    ticks: Callable[[], float] = time.monotonic
    stale_after: float = STALE_AFTER
    status: Status | None = None
    """The last one: what an earlier controller left in the file, before the first pass."""
    _blame: dict[str, str] = field(default_factory=dict)
    _done: dict[str, Done] = field(default_factory=dict)
    _actions: dict[str, tuple[str, float]] = field(default_factory=dict)
    _pass: str = ""
    _last_pass: float = 0.0
    _whole: bool = False
    _unwritten: str = ""
    _lost: int = 0

    def __post_init__(self) -> None:
        """Take over what was known before: conditions keep their times, and events tell what changed meanwhile."""
        self._last_pass = self.ticks()
        self.status = statusfile.read(self.path)

    # The loop's thread

    def passed(self, snapshot: Snapshot) -> Status:
        """A pass has ended, or there is more to tell of the last one. Returns the status that was made of it."""
        self._pass = snapshot.id
        snapshot = replace(snapshot, done={**snapshot.done, **self._done})
        self._done = {}
        before, status = self.status, build(snapshot, self.status, self.daemon)
        found = list(events.changes(before, status, self._blame))
        self.record(found)
        for event in found:
            if event.reason is Reason.DRIFT_FOUND:
                self.metrics.drift(found=event.fields)
        self.metrics.observe(snapshot, status)
        self.status = status
        self._write(status)
        names = {environment.name for environment in status.environments}
        self._blame = {name: by for name, by in self._blame.items() if name in names}
        tell = self.logger.warning if snapshot.error else self.logger.info
        tell("pass", sentence=status.last_pass.sentence, triggers=list(snapshot.triggers))
        self._whole = self._whole or snapshot.last_success is not None
        self._last_pass = self.ticks()
        return status

    def drifted(self, plan: EnvironmentPlan, by: str) -> None:
        """Somebody changed an environment behind our back; ``by`` is who, empty where nobody knows."""
        self._blame[plan.name] = by or self._blame.get(plan.name, "")

    def ended(self, ended: FinishedWork, trouble: Trouble | None) -> None:
        """Work on an environment is over; ``trouble`` is how it failed, if it did and is tried again."""
        plan, failure = ended.plan, ended.failure
        if trouble is not None and trouble.waiting:
            self.logger.debug("waiting", environment=plan.name, reason=trouble.reason, text=trouble.message)
            return
        if trouble is not None:
            self.logger.warning(
                "failed",
                environment=plan.name, action=trouble.action, reason=trouble.reason, error=trouble.message,
                attempts=trouble.attempts, **({"exc_info": ended.surprise} if ended.surprise else {}),
            )  # fmt: skip
            return
        if failure is not None:
            self.logger.info("ended early", environment=plan.name, action=failure.action, reason=failure.error.reason)
            return
        drift = tuple(sorted({change.field for change in plan.changes if change.drift}))
        fields = drift or tuple(sorted({change.field for change in plan.changes}))
        by = self._blame.pop(plan.name, "") if drift else ""
        self.metrics.drift(repaired=drift)
        self._done[plan.name] = Done(plan.verb.value, fields)
        kinds = [action.kind for action in plan.actions]
        self.record(events.finished(plan.name, plan.verb.value, actions=kinds, fields=fields, by=by))
        self.logger.info(
            "done", environment=plan.name, verb=plan.verb.value, fields=list(fields), seconds=round(ended.seconds, 3)
        )

    def edited(self, name: str, seconds: float) -> None:
        """An environment is as its new manifest says, so long after that was read."""
        self.metrics.edited(seconds)
        self.logger.info("converged", environment=name, seconds=round(seconds, 3))

    def surprised(self, error: Exception) -> None:
        """The loop met an error that nobody thought of, and goes on."""
        self.metrics.surprised()
        with contextlib.suppress(OSError):  # a log that cannot be written is no reason to end either
            self.logger.error("internal error", exc_info=error)

    def record(self, found: Iterable[Event]) -> None:
        """Write events down that nobody else can tell of: an approval used, the controller started."""
        self.journal.record(found, self._pass)
        if self.journal.lost != self._lost:
            self._lost = self.journal.lost
            self.logger.warning("events lost", lost=self._lost, error=self.journal.error)

    def _write(self, status: Status) -> None:
        try:
            statusfile.write(status, self.path)
        except OSError as error:
            reason = f"{self.path}: {error.strerror}"
            if reason != self._unwritten:
                self.logger.error("status not written", error=reason)
            self._unwritten = reason
        else:
            self._unwritten = ""

    # The workers' threads. One environment is worked on by one thread at a time.

    def started(self, environment: str, action: Action) -> None:
        """An action begins; the one before it on this environment, if any, has succeeded."""
        self._action_ended(environment, ok=True)
        self._actions[environment] = (action.kind, self.ticks())
        self.logger.debug("action", environment=environment, action=action.kind)

    def progress(self, environment: str, message: str) -> None:
        """An action tells how far it is."""
        self.logger.debug("progress", environment=environment, step=message)

    def finished(self, environment: str, failure: object | None) -> None:
        """The last action ended."""
        self._action_ended(environment, ok=failure is None)

    def _action_ended(self, environment: str, *, ok: bool) -> None:
        kind, began = self._actions.pop(environment, ("", 0.0))
        if kind:
            self.metrics.action(kind, self.ticks() - began, ok=ok)

    # For health.Health, from its thread

    def stale(self) -> str:
        """Why the loop counts as stuck; empty while it does not."""
        quiet = self.ticks() - self._last_pass
        return f"no pass has ended for {quiet:.0f} s" if quiet > self.stale_after else ""

    def unready(self) -> str:
        """Why nobody should rely on it yet; empty once a pass has read and seen everything."""
        return "" if self._whole else "no pass has seen everything yet"
