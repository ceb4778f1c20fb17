"""The controller without its threads and signals: one pass after the other, each from what is there now.

A pass gathers what has ended, reads the manifests, looks at the host, decides, hands work out and says how it was.
Nothing that it remembers is needed to do the right thing; it only decides when to look and when to try again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from containarium.model import marks
from containarium.model.host import Host, HostError, RetryableError
from containarium.model.manifest import Load
from containarium.model.observed import Look, Observed
from containarium.plan.decision import EnvironmentPlan, Plan, Suspicion, Verb
from containarium.plan.terms import Approval, Doubt, Terms
from containarium.reconcile.clockwatch import ClockWatch
from containarium.reconcile.decide import decide
from containarium.reconcile.edits import Edits
from containarium.reconcile.execute import Failure
from containarium.reconcile.retries import Retries
from containarium.reconcile.rhythm import Rhythm, Turns
from containarium.reconcile.workers import Ended, Workers
from containarium.report.snapshot import Snapshot, Trouble


class Source(Protocol):
    """Where the manifests come from."""

    def load(self) -> Load:
        """Everything that is declared now. Never raises."""
        ...

    @property
    def generation(self) -> int:
        """Goes up whenever a load differs from the one before."""
        ...

    def revision(self, name: str) -> str:
        """A digest of one manifest; empty where there is none."""
        ...


class Audience(Protocol):
    """Is told by the loop what it noticed and what came of it."""

    def drifted(self, plan: EnvironmentPlan, by: str) -> None:
        """Somebody changed an environment behind our back; ``by`` is who, empty where nobody knows."""
        ...

    def ended(self, ended: Ended, trouble: Trouble | None) -> None:
        """Work on an environment is over."""
        ...

    def edited(self, name: str, seconds: float) -> None:
        """An environment is as its new manifest says, so long after that was read."""
        ...


@dataclass(frozen=True, slots=True)
class Senses:
    """What the controller asks others for. ``ticks`` counts seconds and never jumps; ``chance`` is from 0 to 1."""

    clock: Callable[[], datetime]
    ticks: Callable[[], float]
    chance: Callable[[], float]
    approvals: Callable[[datetime], frozenset[Approval]]
    blame: Callable[[str, datetime], str]
    """Who changed an instance since a moment, in words."""


class Controller:
    """Makes the passes. Only one thread may call it; the workers have their own."""

    def __init__(
        self, host: Host, source: Source, workers: Workers, senses: Senses, audience: Audience, rhythm: Rhythm
    ) -> None:
        self._host = host
        self._source = source
        self._workers = workers
        self._senses = senses
        self._audience = audience
        self._rhythm = rhythm
        self._retries = Retries(senses.chance)
        self._turns = Turns(rhythm.deep)
        self._edits = Edits()
        self._clockwatch = ClockWatch()
        self._last = Snapshot(id="", triggers=(), started=senses.clock(), seconds=0.0)
        self._restart: frozenset[str] = frozenset()
        self._done: dict[str, EnvironmentPlan] = {}
        self._waiting: dict[str, float] = {}
        self._fine_at: dict[str, datetime] = {}
        self._settled: tuple[int, float] | None = None
        self._failed_looks = 0
        self._next_resync = 0.0
        self._deferred = False
        self.halted = False
        """While it is true nothing is begun: the machine is about to go away, or the controller to end."""

    # What others ask of it

    def hurry(self) -> None:
        """Try at once what waits, and look into every guest: somebody asked for it."""
        self._retries.hurry()
        if self._last.observed is not None:
            self._turns.ask(_ours(self._last.observed))

    def allow_restart(self, names: frozenset[str]) -> None:
        """Let the next pass restart these where a change needs it."""
        self._restart |= names

    def look_into(self, name: str) -> None:
        """Something happened to this environment: look inside next time."""
        self._turns.ask((name,))

    @property
    def last(self) -> Snapshot:
        """The last pass."""
        return self._last

    def pause(self) -> tuple[float, str]:
        """Seconds until it wants to make the next pass by itself, and why."""
        now = self._senses.ticks()
        if self._failed_looks:
            pause = self._rhythm.look_again * 2.0 ** (self._failed_looks - 1)
            return min(self._rhythm.look_again_at_most, pause), "retry"
        moments = [(self._next_resync, "resync")]
        if not self.halted:
            due = self._retries.next_due(self._workers.busy)
            if due is not None:
                moments.append((due, "retry"))
            if self._deferred and self._turns.asked:
                moments.append((now, "finished"))
        if self._settled is not None and self._settled[1] > now and self._held_by_settling():
            moments.append((self._settled[1], "manifests"))
        moment, why = min(moments)
        return max(0.0, moment - now), why

    # A pass

    def make_pass(self, triggers: frozenset[str], name: str = "") -> Snapshot:
        """Look once, decide, and hand work out. Never raises for what is out there. ``name`` is the pass's id."""
        senses = self._senses
        started, begin = senses.clock(), senses.ticks()
        self._gather(begin, started)
        busy = self._workers.busy
        head = Snapshot(id=name, triggers=tuple(sorted(triggers)), started=started, seconds=0.0)
        load = self._source.load()
        try:
            observed = self._look(load, begin)
            plan = decide(load, observed, self._host, started, self._terms(begin, started))
        except HostError as error:
            self._failed_looks += 1
            self._last = replace(
                self._last,
                id=head.id, triggers=head.triggers, started=started, error=str(error), load=load,
                working=self._workers.working, troubles=self._retries.troubles,
                seconds=senses.ticks() - begin,
            )  # fmt: skip
            return self._last
        self._failed_looks = 0
        self._next_resync = begin + self._rhythm.resync * (1 + self._rhythm.jitter * (2 * senses.chance() - 1))
        self._take_stock(plan, busy, begin, started)
        self._hand_out(plan, busy)
        self._last = replace(
            head,
            load=load, observed=observed, plan=plan,
            last_success=started if load.complete else self._last.last_success,
            working=self._workers.working, troubles=self._retries.troubles,
            seconds=senses.ticks() - begin,
        )  # fmt: skip
        return self._last

    def _gather(self, clock: float, now: datetime) -> None:
        for ended in self._workers.collect():
            name = ended.plan.name
            trouble = None
            if ended.failure is None:
                self._done[name] = ended.plan  # whether it helped is what the next look says
            else:
                self._done.pop(name, None)
                if not self.halted:
                    trouble = self._retries.failed(ended.failure, ended.revision, clock, now)
            self._turns.ask((name,))
            self._audience.ended(ended, trouble)

    def _look(self, load: Load, clock: float) -> Observed:
        known = _ours(self._last.observed) if self._last.observed is not None else None
        if known is None:
            observed = self._host.observe(Look.DEEP)
            self._turns.done(_ours(observed), clock)
            return observed
        if load.complete:  # a folder that is away for a moment is no edit of everybody
            revisions = {manifest.name: self._source.revision(manifest.name) for manifest in load.manifests}
            self._turns.ask(self._edits.changed(revisions, clock))
        inside = self._turns.due(known | {manifest.name for manifest in load.manifests}, clock)
        observed = self._host.observe(Look.DEEP, inside) if inside else self._host.observe(Look.SHALLOW)
        self._turns.done(inside, clock)
        self._turns.forget_all_but(_ours(observed) | {manifest.name for manifest in load.manifests})
        return observed

    def _terms(self, clock: float, now: datetime) -> Terms:
        restart, self._restart = self._restart, frozenset()
        return Terms(
            approved=frozenset(self._senses.approvals(now)),
            restart=restart,
            claims=self._workers.claims,
            doubts=tuple(self._doubts(clock, now)),
        )

    def _doubts(self, clock: float, now: datetime) -> list[Doubt]:
        found = []
        if wrong := self._clockwatch.check(clock, now):
            found.append(Doubt(wrong, "see that the time is right (timedatectl); it is believed after an hour"))
        generation = self._source.generation
        if self._settled is None or self._settled[0] != generation:
            self._settled = (generation, clock + self._rhythm.settle)
        if clock < self._settled[1]:
            found.append(Doubt("the manifests changed a moment ago", reason=Suspicion.SETTLING))
        return found

    def _held_by_settling(self) -> bool:
        plan = self._last.plan
        return plan is not None and any(i.reason is Suspicion.SETTLING for i in plan.interlocks)

    def _take_stock(self, plan: Plan, busy: frozenset[str], clock: float, now: datetime) -> None:
        """Note who is as declared, and who is not although all was done."""
        pending = {environment.name for environment in plan.environments if environment.due}
        for name in (*plan.unchanged, *(e.name for e in plan.environments if not e.due)):
            if name in busy:
                continue
            self._fine_at[name] = now
            self._done.pop(name, None)
            self._retries.succeeded(name)
            if (seconds := self._edits.reached(name, clock)) is not None:
                self._audience.edited(name, seconds)
        self._retries.forget_all_but(frozenset(pending) | busy)
        for names in (self._waiting, self._fine_at, self._done):
            for gone in names.keys() - pending - busy - set(plan.unchanged) - {e.name for e in plan.environments}:
                names.pop(gone)

    def _hand_out(self, plan: Plan, busy: frozenset[str]) -> None:
        """Begin what can be begun; who has to go goes first, then whoever has waited longest."""
        clock, now = self._senses.ticks(), self._senses.clock()
        self._deferred = False
        todo = [environment for environment in plan.environments if environment.due and environment.name not in busy]
        for environment in todo:
            self._waiting.setdefault(environment.name, clock)
        todo.sort(key=lambda e: (e.verb not in (Verb.RETIRE, Verb.PRUNE), self._waiting[e.name]))
        for environment in todo:
            name = environment.name
            revision = self._source.revision(name)
            if not environment.actions:  # nobody looked inside: that comes next
                self._turns.ask((name,))
                self._deferred = True
                continue
            done = self._done.pop(name, None)
            if done is not None and done.actions != environment.actions:
                self._retries.succeeded(name)
            elif done is not None:
                failure = _still_different(environment)
                trouble = self._retries.failed(failure, revision, clock, now)
                self._audience.ended(Ended(environment, revision, failure, 0.0), trouble)
            suspect = name in self._retries.troubles
            if self.halted or not self._retries.may_try(name, revision, clock):
                continue
            if not self._workers.free(environment, suspect=suspect):
                continue
            if any(change.drift for change in environment.changes):
                since = self._fine_at.get(name, now - timedelta(seconds=self._rhythm.resync))
                self._audience.drifted(environment, self._senses.blame(marks.instance_name(name), since))
            self._waiting.pop(name, None)
            self._workers.begin(environment, revision, suspect=suspect)


def _ours(observed: Observed) -> frozenset[str]:
    """The environments that have an instance here."""
    return frozenset(
        name for instance in observed.instances.values() if (name := instance.config.get(marks.ENVIRONMENT)) is not None
    )


def _still_different(environment: EnvironmentPlan) -> Failure:
    fields = ", ".join(sorted({change.field for change in environment.changes})) or environment.actions[0].kind
    error = RetryableError(
        f"still different after it was done: {fields}",
        remedy="somebody else may change it all the time; see containarium plan and events",
        reason="StillDifferent",
    )
    return Failure(environment.name, environment.actions[0].kind, error)
